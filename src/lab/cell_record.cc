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

/// What others read from it, if it is there at all.
void check_result(const json& result) {
  for (const char* key : {"top1", "learn_seconds", "eval_seconds", "coefficients", "head_numbers", "stored_bytes"})
    if (!result.at(key).is_number()) fail(Code::kDataCorruption, "[lab] '{}' is no number", key);
  if (!result.at("plugs").is_array()) fail(Code::kDataCorruption, "[lab] 'plugs' is no list");
}

CellRecord parse(const std::string& text, const fs::path& path, const LabCell& cell) {
  const json document = parse_json(text, printable(path.string(), 300));
  const json& about = document.at("cell");
  if (document.at("schema") != kSchema) fail(Code::kUnsupported, "[lab] it is of another schema");
  CellRecord record;
  record.cell = {about.at("task"), about.at("recipe"), about.at("seed")};
  if (!(record.cell == cell)) fail(Code::kDataCorruption, "[lab] it is of cell {}", printable(record.cell.id()));
  record.state = state_of(document.at("state"));
  record.asked = document.at("asked");
  record.found = document.at("found");
  record.where = document.at("where");
  if (record.state == CellRecord::State::kDone) check_result(record.result = document.at("result"));
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
    return parse(read_file(path, kMostBytes), path, cell);
  } catch (const std::exception& error) {
    none.fault = printable(error.what(), 300);
    return none;
  }
}

void write_cell(const LabFile& file, const CellRecord& record) {
  json document = {{"schema", kSchema},
                   {"cell", {{"task", record.cell.task}, {"recipe", record.cell.recipe}, {"seed", record.cell.seed}}},
                   {"kind", "learn"},
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
    fail(Code::kUnavailable, "[lab] {}: cannot be made: {}", printable(path.parent_path().string(), 300),
         error.message());
  write_file_atomically(path, document.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace recast
