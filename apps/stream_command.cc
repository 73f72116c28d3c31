#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "progress.h"
#include "recast/run/stream_task.h"
#include "table.h"

namespace recast {
namespace {

struct Flags {
  std::string directory, data, out, amp, bad_images = "stop";
  bool print_config = false;
  std::string kind = "disjoint";
  std::optional<double> share;
  bool no_forward = false;
  StreamRequest request;
};

std::string share_or_dash(const nlohmann::json& value) {
  return value.is_null() ? "-" : share_text(value.get<double>());
}

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

std::string text(const nlohmann::json& results) {
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

/// What learn has, too.
void add_learning_options(Command& command, CommandLine& line, Flags& flags) {
  StreamRequest& request = flags.request;
  command.option("dir", flags.directory, "the model directory");
  command.option("--task", request.task, "name of the task; an existing one gets further versions", "NAME");
  command.option("--data", flags.data, "folder of class folders, CSV (path,label), CIFAR or IDX files", "PATH");
  command.option("--recipe", request.recipe, "fast, paper or steps", "NAME");
  command.option("--plug", request.plugs, "plug-in with options; may be given several times", "NAME[:key=value,...]");
  command.option("--image-size", request.image_size, "side of the images in pixels (default: the backbone's)", "PX");
  command.option("--epochs", request.epochs, "passes over a step's training images", "N");
  command.option("--batch-size", request.batch_size, "images a step of the optimiser", "N");
  command.option("--lr", request.lr, "learning rate, before what plug-ins suggest", "RATE");
  command.option("--head-lr", request.head_lr, "learning rate of the head", "RATE");
  command.option("--weight-decay", request.weight_decay, "decoupled weight decay", "RATE");
  command.option("--augmentation", request.augmentation,
                 "of training images where the network moves: none, flips or paper", "NAME");
  command
      .option("--bn", request.bn,
              "batch norms: statistics of the backbone (frozen), or of the task's own, stored with it (task)", "WHOSE")
      .one_of({"frozen", "task"});
  command.option("--amp", flags.amp, "number format of matrix products: bf16 or fp32", "FORMAT")
      .one_of({"bf16", "fp32"});
  command.option("--seed", request.seed, "of everything random in learning", "S");
  command.option("--split-seed", request.split_seed, "of the split into train, validation and test", "S");
  command.option("--limit-train", request.limit_train, "training images of each class, 0: all", "N");
  command.option("--limit-test", request.limit_test, "test images of each class, 0: all", "N");
  command
      .option("--bad-images", flags.bad_images, "images that cannot be decoded: stop, or skip and count them", "WHAT")
      .one_of({"stop", "skip"});
  command.option("--shared-state", request.shared, "name of the head's shared state (default: the task's)", "NAME");
  command.option("--device", request.device, "cpu, cuda or cuda:N", "NAME");
  command.option("--out", flags.out, "run folder (default: DIR/runs/TASK/vVERSION-stream)", "DIR");
  command.flag("--resume", request.resume, "go on with a stopped stream from the last step that is stored");
  command.flag("--force", request.force, "replace an existing run folder");
  command.option("--config", line.config_file, "YAML with these flags' long names as keys", "FILE");
  command.flag("--print-config", flags.print_config, "print the resolved settings as YAML and stop");
}

void add_stream_options(Command& command, Flags& flags) {
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
  command.flag("--no-forward-transfer", flags.no_forward, "do not learn each step's classes alone as well");
}

}  // namespace

void add_stream(CommandLine& line) {
  auto flags = std::make_shared<Flags>();
  Command& command =
      line.add("stream", "learn classes step by step with one head and no task id",
               "recast stream model --task things --data photos/things --base 50 --increment 10 --plug g-acil", true);
  add_learning_options(command, line, *flags);
  add_stream_options(command, *flags);
  command.on([&line, flags] {
    StreamRequest& request = flags->request;
    request.directory = flags->directory;
    request.data = flags->data;
    request.run_folder = flags->out;
    if (!flags->amp.empty()) request.bf16 = flags->amp == "bf16";
    request.bad_images = parse_bad_images(flags->bad_images);
    request.stream.kind = parse_stream_kind(flags->kind);
    if (flags->share) request.stream.share = *flags->share;
    request.forward_transfer = !flags->no_forward;
    if (flags->print_config) return line.print_text(stream_settings_yaml(request));
    Progress progress(line.quiet(), line.verbose());
    request.command = line.command();
    request.stop = line.stop();
    request.listener = &progress;
    line.print(stream_task(request).results, text);
  });
}

}  // namespace recast
