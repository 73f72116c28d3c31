#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "learning_options.h"
#include "progress.h"
#include "recast/run/stream_task.h"
#include "table.h"

namespace recast {
namespace {

struct StreamFlags {
  LearningFlags learning;
  std::string kind = "disjoint";
  std::optional<double> share;
  bool no_forward = false;
  StreamRequest request;
};

/// The lower triangle of accuracies, where it fits a screen.
std::string matrix_text(const nlohmann::json& results) {
  const auto& matrix = results["matrix"];
  if (matrix.size() > 12) return "accuracy matrix: " + results["run"].get<std::string>() + "/accuracy_matrix.csv\n";
  std::vector<std::string> header = {"after step"};
  for (std::size_t g = 0; g < matrix.size(); ++g) header.push_back(fmt::format("group {}", g));
  Table table(header);
  for (std::size_t s = 0; s < matrix.size(); ++s) {
    std::vector<std::string> row = {std::to_string(s)};
    for (std::size_t g = 0; g < matrix.size(); ++g)
      row.push_back(g < matrix[s].size() ? share_text(matrix[s][g].get<double>()) : "");
    table.add(row);
  }
  return table.text();
}

std::string stream_text(const nlohmann::json& results) {
  const auto& stream = results["stream"];
  std::string out = fmt::format("task {}: {}\n{} stream: {} classes, then {} a step, class seed {}\n",
                                results["task"].get<std::string>(), joined(results["plugs"], " + "),
                                stream["kind"].get<std::string>(), stream["base"].get<std::int64_t>(),
                                stream["increment"].get<std::int64_t>(), stream["class_seed"].get<std::int64_t>());
  Table table({"step", "classes", "new rows", "known rows", "test rows", "top1", "version", "seconds"});
  for (const auto& step : results["steps"])
    table.add({step["step"].dump(), step["classes"].dump(), step["rows"]["new"].dump(), step["rows"]["known"].dump(),
               step["test_rows"].dump(), share_text(step["top1"].get<double>()),
               step["version"].is_null() ? "-" : step["version"].dump(),
               fmt::format("{:.1f}", step["seconds"].get<double>())});
  out += table.text() + matrix_text(results);
  Table figures({"figure", "value", "formula"});
  for (const char* name : {"average", "last", "forgetting", "backward_transfer", "forward_transfer"})
    figures.add({name, share_or_dash(results[name]), results["formulas"][name].get<std::string>()});
  out += figures.text();
  for (const char* name : {"matrix", "top1"}) out += results["formulas"][name].get<std::string>() + "\n";
  return out + results["run"].get<std::string>() + "\n" + provenance_text(results) + "\n";
}

void add_stream_options(Command& command, StreamFlags& flags) {
  StreamRequest& request = flags.request;
  command.option("--base", request.stream.base, "classes of the first step (default: as many as of the others)", "N");
  command.option("--increment", request.stream.increment, "new classes of each later step; the last has what is left",
                 "N");
  command.option("--class-seed", request.stream.class_seed, "of the order of the classes, drawn as NumPy does", "S");
  command
      .option(
          "--stream", flags.kind,
          "how rows are dealt out: disjoint (a class comes once), mixed (a share of the classes is spread over later "
          "steps too), recurring (classes come back with some of the same rows)",
          "KIND")
      .one_of({"disjoint", "mixed", "recurring"});
  command.option("--share", flags.share, "of the classes that recur, or chance that one comes back (default: 0.5)",
                 "SHARE");
  command
      .option("--unlabelled", request.unlabelled,
              "images without labels for plug-ins that prepare themselves: those of the first step (base), or of all, "
              "classes to come included (all)",
              "WHICH")
      .one_of({"base", "all"});
  command.option("--keep", request.keep, "versions stored: all (one a step), last or none", "WHICH")
      .one_of({"all", "last", "none"});
  command.option("--out", flags.learning.out, "run folder (default: DIR/runs/TASK/vVERSION-stream)", "DIR");
  command.flag("--resume", request.resume, "go on with a stopped stream from the last step that is stored");
  command.flag("--no-forward-transfer", flags.no_forward, "do not learn each step's classes alone as well");
}

}  // namespace

void add_stream(CommandLine& line) {
  auto flags = std::make_shared<StreamFlags>();
  Command& command =
      line.add("stream", "learn classes step by step with one head and no task id",
               "recast stream model --task things --data photos/things --base 50 --increment 10 --plug g-acil", true);
  flags->learning.declare(command, line, flags->request);
  add_stream_options(command, *flags);
  command.on([&line, flags] {
    StreamRequest& request = flags->request;
    flags->learning.settle(request);
    request.stream.kind = parse_stream_kind(flags->kind);
    if (flags->share) request.stream.share = *flags->share;
    request.forward_transfer = !flags->no_forward;
    if (flags->learning.print_config) return line.print_text(stream_settings_yaml(request));
    Progress progress(line.quiet(), line.verbose());
    attach(request, line, progress);
    line.print(stream_task(request).results, stream_text);
  });
}

}  // namespace recast
