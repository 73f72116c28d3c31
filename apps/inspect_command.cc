#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "command_line.h"
#include "recast/format/printable.h"
#include "recast/run/inspect_directory.h"
#include "recast/run/inspect_file.h"
#include "table.h"

namespace recast {
namespace {

std::string inspect_text(const nlohmann::json& report) {
  Table slots({"slot", "kind", "shape", "bank"});
  for (const auto& slot : report["slots"]) {
    if (slot["kind"] == "vector") continue;  // hundreds of biases and gains: in the JSON document
    slots.add({slot["name"].get<std::string>(), slot["kind"].get<std::string>(), slot["shape"].dump(),
               slot["group"].is_null() ? "" : slot["group"].get<std::string>()});
  }
  std::string out = slots.text();
  if (!report["groups"].empty()) {
    Table groups({"bank", "templates", "shape", "bytes", "slots"});
    for (const auto& group : report["groups"])
      groups.add({group["name"].get<std::string>(), std::to_string(group["templates"].get<std::int64_t>()),
                  group["shape"].dump(), std::to_string(group["bytes"].get<std::int64_t>()), joined(group["slots"])});
    out += "\n" + groups.text();
  }
  const auto& bytes = report["bytes"];
  out += fmt::format("\n{}: {}, {} parameters, features of width {}\n", report["directory"].get<std::string>(),
                     report["config"]["architecture"].get<std::string>(), report["parameters"].get<std::int64_t>(),
                     report["feature_width"].get<std::int64_t>());
  out += fmt::format("backbone {}, bank {}, {} tasks {}\n", bytes_text(bytes["backbone"].get<double>()),
                     bytes_text(bytes["bank"].get<double>()), report["tasks"].get<std::int64_t>(),
                     bytes_text(bytes["tasks"].get<double>()));
  if (!report["task_numbers"].empty()) {
    Table numbers({"plug-in", "numbers a task trains, head aside"});
    for (const auto& row : report["task_numbers"])
      numbers.add({row["plug"].get<std::string>(), std::to_string(row["numbers"].get<std::int64_t>())});
    out += "\n" + numbers.text() + "\n";
  }
  return out + "fingerprint " + report["fingerprint"].get<std::string>() + "\n";
}

std::string tensors_text(const nlohmann::json& file) {
  Table tensors({"tensor", "dtype", "shape", "NaN", "infinite"});
  for (const auto& tensor : file["tensors"]) {
    tensors.add({printable(tensor["name"].get<std::string>()), tensor["dtype"].get<std::string>(),
                 tensor["shape"].dump(), tensor["nan"].dump(), tensor["infinite"].dump()});
  }
  return tensors.text() + fmt::format("{}: {} tensors, {}\n", file["file"].get<std::string>(), file["tensors"].size(),
                                      bytes_text(file["bytes"].get<double>()));
}

std::string files_text(const nlohmann::json& report) {
  if (!report.contains("files")) return tensors_text(report);
  std::string out;
  for (const auto& file : report["files"]) out += (out.empty() ? "" : "\n") + tensors_text(file);
  return out;
}

struct Inspect {
  std::string path, store;
  bool allow_nonfinite = false;
};

void run_inspect(CommandLine& line, const Inspect& chosen) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(chosen.path, ignored)) {
    line.print(inspect_file(chosen.path, chosen.allow_nonfinite), files_text);
  } else if (chosen.allow_nonfinite) {
    line.print(inspect_files(chosen.path, true), files_text);
  } else {
    line.print(inspect_directory(ModelDirectory::open(chosen.path, true, at::kCPU, chosen.store)), inspect_text);
  }
}

}  // namespace

void add_inspect(CommandLine& line) {
  auto chosen = std::make_shared<Inspect>();
  Command& command =
      line.add("inspect", "what a model directory, or a safetensors file, holds", "recast inspect model");
  command
      .option("path", chosen->path,
              "a model directory: slots, groups, counts, bytes and fingerprint; a safetensors file: its tensors")
      .required();
  command.store(chosen->store);
  command.flag("--allow-nonfinite", chosen->allow_nonfinite,
               "list the tensors of a file, or of a directory's files, that hold NaN or infinity, which every other "
               "command refuses");
  command.on([&line, chosen] { run_inspect(line, *chosen); });
}

}  // namespace recast
