#include "recast/run/learn_seeds.h"

#include <algorithm>
#include <charconv>

#include "learn_plan.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/base/statistics.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/model_directory.h"
#include "recast/run/provenance.h"
#include "run_folder.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

nlohmann::json summary(const LearnRequest& request, const nlohmann::json& runs) {
  std::vector<double> validation, test;
  std::vector<std::int64_t> versions;
  for (const nlohmann::json& run : runs) {
    versions.push_back(run.at("version"));
    validation.push_back(run.at("validation").at("top1"));
    if (!run.at("test").is_null()) test.push_back(run.at("test").at("top1"));
  }
  return {{"schema", "recast-seeds-1"},
          {"task", request.task},
          {"recipe", runs.at(0).at("recipe")},
          {"plugs", runs.at(0).at("plugs")},
          {"seeds", request.seeds},
          {"task_versions", versions},
          {"validation_top1", share_spread_json(validation)},
          {"test_top1", test.empty() ? nlohmann::json() : share_spread_json(test)},
          {"runs", runs}};
}

}  // namespace

std::vector<std::uint64_t> parse_seeds(std::string_view text) {
  std::vector<std::uint64_t> seeds;
  const char *at = text.data(), *end = text.data() + text.size();
  for (bool more = true; more; ++at) {
    std::uint64_t seed = 0;
    const auto [next, error] = std::from_chars(at, end, seed);
    if (error != std::errc() || (next != end && *next != ',') || std::count(seeds.begin(), seeds.end(), seed) > 0)
      fail(Code::kInvalidArgument,
           "[learn] --seeds takes whole numbers from 0 to 18446744073709551615, each once, as in 42,1998,3142592; got "
           "'{}'",
           printable(text));
    seeds.push_back(seed);
    more = next != end;
    at = next;
  }
  return seeds;
}

nlohmann::json spread_json(const std::vector<double>& values) {
  const Spread s = spread(values);
  return {{"values", values},
          {"mean", s.mean},
          {"deviation", s.deviation},
          {"interval95", s.interval95 ? nlohmann::json{s.interval95->low, s.interval95->high} : nlohmann::json()}};
}

nlohmann::json share_spread_json(const std::vector<double>& shares) {
  nlohmann::json out = spread_json(shares);
  if (nlohmann::json& interval = out["interval95"]; !interval.is_null())
    interval = {std::max(0.0, interval[0].get<double>()), std::min(1.0, interval[1].get<double>())};
  return out;
}

nlohmann::json learn_with_seeds(const LearnRequest& request) {
  if (request.seeds.empty()) fail(Code::kInvalidArgument, "[learn] no seeds given");
  for (auto seed = request.seeds.begin(); seed != request.seeds.end(); ++seed)
    if (std::find(request.seeds.begin(), seed, *seed) != seed)
      fail(Code::kInvalidArgument, "[learn] seed {} is given twice: each seed learns once", *seed);
  if (request.ranks && !request.ranks->alone())
    fail(Code::kUnsupported, "[learn] --seeds by several ranks: give each seed a run of its own, or a cell of a lab");
  const Stopwatch watch;
  check_request(request);
  const ModelDirectory directory = open_directory(request);
  const LearnPlan plan = plan_learning(request, directory);
  if (!plan.composition->isolated())
    fail(Code::kUnsupported,
         "[learn] --seeds needs a recipe whose tasks share nothing: with this one each seed would begin where the one "
         "before ended; learn with one --seed and one --shared-state at a time");
  const fs::path group = folder_of_versions(request, directory, "-seeds");
  const RunFolder folder(group, nullptr);
  const Settings settings = plan_settings(request, plan);
  if (request.resume && fs::exists(folder.config())) folder.require_same(settings);
  if (fs::exists(group) && !request.resume && !request.force && !fs::is_empty(group))
    fail(Code::kAlreadyExists, "[learn] {} exists: --resume goes on with it, --force starts afresh", group.string());
  fs::create_directories(group);
  write_file_atomically(folder.config(), settings_yaml(settings));
  nlohmann::json runs = nlohmann::json::array();
  for (const std::uint64_t seed : request.seeds) {
    LearnRequest one = request;
    one.seeds.clear();
    one.seed = seed;
    one.run_folder = group / fmt::format("seed-{}", seed);
    if (request.listener) request.listener->note(fmt::format("seed {}", seed));
    runs.push_back(learn_task(one).results);
  }
  nlohmann::json report = summary(request, runs);
  report.update(provenance(request.command, watch.ms() / 1000));
  folder.write_results(report);
  return report;
}

}  // namespace recast
