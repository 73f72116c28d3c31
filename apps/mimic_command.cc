#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "recast/run/mimic_directory.h"
#include "table.h"

namespace recast {
namespace {

struct Flags {
  std::string directory, out;
  MimicRequest request;
};

std::string text(const nlohmann::json& report) {
  Table table({"slot", "relative error", "cosine"});
  for (const auto& slot : report["slots"])
    table.add({slot["slot"].get<std::string>(), fmt::format("{:.2e}", slot["relative_error"].get<double>()),
               fmt::format("{:.9f}", slot["cosine"].get<double>())});
  std::string out = table.text();
  out += fmt::format(
      "\n{}: {} slots ({}) in {} groups, n = {} templates, K = {} sets, solver {}\n"
      "coefficients of a task: {}; bank: {} numbers, {}; other weights: {}; {:.2f} s\nfingerprint {}\n",
      report["directory"].get<std::string>(), report["slots"].size(), report["target"].get<std::string>(),
      report["groups"].get<std::int64_t>(), report["templates"].get<std::int64_t>(), report["sets"].get<std::int64_t>(),
      report["solver"].get<std::string>(), report["coefficients"].get<std::int64_t>(),
      report["bank_numbers"].get<std::int64_t>(), bytes_text(report["bytes"]["bank"].get<double>()),
      bytes_text(report["bytes"]["backbone"].get<double>()), report["seconds"].get<double>(),
      report["fingerprint"].get<std::string>());
  if (!report["tasks"]["kept"].empty()) out += "tasks carried over: " + joined(report["tasks"]["kept"]) + "\n";
  if (!report["tasks"]["left"].empty())
    out += "tasks left behind, since they belong to the old weights: " + joined(report["tasks"]["left"]) + "\n";
  return out;
}

}  // namespace

void add_mimic(CommandLine& line) {
  auto flags = std::make_shared<Flags>();
  MimicryOptions& options = flags->request.options;
  Command& command = line.add("mimic", "turn a model directory's weights into shared templates and coefficients",
                              "recast mimic base --target attn --out model", true);
  command.option("dir", flags->directory, "the model directory to start from").required();
  command.option("--target", options.target, "slots: attn, mlp, attn+mlp or all", "NAME");
  command.option("--groups", options.groups, "runs of consecutive layers that share templates", "G");
  command.option("--templates", options.templates, "templates of each bank", "n");
  command.option("--sets", options.sets, "coefficient sets of each slot", "K");
  command.option("--solver", options.solver, "closed: exact for n >= layers of a group, else truncated SVD", "NAME");
  command.option("--seed", options.seed, "for solvers that draw", "S");
  command.option("--out", flags->out, "the new model directory", "DIR").required();
  command.flag("--force", flags->request.force, "replace an existing model directory");
  command.on([&line, flags] {
    flags->request.directory = flags->directory;
    flags->request.out = flags->out;
    line.print(mimic_directory(flags->request), text);
  });
}

}  // namespace recast
