#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "recast/base/error.h"
#include "recast/run/export_onnx.h"
#include "table.h"

namespace recast {
namespace {

struct ExportFlags {
  std::string directory, store, onnx, inputs, task, like;
  std::int64_t image_size = 0;
  bool per_row = false, external_data = false;
};

std::string ports_text(const nlohmann::json& report) {
  Table table({"", "name", "shape"});
  for (const char* side : {"inputs", "outputs"})
    for (const auto& port : report[side]) {
      std::string shape;
      for (const auto& size : port["shape"])
        shape += (shape.empty() ? "" : ", ") + (size.is_string() ? size.get<std::string>() : size.dump());
      table.add(
          {side == std::string("inputs") ? "input" : "output", port["name"].get<std::string>(), "[" + shape + "]"});
    }
  return table.text();
}

std::string graph_text(const nlohmann::json& report) {
  std::string out = ports_text(report);
  out += fmt::format("\n{}{}: {}, {}\n", report["file"].get<std::string>(),
                     report["data"].is_null() ? "" : " and " + report["data"].get<std::string>(),
                     report["architecture"].get<std::string>(), bytes_text(report["bytes"].get<double>()));
  if (report["form"] == "baked")
    return out + fmt::format("task {} version {}, {} classes\n", report["task"].get<std::string>(),
                             report["version"].get<std::int64_t>(), report["labels"].size());
  out +=
      fmt::format("tasks that are inputs of it: {}\n", report["tasks"].empty() ? "none yet" : joined(report["tasks"]));
  for (const auto& other : report["other_tasks"])
    out += fmt::format("not {}: {}\n", other["task"].get<std::string>(), other["reason"].get<std::string>());
  return out;
}

std::string inputs_text(const nlohmann::json& report) {
  return fmt::format("{}: task {} version {}, {} coefficients, {} classes, {}\n", report["file"].get<std::string>(),
                     report["task"].get<std::string>(), report["version"].get<std::int64_t>(),
                     report["coefficients"].get<std::int64_t>(), report["classes"].get<std::int64_t>(),
                     bytes_text(report["bytes"].get<double>()));
}

void run_export(CommandLine& line, const ExportFlags& flags) {
  if (flags.onnx.empty() == flags.inputs.empty())
    fail(Code::kInvalidArgument,
         "[export] one of --onnx FILE (the graph) and --onnx-inputs FILE --task NAME (a task's inputs) is needed");
  const ModelDirectory directory = ModelDirectory::open(flags.directory, true, at::kCPU, flags.store);
  if (flags.onnx.empty()) {
    if (flags.task.empty()) fail(Code::kInvalidArgument, "[export] --onnx-inputs needs --task NAME");
    return line.print(export_onnx_inputs(directory, flags.task, flags.inputs, flags.like, line.force()), inputs_text);
  }
  OnnxRequest request;
  request.file = flags.onnx;
  request.task = flags.task;
  request.like = flags.like;
  request.per_row = flags.per_row;
  request.image_size = flags.image_size;
  request.external_data = flags.external_data;
  request.force = line.force();
  line.print(export_onnx(directory, request), graph_text);
}

}  // namespace

void add_export(CommandLine& line) {
  auto flags = std::make_shared<ExportFlags>();
  Command& command =
      line.add("export", "the network, or a task, for other runtimes: ONNX", "recast export model --onnx model.onnx");
  command.option("dir", flags->directory, "the model directory").required();
  command.store(flags->store);
  command.option("--onnx", flags->onnx,
                 "write the network as this ONNX model, tasks being inputs of it; with --task one task baked in",
                 "FILE");
  command.option("--onnx-inputs", flags->inputs, "write what --task feeds to that model, as a safetensors file",
                 "FILE");
  command.option("--task", flags->task, "the task", "NAME[:VERSION|:TAG]");
  command.flag("--per-row", flags->per_row, "with --onnx: coefficients and head for each image of a batch");
  command.option("--like", flags->like, "lay the coefficients out as this task does (default: as all stored tasks do)",
                 "NAME");
  command.option("--image-size", flags->image_size, "with --onnx: side of the images in pixels, 0: the tasks' own",
                 "PX");
  command.flag("--external-data", flags->external_data,
               "with --onnx: weights in FILE.data, as always where they exceed 2 GB");
  command.on([&line, flags] { run_export(line, *flags); });
}

}  // namespace recast
