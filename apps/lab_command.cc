#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "progress.h"
#include "ranks_options.h"
#include "recast/lab/run_lab.h"
#include "table.h"

namespace recast {
namespace {

struct LabFlags {
  std::string file, out;
  std::vector<std::string> overrides, patterns;
  std::int64_t jobs = 1;
  bool force = false, list = false, print_config = false;
  RanksFlags ranks;
};

/// Progress without a line an epoch, of which a lab has thousands: they stand in each cell's run folder.
class LabProgress final : public Listener {
 public:
  LabProgress(bool quiet, bool verbose) : progress_(quiet, verbose), verbose_(verbose) {}
  void stage(const std::string& name, std::int64_t total) override { progress_.stage(name, total); }
  void step(std::int64_t done, std::int64_t total) override { progress_.step(done, total); }
  void epoch(const EpochMetrics& metrics) override {
    if (verbose_) progress_.epoch(metrics);
  }
  void note(const std::string& text) override { progress_.note(text); }
  void warning(const std::string& text) override { progress_.warning(text); }

 private:
  Progress progress_;
  const bool verbose_;
};

std::string range_text(const nlohmann::json& range, std::string (*text)(double)) {
  if (range.is_null()) return "-";
  const std::string least = text(range["least"].get<double>()), most = text(range["most"].get<double>());
  return least == most ? least : least + " to " + most;
}

std::string whole_text(double number) { return fmt::format("{:.0f}", number); }

std::string spread_text(const nlohmann::json& spread) {
  if (spread.is_null()) return "-";
  const auto& interval = spread["interval95"];
  return fmt::format("{:.4f}{}", spread["mean"].get<double>(),
                     interval.is_null()
                         ? ""
                         : fmt::format(" ({:.4f} to {:.4f})", interval[0].get<double>(), interval[1].get<double>()));
}

std::string difference_text(const nlohmann::json& difference) {
  if (difference.is_null()) return "-";
  const auto &interval = difference["interval95"], &p = difference["p"];
  std::string out = fmt::format("{:+.4f}", difference["mean"].get<double>());
  if (!interval.is_null())
    out += fmt::format(" ({:+.4f} to {:+.4f})", interval[0].get<double>(), interval[1].get<double>());
  return p.is_null() ? out : out + fmt::format(", p = {:.2g}", p.get<double>());
}

std::string mean_seconds(const nlohmann::json& costs) {
  return costs["seconds"].is_null() ? "-" : fmt::format("{:.1f}", costs["seconds"]["mean"].get<double>());
}

std::string tasks_text(const nlohmann::json& results) {
  Table table({"what learns", "numbers", "stored", "seconds", "top1, all tasks", "less", "difference"});
  for (const auto& row : results["rows"]) {
    const auto& overall = row["overall"];
    const bool compared = !row["baseline"].is_null();
    table.add({row["label"].get<std::string>(), range_text(row["coefficients"], whole_text),
               range_text(row["stored_bytes"], bytes_text), mean_seconds(row), spread_text(overall["top1"]),
               compared ? row["baseline"].get<std::string>() : "",
               compared ? difference_text(overall["difference"]) : ""});
  }
  return table.text();
}

std::string streams_text(const nlohmann::json& results) {
  Table table({"what learns", "stored", "seconds", "average, all streams", "last, all streams", "less",
               "difference of average", "difference of last"});
  for (const auto& row : results["rows"]) {
    const auto& all = row["streams"];
    if (all.is_null()) continue;
    const bool compared = !row["baseline"].is_null();
    table.add({row["label"].get<std::string>(), range_text(all["stored_bytes"], bytes_text), mean_seconds(all),
               spread_text(all["average"]), spread_text(all["top1"]),
               compared ? row["baseline"].get<std::string>() : "",
               compared ? difference_text(all["average_difference"]) : "",
               compared ? difference_text(all["difference"]) : ""});
  }
  return table.text();
}

std::string lab_text(const nlohmann::json& results) {
  std::string out;
  if (has_scenario(results, "task")) out += tasks_text(results);
  if (has_scenario(results, "class-il")) out += streams_text(results);
  const auto& counts = results["counts"];
  out += fmt::format("{} of {} cells done, {} failed; {}/report.html\n", counts["done"].get<int>(),
                     counts["cells"].get<int>(), counts["failed"].get<int>(), results["out"].get<std::string>());
  for (const auto& cell : results["cells"])
    if (cell["state"] == "failed")
      out += fmt::format("failed: {}/{}/{}: {}\n", cell["task"].get<std::string>(), cell["recipe"].get<std::string>(),
                         cell["seed"].get<std::uint64_t>(), cell["error"].get<std::string>());
  for (const auto& note : results["notes"]) out += "note: " + note.get<std::string>() + "\n";
  return out + provenance_text(results) + "\n";
}

std::string list_text(const nlohmann::json& document) {
  bool streams = false;
  for (const auto& cell : document["cells"]) streams |= cell["scenario"] == "class-il";
  std::vector<std::string> head = {"cell", "state", "top1", "seconds", "error"};
  if (streams) head.insert(head.begin() + 3, "average");
  Table table(head);
  for (const auto& cell : document["cells"]) {
    std::vector<std::string> line = {
        fmt::format("{}/{}/{}", cell["task"].get<std::string>(), cell["recipe"].get<std::string>(),
                    cell["seed"].get<std::uint64_t>()),
        cell["state"].get<std::string>(), share_or_dash(cell["top1"]),
        cell["seconds"].is_null() ? "-" : fmt::format("{:.1f}", cell["seconds"].get<double>()),
        cell["error"].is_null() ? "" : cell["error"].get<std::string>()};
    if (streams) line.insert(line.begin() + 3, share_or_dash(cell["average"]));
    table.add(line);
  }
  return table.text();
}

LabRequest request_of(const LabFlags& flags, CommandLine& line) {
  LabRequest request;
  request.file = flags.file;
  request.overrides = flags.overrides;
  request.out = flags.out;
  request.cells = flags.patterns;
  request.force = flags.force;
  request.jobs = flags.jobs;
  request.command = line.command();
  return request;
}

void add_file(Command& command, LabFlags& flags) {
  command.option("file", flags.file, "the lab file (YAML, docs/lab.md)").required();
  command.option("overrides", flags.overrides, "settings in place of the file's", "KEY.KEY=VALUE");
  command.option("--out", flags.out, "folder for the results (default: the file's `out`)", "DIR");
  command.flag("--print-config", flags.print_config, "print the lab file with the overrides as YAML and stop");
}

void run(const LabFlags& flags, CommandLine& line) {
  LabRequest request = request_of(flags, line);
  if (flags.print_config) return line.print_text(lab_settings_yaml(request));
  if (flags.list) return line.print(list_lab(request), list_text);
  const std::unique_ptr<Ranks> ranks = flags.ranks.open();  // before signals ask for an end in order
  LabProgress progress(line.quiet(), line.verbose());
  request.stop = line.stop();
  request.listener = &progress;
  request.ranks = ranks.get();
  const nlohmann::json results = run_lab(request);
  if (ranks->first()) line.print(results, lab_text);
  if (results["counts"]["failed"] > 0) line.end_with(1);
}

}  // namespace

void add_lab(CommandLine& line) {
  auto flags = std::make_shared<LabFlags>();
  Command& command = line.add("lab", "learn tasks by several recipes with several seeds, and compare them",
                              "recast lab run lab/recast-here.yaml --jobs 2\n"
                              "  recast lab run lab/recast-here.yaml seeds=42 --cells 'people/*'\n"
                              "  recast lab report lab/recast-here.yaml",
                              true);
  Command& runs = command.add("run", "do the cells that are not done: learn, measure, write tables and plots");
  add_file(runs, *flags);
  runs.option("--cells", flags->patterns,
              "only the cells that match, with * and ? as in a shell; may be given several times",
              "TASK[/RECIPE[/SEED]]");
  runs.option("--jobs", flags->jobs, "cells side by side; they share the threads", "N");
  runs.flag("--force", flags->force, "do the chosen cells again, done or not");
  flags->ranks.declare(runs);
  runs.flag("--list", flags->list, "show the state of every cell and stop");
  runs.on([&line, flags] { run(*flags, line); });

  Command& reports = command.add("report", "make tables and plots from the results that are there; learns nothing");
  add_file(reports, *flags);
  reports.on([&line, flags] {
    const LabRequest request = request_of(*flags, line);
    if (flags->print_config) return line.print_text(lab_settings_yaml(request));
    line.print(report_lab(request), lab_text);
  });
}

}  // namespace recast
