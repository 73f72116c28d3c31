#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "progress.h"
#include "recast/run/report.h"
#include "table.h"

namespace recast {
namespace {

struct ReportFlags {
  std::string directory, store, out, device = "cpu";
  bool force = false;
  ReportOptions options;
};

std::string report_text(const nlohmann::json& document) {
  std::string out = fmt::format("{}: {} tasks, {}\n", document["file"].get<std::string>(), document["tasks"].size(),
                                bytes_text(document["bytes"].get<double>()));
  for (const auto& note : document["notes"]) out += note.get<std::string>() + "\n";
  return out;
}

}  // namespace

void add_report(CommandLine& line) {
  auto flags = std::make_shared<ReportFlags>();
  Command& command = line.add("report", "one page with curves, accuracy, confusion, examples and similarity per layer",
                              "recast report model --out report.html", true);
  command.option("dir", flags->directory, "the model directory").required();
  command.store(flags->store);
  command.option("--out", flags->out, "the HTML file to write", "FILE").required();
  command.flag("--force", flags->force, "replace the file where it exists");
  command.flag("--measure", flags->options.measure, "evaluate every task again, to show what was forgotten");
  command.option("--examples", flags->options.examples, "test images shown of each task", "N");
  command.option("--device", flags->device, "cpu, cuda or cuda:N", "NAME");
  command.on([&line, flags] {
    Progress progress(line.quiet(), line.verbose());
    flags->options.stop = line.stop();
    flags->options.listener = &progress;
    const ModelDirectory directory =
        ModelDirectory::open(flags->directory, true, parse_device(flags->device), flags->store);
    line.print(write_report(directory, flags->out, flags->force, flags->options), report_text);
  });
}

}  // namespace recast
