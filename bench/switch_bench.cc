// The C++ side of `bench/run switch`: going from one task of a model directory to another, opening the directory, and
// the memory that inference takes. Prints one JSON document.
//   logits  of a batch for each task, which take turns twice; the second time must give the first one's bits
//   switch  seconds of opening the directory, and of what a pass of one image costs after a switch
//   memory  peak before anything is opened and after a pass of --rows images
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <nlohmann/json.hpp>

#include "memory.h"
#include "program.h"
#include "recast/base/error.h"
#include "recast/format/tensor_file.h"
#include "recast/method/slot_weight.h"
#include "recast/run/model_directory.h"

namespace {
using namespace recast;
using Clock = std::chrono::steady_clock;

struct Arguments {
  std::filesystem::path model, batch, out;
  std::vector<std::string> tasks;
  std::string dtype = "fp32";
  int threads = 1;
  std::int64_t repeats = 20, rows = 1;

  at::ScalarType type() const { return dtype == "bf16" ? at::kBFloat16 : at::kFloat; }
};

template <class Work>
double timed(const Work& work) {
  const auto begin = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

at::Tensor read_input(const Arguments& arguments, std::int64_t rows) {
  const at::Tensor input = read_tensor_file(arguments.batch).tensors.at("input");
  if (rows > input.size(0)) fail(Code::kInvalidArgument, "[bench] the batch has {} rows", input.size(0));
  return rows == 0 ? input : input.narrow(0, 0, rows).clone();
}

at::Tensor logits_of(const Model& model, const at::Tensor& input, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  Run run;
  run.dtype = dtype;
  return model.forward({{{"input", input}}, input.size(0)}, run).at("logits");
}

/// Every weight that the task's recipe makes, in the dtype of products.
void make_weights(const Model& model, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  for (const Slot& slot : model.backbone().anatomy().slots)
    if (slot.kind == SlotKind::kWeight && !model.recipe().weight_rules(slot.name).empty())
      slot_weight(model, slot.name).to(dtype);
}

nlohmann::json run_logits(const Arguments& arguments) {
  const ModelDirectory directory = ModelDirectory::open(arguments.model, /*read_only=*/true);
  const at::Tensor input = read_input(arguments, 0);
  NamedTensors out;
  for (const char* turn : {"first", "second"})
    for (const std::string& task : arguments.tasks) {
      const at::Tensor logits = logits_of(directory.load(task).model, input, arguments.type());
      if (!out.emplace(task, logits).first->second.equal(logits))
        fail(Code::kInternal, "[bench] the {} turn of {} gives other logits", turn, task);
    }
  write_tensor_file(arguments.out, {out, {}});
  return {{"tasks", arguments.tasks}};
}

nlohmann::json run_switch(const Arguments& arguments) {
  nlohmann::json opening, loading, first, again, making;
  for (std::int64_t i = 0; i < arguments.repeats; ++i)
    opening.push_back(timed([&] { ModelDirectory::open(arguments.model, /*read_only=*/true); }));
  const ModelDirectory directory = ModelDirectory::open(arguments.model, /*read_only=*/true);
  const at::Tensor input = read_input(arguments, 1);
  for (std::int64_t i = 0; i < arguments.repeats; ++i) {
    std::optional<LoadedTask> task;
    const std::string& name = arguments.tasks[static_cast<std::size_t>(i) % arguments.tasks.size()];
    loading.push_back(timed([&] { task = directory.load(name); }));
    const auto pass = [&] { logits_of(task->model, input, arguments.type()); };
    first.push_back(timed(pass));
    again.push_back(timed(pass));
    making.push_back(timed([&] { make_weights(task->model, arguments.type()); }));
  }
  return {{"open_seconds", opening},
          {"load_seconds", loading},
          {"first_seconds", first},
          {"again_seconds", again},
          {"make_seconds", making}};
}

/// Of all weights of the network, in the dtype in which they are multiplied.
std::int64_t weight_bytes(const Model& model, at::ScalarType dtype) {
  std::int64_t bytes = 0;
  for (const auto& [name, number] : model.weights()) {
    const auto& tensor = std::get<at::Tensor>(number);
    bytes += tensor.numel() * static_cast<std::int64_t>(tensor.dim() > 1 ? at::elementSize(dtype) : sizeof(float));
  }
  return bytes;
}

nlohmann::json run_memory(const Arguments& arguments) {
  const at::Tensor input = read_input(arguments, arguments.rows);
  const std::int64_t before = memory_bytes("VmHWM");
  const ModelDirectory directory = ModelDirectory::open(arguments.model, /*read_only=*/true);
  const Model model = directory.load(arguments.tasks.front()).model;
  logits_of(model, input, arguments.type());
  const std::int64_t peak = memory_bytes("VmHWM");
  return {{"before_bytes", before}, {"peak_bytes", peak}, {"weight_bytes", weight_bytes(model, arguments.type())}};
}

nlohmann::json run(const std::string& what, const Arguments& arguments) {
  at::set_num_threads(arguments.threads);
  return what == "logits" ? run_logits(arguments) : what == "switch" ? run_switch(arguments) : run_memory(arguments);
}

CLI::App& describe(CLI::App& app, const char* what, Arguments& arguments) {
  CLI::App& command = *app.add_subcommand(what);
  command.add_option("--model", arguments.model, "model directory")->required();
  command.add_option("--batch", arguments.batch, "input")->required();
  command.add_option("--tasks", arguments.tasks, "in turn")->required();
  command.add_option("--dtype", arguments.dtype)->check(CLI::IsMember({"fp32", "bf16"}));
  command.add_option("--threads", arguments.threads)->check(CLI::Range(1, 1024));
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);  // as the program `recast` does
  Arguments arguments;
  CLI::App app("the C++ side of bench/run switch");
  app.require_subcommand(1);
  describe(app, "logits", arguments).add_option("--out", arguments.out, "safetensors file, by task")->required();
  describe(app, "switch", arguments).add_option("--repeats", arguments.repeats)->check(CLI::PositiveNumber);
  describe(app, "memory", arguments).add_option("--rows", arguments.rows)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return print_result("switch_bench", [&] { return run(app.get_subcommands().front()->get_name(), arguments); });
}
