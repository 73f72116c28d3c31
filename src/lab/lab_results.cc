#include "lab_results.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "recast/base/statistics.h"
#include "recast/format/printable.h"
#include "recast/lab/run_lab.h"
#include "recast/run/learn_seeds.h"

namespace recast {
namespace {
using nlohmann::json;

/// Done cells that are still the ones asked for, by recipe, task and seed.
class Table {
 public:
  Table(const LabFile& file, const std::vector<CellRecord>& records) {
    for (const CellRecord& record : records)
      if (shown_state(file, record) == "done")
        results_[record.cell.recipe][{record.cell.task, record.cell.seed}] = &record.result;
  }

  using Row = std::map<std::pair<std::string, std::uint64_t>, const json*>;
  const Row& row(const std::string& recipe) const {
    static const Row kNone;
    const auto found = results_.find(recipe);
    return found == results_.end() ? kNone : found->second;
  }

 private:
  std::map<std::string, Row> results_;
};

double top1_of(const json& result) { return result.at("top1").get<double>(); }

/// Of shares: an interval does not leave 0..1. Null for none.
json share_spread(const std::vector<double>& shares) {
  if (shares.empty()) return nullptr;
  json out = spread_json(shares);
  if (json& interval = out["interval95"]; !interval.is_null())
    interval = {std::max(0.0, interval[0].get<double>()), std::min(1.0, interval[1].get<double>())};
  return out;
}

/// Paired: of the row less its baseline. Null without pairs; p null for one.
json difference(const std::string& baseline, const std::vector<double>& differences) {
  if (differences.empty()) return nullptr;
  json out = spread_json(differences);
  const std::optional<double> p = paired_t_p(differences);
  out["baseline"] = baseline;
  out["p"] = p ? json(*p) : json();
  return out;
}

json range_of(const Table::Row& row, const std::function<double(const json&)>& value, bool whole) {
  if (row.empty()) return nullptr;
  double least = 0, most = 0, sum = 0;
  bool first = true;
  for (const auto& [place, result] : row) {
    const double own = value(*result);
    least = first ? own : std::min(least, own);
    most = first ? own : std::max(most, own);
    sum += own;
    first = false;
  }
  const auto number = [&](double x) { return whole ? json(static_cast<std::int64_t>(x)) : json(x); };
  return {{"least", number(least)}, {"mean", sum / static_cast<double>(row.size())}, {"most", number(most)}};
}

double number(const json& result, const char* key) { return result.at(key).get<double>(); }
double bytes_of(const json& result) { return number(result, "stored_bytes") + number(result, "shared_bytes"); }
double seconds_of(const json& result) { return number(result, "learn_seconds"); }

class RowMaker {
 public:
  RowMaker(const LabFile& file, const Table& table) : file_(file), table_(table) {}

  json make(const LabRecipe& recipe) const {
    const Table::Row& row = table_.row(recipe.name);
    json tasks = json::object();
    for (const LabTask& task : file_.tasks) {
      if (!asked(task.name, recipe.name)) continue;
      tasks[task.name] = {{"top1", share_spread(tops(row, task.name))},
                          {"difference", difference(recipe.baseline, gaps(recipe, row, task.name))}};
    }
    json out = {{"recipe", recipe.name},
                {"label", recipe.label},
                {"group", recipe.group},
                {"model", recipe.model},
                {"baseline", recipe.baseline.empty() ? json() : json(recipe.baseline)},
                {"cells", row.size()},
                {"plugs", row.empty() ? json(recipe.learn.plugs) : row.begin()->second->at("plugs")},
                {"coefficients", range_of(
                                     row, [](const json& r) { return number(r, "coefficients"); }, true)},
                {"head_numbers", range_of(
                                     row, [](const json& r) { return number(r, "head_numbers"); }, true)},
                {"stored_bytes", range_of(row, bytes_of, true)},
                {"seconds", range_of(row, seconds_of, false)},
                {"tasks", tasks},
                {"overall",
                 {{"top1", share_spread(means_of_seeds(recipe, row))},
                  {"difference", difference(recipe.baseline, gaps(recipe, row, ""))}}}};
    return out;
  }

 private:
  /// Whether `only` and `skip` leave any cell of this pair.
  bool asked(const std::string& task, const std::string& recipe) const {
    return std::any_of(file_.cells.begin(), file_.cells.end(),
                       [&](const LabCell& cell) { return cell.task == task && cell.recipe == recipe; });
  }

  static std::vector<double> tops(const Table::Row& row, const std::string& task) {
    std::vector<double> out;
    for (const auto& [place, result] : row)
      if (place.first == task) out.push_back(top1_of(*result));
    return out;
  }

  /// Of the cells that both have; of all tasks where none is named.
  std::vector<double> gaps(const LabRecipe& recipe, const Table::Row& row, const std::string& task) const {
    std::vector<double> out;
    if (recipe.baseline.empty()) return out;
    const Table::Row& base = table_.row(recipe.baseline);
    for (const auto& [place, result] : row) {
      const auto other = base.find(place);
      if (other != base.end() && (task.empty() || place.first == task))
        out.push_back(top1_of(*result) - top1_of(*other->second));
    }
    return out;
  }

  /// The mean over tasks for each seed that has them all.
  std::vector<double> means_of_seeds(const LabRecipe& recipe, const Table::Row& row) const {
    std::vector<double> out;
    for (const std::uint64_t seed : file_.seeds) {
      double sum = 0;
      std::int64_t tasks = 0, missing = 0;
      for (const LabCell& cell : file_.cells) {
        if (cell.recipe != recipe.name || cell.seed != seed) continue;
        const auto found = row.find({cell.task, seed});
        if (found == row.end())
          ++missing;
        else
          sum += top1_of(*found->second), ++tasks;
      }
      if (tasks > 0 && missing == 0) out.push_back(sum / static_cast<double>(tasks));
    }
    return out;
  }

  const LabFile& file_;
  const Table& table_;
};

json describe_task(const LabTask& task, const std::vector<CellRecord>& records) {
  json out = {{"task", task.name}, {"classes", nullptr}, {"images", nullptr}, {"image_size", nullptr}};
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
               {"state", shown_state(file, record)}};
  const json& result = record.result;
  for (const char* key : {"top1", "top1_interval95", "top5", "loss", "rows", "validation_top1", "kept", "coefficients",
                          "head_numbers", "stored_bytes", "shared_bytes", "learn_seconds", "eval_seconds", "test_amp"})
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
  const Table table(file, records);
  const RowMaker maker(file, table);
  json tasks = json::array(), rows = json::array(), cells = json::array();
  std::map<std::string, std::int64_t> states;
  for (const LabTask& task : file.tasks) tasks.push_back(describe_task(task, records));
  for (const LabRecipe& recipe : file.recipes) rows.push_back(maker.make(recipe));
  for (const CellRecord& record : records) {
    cells.push_back(line_of(file, record));
    ++states[shown_state(file, record)];
  }
  const std::int64_t all = static_cast<std::int64_t>(records.size());
  return {{"schema", kLabSchema},
          {"title", file.title},
          {"file", printable(file.path.string(), 4096)},
          {"out", printable(file.out.string(), 4096)},
          {"tasks", tasks},
          {"seeds", file.seeds},
          {"rows", rows},
          {"cells", cells},
          {"counts",
           {{"cells", all},
            {"done", states["done"]},
            {"failed", states["failed"]},
            {"left", all - states["done"] - states["failed"]}}},
          {"notes", notes_of(file, records)}};
}

}  // namespace recast
