#include "cell_record.h"

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kMostBytes = 64 << 20;
constexpr std::string_view kSchema = "recast-lab-cell-1";
constexpr std::pair<CellRecord::State, std::string_view> kStates[] = {{CellRecord::State::kMissing, "missing"},
                                                                      {CellRecord::State::kBegun, "begun"},
                                                                      {CellRecord::State::kFailed, "failed"},
                                                                      {CellRecord::State::kDone, "done"}};

json as_json(const AskedFor& asked) {
  json out = json::object();
  for (const auto& [key, values] : asked) out[key] = values;
  return out;
}

CellRecord::State state_of(const std::string& text) {
  for (const auto& [state, name] : kStates)
    if (name == text) return state;
  fail(Code::kDataCorruption, "[lab] no state '{}'", printable(text));
}

/// The word for a cell of a stream, and of all others.
std::string_view kind(bool stream) { return stream ? "stream" : "learn"; }

/// What others read from it, if it is there at all.
void check_result(const json& result, bool stream) {
  const auto require_number = [&](const char* key) {
    if (!result.at(key).is_number()) fail(Code::kDataCorruption, "[lab] '{}' is no number", key);
  };
  for (const char* key : {"top1", "learn_seconds", "coefficients", "head_numbers", "stored_bytes", "shared_bytes"})
    require_number(key);
  if (!result.at("plugs").is_array()) fail(Code::kDataCorruption, "[lab] 'plugs' is no list");
  if (!stream) return require_number("eval_seconds");
  require_number("average");
  for (const char* key : {"forgetting", "backward_transfer", "forward_transfer"})
    if (const json& value = result.at(key); !value.is_number() && !value.is_null())
      fail(Code::kDataCorruption, "[lab] '{}' is neither a number nor null", key);
  const json& curve = result.at("curve");
  if (!curve.is_array() || curve.empty()) fail(Code::kDataCorruption, "[lab] 'curve' is no list of steps");
  for (const json& step : curve)
    for (const char* key : {"classes", "top1"})
      if (!step.at(key).is_number()) fail(Code::kDataCorruption, "[lab] '{}' of the curve is no number", key);
}

CellRecord parse(const std::string& text, const fs::path& path, const LabCell& cell) {
  const json document = parse_json(text, printable_path(path));
  const json& about = document.at("cell");
  if (document.at("schema") != kSchema) fail(Code::kUnsupported, "[lab] it is of another schema");
  CellRecord record;
  record.cell = {about.at("task"), about.at("recipe"), about.at("seed")};
  if (!(record.cell == cell)) fail(Code::kDataCorruption, "[lab] it is of cell {}", printable(record.cell.id()));
  record.state = state_of(document.at("state"));
  const json& said = document.at("kind");
  record.stream = said == kind(true);
  if (!record.stream && said != kind(false)) fail(Code::kUnsupported, "[lab] it is of a kind that is not known");
  record.asked = document.at("asked");
  record.found = document.at("found");
  record.where = document.at("where");
  if (record.state == CellRecord::State::kDone) check_result(record.result = document.at("result"), record.stream);
  if (record.state == CellRecord::State::kFailed) {
    record.error = document.at("error");
    record.error.at("message").get<std::string>();
    record.error.at("code").get<std::string>();
  }
  return record;
}

}  // namespace

std::string_view name(CellRecord::State state) { return kStates[static_cast<std::size_t>(state)].second; }

json asked_of(const LabFile& file, const LabCell& cell) {
  const LabRecipe& recipe = file.recipe(cell.recipe);
  json models = json::array();
  for (const LabModel* model = &file.model(recipe.model);; model = &file.model(model->mimic_of)) {
    models.push_back(as_json(model->asked));
    if (model->mimic_of.empty()) break;
  }
  for (json& model : models) model.erase("mimic");  // a name of the file's own
  return {{"task", as_json(file.task(cell.task).asked)},
          {"recipe", as_json(recipe.asked)},
          {"models", models},
          {"seed", cell.seed},
          {"device", file.device}};
}

fs::path cell_path(const LabFile& file, const LabCell& cell) {
  return file.out / "cells" / cell.task / cell.recipe / fmt::format("{}.json", cell.seed);
}

fs::path run_path(const LabFile& file, const LabCell& cell) {
  return file.out / "runs" / cell.task / cell.recipe / std::to_string(cell.seed);
}

CellRecord read_cell(const LabFile& file, const LabCell& cell) {
  const fs::path path = cell_path(file, cell);
  CellRecord none;
  none.cell = cell;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return none;
  try {
    CellRecord record = parse(read_file(path, kMostBytes), path, cell);
    if (record.stream != file.task(cell.task).stream.has_value() && record.asked == asked_of(file, cell))
      fail(Code::kDataCorruption, "[lab] it is of another scenario than its settings");
    return record;
  } catch (const std::exception& error) {
    none.fault = printable(error.what(), 300);
    return none;
  }
}

void write_cell(const LabFile& file, const CellRecord& record) {
  json document = {{"schema", kSchema},
                   {"cell", {{"task", record.cell.task}, {"recipe", record.cell.recipe}, {"seed", record.cell.seed}}},
                   {"kind", kind(record.stream)},
                   {"state", name(record.state)},
                   {"asked", record.asked},
                   {"found", record.found},
                   {"where", record.where}};
  if (record.state == CellRecord::State::kDone) document["result"] = record.result;
  if (record.state == CellRecord::State::kFailed) document["error"] = record.error;
  const fs::path path = cell_path(file, record.cell);
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error)
    fail(Code::kUnavailable, "[lab] {}: cannot be made: {}", printable_path(path.parent_path()), error.message());
  write_file_atomically(path, document.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace recast
