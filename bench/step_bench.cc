// The C++ side of the bench: runs what the product runs on a batch that lies decoded in memory, and prints what
// happened as one JSON document. bench/run calls it, once per repetition, beside the contenders written in Python.
//   learn      learn() as `recast learn` calls it
//   infer      evaluate() as `recast eval` calls it
//   gradients  loss and gradients of one batch, for the check that goes before any timing
//   mimic      mimic() on a model directory's files
//   weights    RECAST's weights at blocks of 64 and their gradients, beside the linear products that they enter
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <nlohmann/json.hpp>

#include "learning_step.h"
#include "memory.h"
#include "program.h"
#include "recast/base/error.h"
#include "recast/mimic/mimicry.h"
#include "recast/model/blockwise_sum.h"
#include "recast/run/model_directory.h"

namespace {
using namespace recast;
using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

struct Arguments {
  fs::path model, start, batch, out;
  std::string dtype = "fp32";
  std::int64_t steps = 1, epochs = 1;
  int threads = 1;
  MimicryOptions mimicry;

  bool bf16() const { return dtype == "bf16"; }
};

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

/// When each step ended; the time between two is a step's.
class Stopwatch final : public Listener {
 public:
  void stage(const std::string&, std::int64_t) override { last_ = Clock::now(); }
  void step(std::int64_t, std::int64_t) override {
    const auto now = Clock::now();
    seconds_.push_back(seconds(now - std::exchange(last_, now)));
  }
  const std::vector<double>& result() const { return seconds_; }

 private:
  Clock::time_point last_ = Clock::now();
  std::vector<double> seconds_;
};

Batch read_batch(const fs::path& path) {
  const TensorFile file = read_tensor_file(path);
  const at::Tensor label = file.tensors.at("label");
  return {{{"input", file.tensors.at("input")}, {"label", label}, {"sample", at::arange(label.size(0))}},
          label.size(0)};
}

Model start_of(const Arguments& arguments, const Recipe& recipe) {
  return start_model(ModelDirectory::open(arguments.model, true), arguments.start, recipe);
}

nlohmann::json run_learn(const Arguments& arguments) {
  const Batch batch = read_batch(arguments.batch);
  const Recipe recipe = step_recipe(batch.rows, arguments.bf16(), arguments.epochs);
  const Model model = start_of(arguments, recipe);
  const std::int64_t loaded = memory_bytes("VmRSS");
  Stopwatch watch;
  Budget budget;
  budget.listener = &watch;
  const Learned learned = learn(model, step_task(model), step_sources(batch, arguments.steps), recipe, budget);
  nlohmann::json losses = nlohmann::json::array();
  for (const EpochMetrics& epoch : learned.history) losses.push_back(epoch.train_loss);
  return {{"losses", losses}, {"seconds", watch.result()}, {"loaded_bytes", loaded}};
}

nlohmann::json run_infer(const Arguments& arguments) {
  const Batch batch = read_batch(arguments.batch);
  const Model model = start_of(arguments, step_recipe(batch.rows, arguments.bf16()));
  const std::int64_t loaded = memory_bytes("VmRSS");
  Stopwatch watch;
  const OneBatch source(batch, arguments.steps);
  const Evaluation result = evaluate(model, source, step_classes(model), arguments.bf16(), nullptr, &watch);
  return {{"losses", {result.loss}}, {"seconds", watch.result()}, {"loaded_bytes", loaded}};
}

nlohmann::json run_gradients(const Arguments& arguments) {
  const Batch batch = read_batch(arguments.batch);
  const Model model = start_of(arguments, step_recipe(batch.rows, arguments.bf16()));
  NamedTensors out;
  std::vector<std::pair<std::string, at::Tensor>> numbers;
  for (const char* plug : {"recast", "linear-probe"})
    for (const auto& [name, number] : model.numbers().at(plug, Scope::kTask)) {
      numbers.emplace_back(name, std::get<at::Tensor>(number));
      numbers.back().second.set_requires_grad(true);
    }
  Run run;
  run.mode = Mode::kTrain;
  run.dtype = arguments.bf16() ? at::kBFloat16 : at::kFloat;
  const at::Tensor logits = model.forward(batch, run).at("logits");
  const at::Tensor loss = at::cross_entropy_loss(logits, batch.column("label"));
  loss.backward();
  for (const auto& [name, tensor] : numbers)
    out["gradient." + name] = family_of(name) == "c" ? tensor.grad().squeeze(1) : tensor.grad();
  out["logits"] = logits.detach();
  write_tensor_file(arguments.out, {out, {}});
  return {{"losses", {loss.item<double>()}}};
}

nlohmann::json run_mimic(const Arguments& arguments) {
  const ModelFiles files = read_model_files(arguments.model);
  nlohmann::json times = nlohmann::json::array();
  double worst = 0;
  for (std::int64_t repetition = 0; repetition < arguments.steps; ++repetition) {
    const auto begin = Clock::now();
    const Mimicry result = mimic(files, arguments.mimicry);
    times.push_back(seconds(Clock::now() - begin));
    worst = 0;
    for (const SlotFidelity& slot : result.fidelity) worst = std::max(worst, slot.relative_error);
  }
  return {{"seconds", times}, {"worst_relative_error", worst}};
}

/// As operators of the library would have it: each template times a broadcast scale, and a sum.
at::Tensor broadcast_sum(const at::Tensor& templates, const at::Tensor& coefficients, const Blocks& blocks) {
  const std::int64_t side = blocks.of_columns ? 1 : 0;
  const at::Tensor block_of = at::arange(templates.size(1 + side)).floor_divide(blocks.length);
  const at::Tensor scale = coefficients.index_select(0, block_of).t().unsqueeze(side == 1 ? 1 : 2);
  return (templates * scale).sum(0);
}

/// Every covered matrix of a model, made and differentiated; a step of 64 images of 65 tokens has 4,160 rows.
nlohmann::json run_weights(const Arguments& arguments) {
  constexpr std::int64_t kBlock = 64, kRows = 4160;
  const auto backbone = ModelDirectory::open(arguments.model, true).backbone();
  std::vector<double> ours, broadcast, products;
  const auto timed = [](double& sum, const auto& work) {
    const auto begin = Clock::now();
    work();
    sum += seconds(Clock::now() - begin);
  };
  for (std::int64_t step = 0; step < arguments.steps; ++step) {
    double own = 0, other = 0, linear = 0;
    for (const Slot& slot : backbone->anatomy().slots) {
      if (!slot.bank.defined() || slot.shape.size() != 2) continue;
      const Blocks blocks{kBlock, slot.role == "attn.proj" || slot.role == "mlp.fc2"};
      const at::Tensor c = Key(1).fold(slot.name).normal({blocks.count(slot.shape), slot.bank.size(0)});
      const at::Tensor coefficients = c.set_requires_grad(true), g = Key(2).fold(slot.name).normal(slot.shape);
      at::Tensor w, d, w_other, d_other;
      timed(own, [&] {
        w = blockwise_sum(slot.bank, coefficients, blocks);
        d = torch::autograd::grad({w}, {coefficients}, {g})[0];
      });
      timed(other, [&] {
        w_other = broadcast_sum(slot.bank, coefficients, blocks);
        d_other = torch::autograd::grad({w_other}, {coefficients}, {g})[0];
      });
      if (!at::allclose(w, w_other, 1e-4, 1e-5) || !at::allclose(d, d_other, 1e-3, 1e-2))
        fail(Code::kInternal, "[bench] the two ways to make {} do not agree", slot.name);
      const at::Tensor half = w.detach().to(at::kBFloat16), x = at::ones({kRows, slot.shape[1]}, half.options());
      const at::Tensor dy = at::ones({kRows, slot.shape[0]}, half.options());
      timed(linear, [&] { at::linear(x, half), at::mm(dy, half), at::mm(dy.t(), x); });
    }
    ours.push_back(own), broadcast.push_back(other), products.push_back(linear);
  }
  return {{"blockwise_sum_seconds", ours}, {"broadcast_seconds", broadcast}, {"products_seconds", products}};
}

nlohmann::json run(const std::string& what, const Arguments& arguments) {
  at::set_num_threads(arguments.threads);
  nlohmann::json result = what == "learn"       ? run_learn(arguments)
                          : what == "infer"     ? run_infer(arguments)
                          : what == "gradients" ? run_gradients(arguments)
                          : what == "weights"   ? run_weights(arguments)
                                                : run_mimic(arguments);
  result["peak_bytes"] = memory_bytes("VmHWM");
  return result;
}

void describe(CLI::App& command, Arguments& arguments) {
  command.add_option("--model", arguments.model, "model directory")->required();
  command.add_option("--threads", arguments.threads)->check(CLI::Range(1, 1024));
  command.add_option("--steps", arguments.steps, "batches of an epoch, or repetitions")->check(CLI::PositiveNumber);
}

void describe_pass(CLI::App& command, Arguments& arguments) {
  describe(command, arguments);
  command.add_option("--start", arguments.start, "numbers to start from")->required();
  command.add_option("--batch", arguments.batch, "input and label")->required();
  command.add_option("--dtype", arguments.dtype)->check(CLI::IsMember({"fp32", "bf16"}));
  command.add_option("--epochs", arguments.epochs)->check(CLI::PositiveNumber);
  command.add_option("--out", arguments.out, "safetensors file for gradients");
}

}  // namespace

int main(int argc, char** argv) {
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);  // as the program `recast` does
  Arguments arguments;
  CLI::App app("the C++ side of bench/run");
  app.require_subcommand(1);
  for (const char* name : {"learn", "infer", "gradients"}) describe_pass(*app.add_subcommand(name), arguments);
  describe(*app.add_subcommand("weights"), arguments);
  CLI::App* mimicry = app.add_subcommand("mimic");
  describe(*mimicry, arguments);
  mimicry->add_option("--target", arguments.mimicry.target);
  mimicry->add_option("--groups", arguments.mimicry.groups);
  mimicry->add_option("--templates", arguments.mimicry.templates);
  mimicry->add_option("--sets", arguments.mimicry.sets);
  CLI11_PARSE(app, argc, argv);
  return print_result("step_bench", [&] { return run(app.get_subcommands().front()->get_name(), arguments); });
}
