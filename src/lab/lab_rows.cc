#include "lab_rows.h"

#include <algorithm>
#include <functional>
#include <map>

#include "lab_results.h"
#include "recast/base/statistics.h"
#include "recast/run/figures.h"
#include "recast/run/learn_seeds.h"

namespace recast {
namespace {
using nlohmann::json;

/// Done cells that are still the ones asked for, of one scenario, by recipe, task and seed.
class Table {
 public:
  Table(const LabFile& file, const std::vector<CellRecord>& records, bool stream) : stream_(stream) {
    for (const CellRecord& record : records)
      if (record.stream == stream && shown_state(file, record) == "done")
        results_[record.cell.recipe][{record.cell.task, record.cell.seed}] = &record.result;
  }

  using Row = std::map<std::pair<std::string, std::uint64_t>, const json*>;
  const Row& row(const std::string& recipe) const {
    static const Row kNone;
    const auto found = results_.find(recipe);
    return found == results_.end() ? kNone : found->second;
  }
  bool has(const LabTask& task) const { return task.stream.has_value() == stream_; }

 private:
  const bool stream_;
  std::map<std::string, Row> results_;
};

/// Null for none.
json spread_or_null(const std::vector<double>& values) { return values.empty() ? json() : spread_json(values); }

/// Null for none.
json share_spread(const std::vector<double>& shares) { return shares.empty() ? json() : share_spread_json(shares); }

/// Paired: of the row less its baseline. Null without pairs; p null for one.
json difference(const std::string& baseline, const std::vector<double>& differences) {
  if (differences.empty()) return nullptr;
  json out = spread_json(differences);
  out["baseline"] = baseline;
  out["p"] = or_null(paired_t_p(differences));
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
double learn_seconds(const json& result) { return number(result, "learn_seconds"); }

/// What the results of one scenario amount to for a recipe. Nothing here goes over both scenarios: accuracies of tasks
/// that are there at once and of streams are different quantities.
class Reckoner {
 public:
  Reckoner(const LabFile& file, const Table& table) : file_(file), table_(table) {}

  /// Values of a figure over the seeds that have it.
  std::vector<double> values(const std::string& recipe, const std::string& task, const char* key) const {
    std::vector<double> out;
    for (const auto& [place, result] : table_.row(recipe))
      if (place.first == task && result->at(key).is_number()) out.push_back(number(*result, key));
    return out;
  }

  /// From the baseline, of the cells that both have; of all tasks where none is named.
  json difference_of(const LabRecipe& recipe, const std::string& task, const char* key) const {
    std::vector<double> gaps;
    if (recipe.baseline.empty()) return nullptr;
    const Table::Row& base = table_.row(recipe.baseline);
    for (const auto& [place, result] : table_.row(recipe.name)) {
      const auto other = base.find(place);
      if (other != base.end() && (task.empty() || place.first == task))
        gaps.push_back(number(*result, key) - number(*other->second, key));
    }
    return difference(recipe.baseline, gaps);
  }

  /// The mean over tasks for each seed that has them all.
  json overall(const LabRecipe& recipe, const char* key) const {
    std::vector<double> out;
    const Table::Row& row = table_.row(recipe.name);
    for (const std::uint64_t seed : file_.seeds) {
      double sum = 0;
      std::int64_t tasks = 0, missing = 0;
      for (const LabCell& cell : file_.cells) {
        if (cell.recipe != recipe.name || cell.seed != seed || !table_.has(file_.task(cell.task))) continue;
        const auto found = row.find({cell.task, seed});
        if (found == row.end())
          ++missing;
        else
          sum += number(*found->second, key), ++tasks;
      }
      if (tasks > 0 && missing == 0) out.push_back(sum / static_cast<double>(tasks));
    }
    return share_spread(out);
  }

  /// What it takes, whatever the task.
  void add_costs(const LabRecipe& recipe, json& out) const {
    const Table::Row& row = table_.row(recipe.name);
    const auto counted = [](const char* key) { return [key](const json& result) { return number(result, key); }; };
    out["cells"] = row.size();
    out["coefficients"] = range_of(row, counted("coefficients"), true);
    out["head_numbers"] = range_of(row, counted("head_numbers"), true);
    out["stored_bytes"] = range_of(row, bytes_of, true);
    out["seconds"] = range_of(row, learn_seconds, false);
  }

  /// Mean over seeds after each step; null where none is done, or their steps differ.
  json curve(const std::string& recipe, const std::string& task) const {
    json out;
    double cells = 0;
    for (const auto& [place, result] : table_.row(recipe)) {
      if (place.first != task) continue;
      const json& own = result->at("curve");
      if (out.is_null()) {
        out = own;
        for (json& step : out) step["top1"] = 0.0;
      }
      if (own.size() != out.size()) return nullptr;
      for (std::size_t s = 0; s < own.size(); ++s) {
        if (own[s].at("classes") != out[s].at("classes")) return nullptr;
        out[s]["top1"] = out[s]["top1"].get<double>() + own[s].at("top1").get<double>();
      }
      ++cells;
    }
    for (json& step : out) step["top1"] = step["top1"].get<double>() / cells;
    return out;
  }

 private:
  const LabFile& file_;
  const Table& table_;
};

class RowMaker {
 public:
  RowMaker(const LabFile& file, const Table& learned, const Table& streamed)
      : file_(file), learned_(learned), streamed_(streamed), at_once_(file, learned), in_steps_(file, streamed) {}

  json make(const LabRecipe& recipe) const {
    json tasks = json::object();
    bool streams = false;
    for (const LabTask& task : file_.tasks) {
      if (!asked(task.name, recipe.name)) continue;
      streams |= task.stream.has_value();
      tasks[task.name] = of_task(recipe, task);
    }
    json out = {
        {"recipe", recipe.name},
        {"label", recipe.label},
        {"group", recipe.group},
        {"model", recipe.model},
        {"baseline", recipe.baseline.empty() ? json() : json(recipe.baseline)},
        {"plugs", plugs(recipe)},
        {"tasks", tasks},
        {"overall",
         {{"top1", at_once_.overall(recipe, "top1")}, {"difference", at_once_.difference_of(recipe, "", "top1")}}},
        {"streams", nullptr}};
    at_once_.add_costs(recipe, out);
    if (streams) {
      out["streams"] = {{"top1", in_steps_.overall(recipe, "top1")},
                        {"difference", in_steps_.difference_of(recipe, "", "top1")},
                        {"average", in_steps_.overall(recipe, "average")},
                        {"average_difference", in_steps_.difference_of(recipe, "", "average")}};
      in_steps_.add_costs(recipe, out["streams"]);
    }
    return out;
  }

 private:
  /// Whether `only` and `skip` leave any cell of this pair.
  bool asked(const std::string& task, const std::string& recipe) const {
    return std::any_of(file_.cells.begin(), file_.cells.end(),
                       [&](const LabCell& cell) { return cell.task == task && cell.recipe == recipe; });
  }

  /// As they were settled in a cell that is done.
  json plugs(const LabRecipe& recipe) const {
    for (const Table* table : {&learned_, &streamed_})
      if (const Table::Row& row = table->row(recipe.name); !row.empty()) return row.begin()->second->at("plugs");
    return recipe.learn.plugs;
  }

  json of_task(const LabRecipe& recipe, const LabTask& task) const {
    const Reckoner& of = task.stream ? in_steps_ : at_once_;
    const auto values = [&](const char* key) { return of.values(recipe.name, task.name, key); };
    json out = {{"top1", share_spread(values("top1"))},
                {"difference", of.difference_of(recipe, task.name, "top1")},
                {"stream", nullptr}};
    if (task.stream)
      out["stream"] = {{"average", share_spread(values("average"))},
                       {"average_difference", of.difference_of(recipe, task.name, "average")},
                       {"forgetting", spread_or_null(values("forgetting"))},
                       {"backward_transfer", spread_or_null(values("backward_transfer"))},
                       {"forward_transfer", spread_or_null(values("forward_transfer"))},
                       {"curve", of.curve(recipe.name, task.name)}};
    return out;
  }

  const LabFile& file_;
  const Table &learned_, &streamed_;
  const Reckoner at_once_, in_steps_;
};

}  // namespace

json lab_rows(const LabFile& file, const std::vector<CellRecord>& records) {
  const Table learned(file, records, false), streamed(file, records, true);
  const RowMaker maker(file, learned, streamed);
  json rows = json::array();
  for (const LabRecipe& recipe : file.recipes) rows.push_back(maker.make(recipe));
  return rows;
}

}  // namespace recast
