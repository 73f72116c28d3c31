#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "learning_options.h"
#include "progress.h"
#include "ranks_options.h"
#include "recast/base/error.h"
#include "recast/run/figures.h"
#include "recast/run/learn_seeds.h"
#include "recast/run/learn_task.h"
#include "table.h"

namespace recast {
namespace {

struct LearnFlags {
  LearningFlags learning;
  std::optional<std::string> seeds;
  bool no_test = false;
  RanksFlags ranks;
  LearnRequest request;
};

std::string figures_text(const nlohmann::json& figures) {
  return fmt::format("{} images: top1 {:.4f} (95 % interval {:.4f} to {:.4f}), top5 {:.4f}, loss {:.4f}",
                     figures["rows"].get<std::int64_t>(), figures["top1"].get<double>(),
                     figures["top1_interval95"][0].get<double>(), figures["top1_interval95"][1].get<double>(),
                     figures["top5"].get<double>(), figures["loss"].get<double>());
}

std::string learn_text(const nlohmann::json& results) {
  std::string out = fmt::format("task {} version {}: {}\n", results["task"].get<std::string>(),
                                results["version"].get<std::int64_t>(), joined(results["plugs"], " + "));
  std::string candidates;
  for (const auto& [stage, top1] : results["candidates"].items())
    candidates += fmt::format("{}{} {:.4f}", candidates.empty() ? "" : ", ", stage, top1.get<double>());
  out += fmt::format("kept: {} (validation top1: {})\n", results["kept"].get<std::string>(), candidates);
  out += "validation, " + figures_text(results["validation"]) + "\n";
  if (!results["test"].is_null()) out += "test, " + figures_text(results["test"]) + "\n";
  for (const auto& [split, bad] : results["bad_images"].items())
    if (bad["count"] > 0)
      out += fmt::format("{} bad {} images skipped, the first: {}\n", bad["count"].get<std::int64_t>(), split,
                         bad["first"][0]["reason"].get<std::string>());
  const double shared = results["shared_bytes"];
  out += fmt::format("{} coefficients, {} head numbers, {} stored{}; {}\n", results["coefficients"].get<std::int64_t>(),
                     results["head_numbers"].get<std::int64_t>(), bytes_text(results["stored_bytes"].get<double>()),
                     shared > 0 ? " and " + bytes_text(shared) + " shared with other tasks" : "",
                     results["run"].get<std::string>());
  if (results.contains("numbers")) out += "numbers: " + numbers_text(results["numbers"]) + "\n";
  return out + provenance_text(results) + "\n";
}

std::string top1_spread_text(const nlohmann::json& spread) {
  if (spread.is_null()) return "not measured";
  const auto& interval = spread["interval95"];
  return fmt::format(
      "{:.4f}, standard deviation {:.4f}{}", spread["mean"].get<double>(), spread["deviation"].get<double>(),
      interval.is_null() ? ""
                         : fmt::format(", 95 % interval of the mean {:.4f} to {:.4f} (t, {} seeds)",
                                       interval[0].get<double>(), interval[1].get<double>(), spread["values"].size()));
}

std::string seeds_text(const nlohmann::json& results) {
  Table table({"seed", "version", "kept", "validation top1", "test top1", "seconds"});
  for (const auto& run : results["runs"])
    table.add({std::to_string(run["seed"].get<std::uint64_t>()), std::to_string(run["version"].get<std::int64_t>()),
               run["kept"].get<std::string>(), share_text(run["validation"]["top1"].get<double>()),
               run["test"].is_null() ? "-" : share_text(run["test"]["top1"].get<double>()),
               fmt::format("{:.1f}", run["seconds"].get<double>())});
  return fmt::format("task {}: {}\n{}validation top1: mean {}\ntest top1: mean {}\n{}\n",
                     results["task"].get<std::string>(), joined(results["plugs"], " + "), table.text(),
                     top1_spread_text(results["validation_top1"]), top1_spread_text(results["test_top1"]),
                     provenance_text(results));
}

void add_options(Command& command, LearnFlags& flags) {
  LearnRequest& request = flags.request;
  command.option("--seeds", flags.seeds,
                 "instead of --seed: learn once with each, a version each; mean, spread, 95 % interval", "S,S,...");
  command.option("--classes", request.classes, "only this class of the data; may be given several times", "NAME");
  command.option("--superclass", request.superclasses,
                 "only the classes of this superclass (CIFAR-100); may be given several times", "NAME");
  command.option("--limit-validation", request.limit_validation,
                 "validation images of each class, 0: the share that is kept of training", "N");
  command.option("--out", flags.learning.out, "run folder (default: DIR/runs/TASK/vVERSION, with --seeds vFIRST-seeds)",
                 "DIR");
  command.flag("--resume", request.resume,
               "go on from the checkpoint of a stopped run, or with the unfinished one of --seeds");
  command.flag("--no-test", flags.no_test, "leave the test images alone");
  flags.ranks.declare(command);
}

}  // namespace

void add_learn(CommandLine& line) {
  auto flags = std::make_shared<LearnFlags>();
  Command& command = line.add("learn", "learn a task from images",
                              "recast learn model --task pets --data photos/pets --plug recast:grain=head", true);
  flags->learning.declare(command, line, flags->request);
  add_options(command, *flags);
  command.on([&line, flags] {
    LearnRequest& request = flags->request;
    flags->learning.settle(request);
    request.test = !flags->no_test;
    if (flags->seeds) request.seeds = parse_seeds(*flags->seeds);
    if (flags->learning.print_config) return line.print_text(learn_settings_yaml(request));
    const std::unique_ptr<Ranks> ranks = flags->ranks.open();
    Progress progress(line.quiet() || !ranks->first(), line.verbose());
    attach(request, line, progress);
    request.ranks = ranks.get();
    if (request.seeds.empty()) {
      const LearnReport report = learn_task(request);
      if (ranks->first()) line.print(report.results, learn_text);
    } else {
      line.print(learn_with_seeds(request), seeds_text);
    }
  });
}

}  // namespace recast
