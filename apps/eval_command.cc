#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "progress.h"
#include "recast/run/evaluate_task.h"
#include "table.h"

namespace recast {
namespace {

struct EvalFlags {
  std::string directory, store, data, amp = "fp32", device = "cpu", bad_images = "stop";
  EvaluateRequest request;
};

std::string per_class_text(const nlohmann::json& result) {
  Table table({"class", "top1"});
  for (const auto& label : result["labels"]) {
    const auto& accuracy = result["per_class"][label.get<std::string>()];
    table.add({label.get<std::string>(), share_or_dash(accuracy)});
  }
  return table.text();
}

std::string eval_text(const nlohmann::json& document) {
  const bool one = !document.contains("tasks");
  Table table({"task", "version", "images", "top1", "95 % interval", "top5", "loss"});
  std::string notes;
  for (const auto& result : one ? nlohmann::json::array({document}) : document["tasks"])
    table.add({result["task"].get<std::string>(), std::to_string(result["version"].get<std::int64_t>()),
               std::to_string(result["rows"].get<std::int64_t>()), share_text(result["top1"].get<double>()),
               share_text(result["top1_interval95"][0].get<double>()) + " to " +
                   share_text(result["top1_interval95"][1].get<double>()),
               share_text(result["top5"].get<double>()), share_text(result["loss"].get<double>())});
  if (one) return table.text() + "\n" + per_class_text(document) + provenance_text(document) + "\n";
  for (const auto& skipped : document["skipped"])
    notes +=
        fmt::format("{}: not measured: {}\n", skipped["task"].get<std::string>(), skipped["reason"].get<std::string>());
  return table.text() + notes + provenance_text(document) + "\n";
}

}  // namespace

void add_eval(CommandLine& line) {
  auto flags = std::make_shared<EvalFlags>();
  Command& command = line.add("eval", "measure tasks on their test images", "recast eval model --task pets");
  command.option("dir", flags->directory, "the model directory").required();
  command.store(flags->store);
  command.option("--task", flags->request.task, "the task (default: every one)", "NAME[:VERSION]");
  command.option("--data", flags->data, "images to measure on (default: those learned from)", "PATH");
  command.option("--amp", flags->amp, "number format of matrix products: bf16 or fp32", "FORMAT")
      .one_of({"bf16", "fp32"});
  command
      .option("--bad-images", flags->bad_images, "images that cannot be decoded: stop, or skip and count them", "WHAT")
      .one_of({"stop", "skip"});
  command.option("--device", flags->device, "cpu, cuda or cuda:N", "NAME");
  command.on([&line, flags] {
    Progress progress(line.quiet(), line.verbose());
    flags->request.data = flags->data;
    flags->request.bf16 = flags->amp == "bf16";
    flags->request.bad_images = parse_bad_images(flags->bad_images);
    flags->request.command = line.command();
    flags->request.stop = line.stop();
    flags->request.listener = &progress;
    const ModelDirectory directory =
        ModelDirectory::open(flags->directory, true, parse_device(flags->device), flags->store);
    line.print(evaluate_tasks(directory, flags->request), eval_text);
  });
}

}  // namespace recast
