#include "lab_results.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "lab_rows.h"
#include "lab_stream.h"
#include "recast/format/printable.h"
#include "recast/lab/run_lab.h"

namespace recast {
namespace {
using nlohmann::json;

json describe_stream(const LabStream& stream) {
  const StreamOptions& options = stream.options;
  return {{"kind", name(options.kind)},
          {"share", options.share},
          {"base", options.base > 0 ? options.base : options.increment},
          {"increment", options.increment},
          {"class_seed", stream.classes_by_seed ? json("seed") : json(options.class_seed)},
          {"unlabelled", stream.unlabelled}};
}

json describe_task(const LabTask& task, const std::vector<CellRecord>& records) {
  json out = {{"task", task.name}, {"scenario", scenario_name(task)}, {"classes", nullptr},
              {"images", nullptr}, {"image_size", nullptr},           {"stream", nullptr}};
  if (task.stream) out["stream"] = describe_stream(*task.stream);
  for (const CellRecord& record : records)
    if (record.cell.task == task.name && record.state == CellRecord::State::kDone) {
      for (const char* key : {"classes", "images", "image_size"}) out[key] = record.result.value(key, json());
      break;
    }
  return out;
}

json line_of(const LabFile& file, const CellRecord& record) {
  json line = {{"task", record.cell.task},
               {"recipe", record.cell.recipe},
               {"seed", record.cell.seed},
               {"state", shown_state(file, record)},
               {"scenario", scenario_name(file.task(record.cell.task))}};
  const json& result = record.result;
  for (const char* key : {"top1", "top1_interval95", "top5", "loss", "rows", "validation_top1", "kept", "coefficients",
                          "head_numbers", "stored_bytes", "shared_bytes", "learn_seconds", "eval_seconds", "test_amp",
                          "average", "last", "forgetting", "backward_transfer", "forward_transfer"})
    line[key] = result.is_object() ? result.value(key, json()) : json();
  line["error"] = record.state == CellRecord::State::kFailed ? record.error.at("message") : json();
  return line;
}

/// What a reader must know before comparing numbers.
json notes_of(const LabFile& file, const std::vector<CellRecord>& records) {
  std::set<std::string> machines, versions;
  std::int64_t duplicates = 0;
  json notes = json::array();
  for (const CellRecord& record : records) {
    if (!record.fault.empty()) notes.push_back(record.cell.id() + ": its file cannot be read: " + record.fault);
    if (shown_state(file, record) != "done") continue;
    const json& result = record.result;
    const json machine = result.value("machine", json::object());
    machines.insert(fmt::format("{}, {} threads, {}", machine.value("cpu", "?"), machine.value("threads", 0),
                                machine.value("isa", "?")));
    const json version = result.value("versions", json::object());
    versions.insert(fmt::format("recast {}, torch {}", version.value("recast", "?"), version.value("torch", "?")));
    duplicates += result.value("duplicates", json::object()).value("test_in_train", std::int64_t{0}) > 0;
  }
  const auto streams =
      std::count_if(file.tasks.begin(), file.tasks.end(), [](const LabTask& task) { return task.stream.has_value(); });
  if (streams > 0 && streams < static_cast<std::ptrdiff_t>(file.tasks.size()))
    notes.push_back(
        "tasks whose classes are there at once and streams of classes stand in tables of their own: no mean "
        "or difference goes over both");
  if (machines.size() > 1)
    notes.push_back(
        fmt::format("cells were learned on unlike machines or numbers of threads: {}", fmt::join(machines, "; ")));
  if (versions.size() > 1)
    notes.push_back(fmt::format("cells were learned by unlike versions: {}", fmt::join(versions, "; ")));
  if (duplicates > 0)
    notes.push_back(
        fmt::format("in {} cells test images are training images, too: their figures say too much", duplicates));
  return notes;
}

}  // namespace

bool has_scenario(const json& results, std::string_view scenario) {
  const json& tasks = results.at("tasks");
  return std::any_of(tasks.begin(), tasks.end(), [&](const json& task) { return task.at("scenario") == scenario; });
}

std::vector<CellRecord> read_cells(const LabFile& file) {
  std::vector<CellRecord> records;
  for (const LabCell& cell : file.cells) records.push_back(read_cell(file, cell));
  return records;
}

std::string shown_state(const LabFile& file, const CellRecord& record) {
  if (record.state != CellRecord::State::kMissing && record.asked != asked_of(file, record.cell)) return "changed";
  return std::string(name(record.state));
}

json lab_results(const LabFile& file, const std::vector<CellRecord>& records) {
  json tasks = json::array(), cells = json::array();
  std::map<std::string, std::int64_t> states;
  for (const LabTask& task : file.tasks) tasks.push_back(describe_task(task, records));
  for (const CellRecord& record : records) {
    cells.push_back(line_of(file, record));
    ++states[shown_state(file, record)];
  }
  const std::int64_t all = static_cast<std::int64_t>(records.size());
  return {{"schema", kLabSchema},
          {"title", file.title},
          {"file", printable_path(file.path)},
          {"out", printable_path(file.out)},
          {"tasks", tasks},
          {"seeds", file.seeds},
          {"rows", lab_rows(file, records)},
          {"cells", cells},
          {"counts",
           {{"cells", all},
            {"done", states["done"]},
            {"failed", states["failed"]},
            {"left", all - states["done"] - states["failed"]}}},
          {"notes", notes_of(file, records)}};
}

}  // namespace recast
