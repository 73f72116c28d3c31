#include <fmt/format.h>

#include <memory>
#include <sstream>

#include "command_line.h"
#include "progress.h"
#include "recast/run/compare_tasks.h"
#include "table.h"

namespace recast {
namespace {

struct CompareFlags {
  std::string directory, store, a, b, data, amp = "fp32", device = "cpu", bad_images = "stop";
  CompareRequest request;
};

std::vector<std::string> names_in(const std::string& list) {
  std::vector<std::string> names;
  std::istringstream stream(list);
  for (std::string name; std::getline(stream, name, ',');) names.push_back(name);
  return names;
}

std::string side_text(const nlohmann::json& side) {
  return fmt::format("{}:{}", side["task"].get<std::string>(), side["version"].get<std::int64_t>());
}

std::string chance_text(const std::string& over, const std::string& test, double difference,
                        const nlohmann::json& interval, double p) {
  const std::string range = interval.is_null() ? ""
                                               : fmt::format(", 95 % interval {:+.4f} to {:+.4f}",
                                                             interval[0].get<double>(), interval[1].get<double>());
  return fmt::format("b - a over {}: {:+.4f}{}, p = {:.3g} ({})\n", over, difference, range, p, test);
}

std::string compare_text(const nlohmann::json& report) {
  Table table({"a", "top1", "b", "top1", "difference", "only a right", "only b right"});
  for (const auto& pair : report["pairs"])
    table.add({side_text(pair["a"]), share_text(pair["a"]["top1"].get<double>()), side_text(pair["b"]),
               share_text(pair["b"]["top1"].get<double>()), fmt::format("{:+.4f}", pair["difference"].get<double>()),
               std::to_string(pair["only_a"].get<std::int64_t>()), std::to_string(pair["only_b"].get<std::int64_t>())});
  const auto &images = report["over_images"], &seeds = report["over_seeds"];
  std::string out = table.text() + chance_text(fmt::format("{} images", report["rows"].get<std::int64_t>()),
                                               images["test"].get<std::string>(), images["difference"].get<double>(),
                                               images["interval95"], images["p"].get<double>());
  out += seeds.is_null()
             ? "b - a over seeds: one pair cannot tell; learn both with --seeds and compare their versions\n"
             : chance_text(fmt::format("{} seeds", seeds["values"].size()), seeds["test"].get<std::string>(),
                           seeds["mean"].get<double>(), seeds["interval95"], seeds["p"].get<double>());
  for (const auto& note : report["notes"]) out += "note: " + note.get<std::string>() + "\n";
  return out + provenance_text(report) + "\n";
}

}  // namespace

void add_compare(CommandLine& line) {
  auto flags = std::make_shared<CompareFlags>();
  Command& command = line.add("compare", "test whether one task, or recipe, is better than another",
                              "recast compare model head:1,head:2,head:3 pets:1,pets:2,pets:3");
  command.option("dir", flags->directory, "the model directory").required();
  command.store(flags->store);
  command.option("a", flags->a, "a task, or versions that differ in their seeds", "NAME[:VERSION],...").required();
  command.option("b", flags->b, "what to compare it with, pair by pair", "NAME[:VERSION],...").required();
  command.option("--data", flags->data, "images to measure on (default: those that both learned from)", "PATH");
  command.option("--amp", flags->amp, "number format of matrix products: bf16 or fp32", "FORMAT")
      .one_of({"bf16", "fp32"});
  command
      .option("--bad-images", flags->bad_images, "images that cannot be decoded: stop, or skip and count them", "WHAT")
      .one_of({"stop", "skip"});
  command.option("--device", flags->device, "cpu, cuda or cuda:N", "NAME");
  command.on([&line, flags] {
    Progress progress(line.quiet(), line.verbose());
    CompareRequest& request = flags->request;
    request.a = names_in(flags->a);
    request.b = names_in(flags->b);
    request.data = flags->data;
    request.bf16 = flags->amp == "bf16";
    request.bad_images = parse_bad_images(flags->bad_images);
    request.command = line.command();
    request.stop = line.stop();
    request.listener = &progress;
    const ModelDirectory directory =
        ModelDirectory::open(flags->directory, true, parse_device(flags->device), flags->store);
    line.print(compare_tasks(directory, request), compare_text);
  });
}

}  // namespace recast
