// What one learning step and one batch of inference of a small ViT cost, counted, so that the figures are the same on a
// busy machine: multiply-adds of matrix products, operators of the library, allocations. Beside them one ratio of
// processor times, the products that the network cannot do without to a whole step, taken in turns in one process.
// One thread; one JSON document. bench/check --short compares it with what was recorded.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <dlfcn.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "learning_step.h"
#include "program.h"
#include "recast/mimic/mimicry.h"

namespace {

struct Counts {
  std::int64_t multiply_adds = 0, operators = 0, allocations = 0, allocated_bytes = 0;
};
Counts counted;  // by one thread

// ---- products that libtorch's dispatcher sees, and all other operators ----------------------------------------------

/// Multiply-adds of an operator that is a product by itself and calls no other one.
std::int64_t multiply_adds(const std::string& name, c10::ArrayRef<const c10::IValue> inputs) {
  const auto product = [&](std::size_t left) {
    const at::Tensor &a = inputs[left].toTensor(), &b = inputs[left + 1].toTensor();
    return a.numel() * b.size(-1);
  };
  if (name == "aten::mm" || name == "aten::bmm") return product(0);
  if (name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::addmm_" || name == "aten::baddbmm_")
    return product(1);
  if (name == "aten::mv" || name == "aten::dot") return inputs[0].toTensor().numel();
  if (name == "aten::addmv") return inputs[1].toTensor().numel();
  return 0;
}

std::unique_ptr<at::ObserverContext> see(const at::RecordFunction& function) {
  ++counted.operators;
  counted.multiply_adds += multiply_adds(function.name(), function.inputs());
  return nullptr;
}

// ---- allocations ----------------------------------------------------------------------------------------------------

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator& own) : own_(own) {}
  c10::DataPtr allocate(std::size_t bytes) override {
    ++counted.allocations;
    counted.allocated_bytes += static_cast<std::int64_t>(bytes);
    return own_.allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return own_.raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { own_.copy_data(to, from, bytes); }

 private:
  c10::Allocator& own_;
};

}  // namespace

// ---- products that go past the dispatcher ---------------------------------------------------------------------------
// These definitions stand between librecast and libtorch, whose own ones they call.
namespace at::native::cpublas {
namespace {

template <class Function>
Function* behind(Function* own) {
  Dl_info found;
  if (::dladdr(reinterpret_cast<void*>(own), &found) == 0 || found.dli_sname == nullptr)
    throw std::runtime_error("[bench] brgemm is not exported, its products cannot be counted");
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, found.dli_sname));
}

template <class S>
using Brgemm = void(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, const S*, const S*, float*, bool);

}  // namespace

void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add_C, const float* A,
            const float* B, float* C, bool is_vnni) {
  static Brgemm<float>* const kBehind = behind<Brgemm<float>>(&brgemm);
  counted.multiply_adds += M * N * K;
  kBehind(M, N, K, ld_a, ld_b, ld_c, add_C, A, B, C, is_vnni);
}

void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add_C,
            const at::BFloat16* A, const at::BFloat16* B, float* C, bool is_vnni) {
  static Brgemm<at::BFloat16>* const kBehind = behind<Brgemm<at::BFloat16>>(&brgemm);
  counted.multiply_adds += M * N * K;
  kBehind(M, N, K, ld_a, ld_b, ld_c, add_C, A, B, C, is_vnni);
}

}  // namespace at::native::cpublas

namespace {
using namespace recast;

// ---- what is run ----------------------------------------------------------------------------------------------------

constexpr std::int64_t kImages = 8, kClasses = 10;

VitConfig network() {
  VitConfig vit;
  vit.depth = 4;
  vit.width = 192;
  vit.heads = 3;
  vit.mlp_width = 768;
  vit.patch_px = 4;
  vit.grid = 8;
  return vit;
}
std::int64_t tokens(const VitConfig& vit) { return vit.grid * vit.grid + 1; }

/// RECAST on qkv over random weights: matrices keep the size of what passes, gains around 1.
Model make_model() {
  ModelFiles files;
  files.config.architecture = "count_bench";
  files.config.network = network();
  files.config.preprocessing.size_px = network().grid * network().patch_px;
  for (const auto& [name, shape] : backbone_tensors(network())) {
    at::Tensor drawn = Key(1).fold(name).normal(shape);
    const bool matrix = shape.size() > 1, gain = !matrix && name.ends_with(".weight");
    drawn = matrix ? drawn / std::sqrt(static_cast<double>(drawn[0].numel())) : drawn * 0.1;
    files.backbone[name] = gain ? drawn + 1 : drawn;
  }
  MimicryOptions options;
  options.groups = 2;
  const auto backbone = make_backbone(mimic(files, options).files);
  Numbers numbers;
  State &coefficients = numbers.at("recast", Scope::kTask), &head = numbers.at("linear-probe", Scope::kTask);
  for (const Slot& slot : backbone->anatomy().slots)
    if (slot.bank.defined()) coefficients.set("c@" + slot.name, slot.coefficients.unsqueeze(1).contiguous());
  head.set("weight", Key(2).normal({kClasses, network().width}) * 0.05);
  head.set("bias", at::zeros({kClasses}));
  const auto plugs =
      merge_plugs(step_recipe(kImages, false), {parse_plug("recast"), parse_plug("linear-probe")}, backbone->anatomy());
  return Model(backbone, compose(plugs, backbone->anatomy()), std::move(numbers));
}

Batch make_batch() {
  const std::int64_t px = network().grid * network().patch_px;
  return {{{"input", Key(3).normal({kImages, 3, px, px})},
           {"label", at::arange(kImages) % kClasses},
           {"sample", at::arange(kImages)}},
          kImages};
}

struct Case {
  const char* name;
  bool learns, bf16;
};

/// So many steps; the loss after them, so that a run that went wrong is no figure.
double run_steps(const Case& what, const Model& model, std::int64_t steps, Listener* listener = nullptr) {
  double loss = 0;
  if (what.learns) {
    Budget budget;
    budget.listener = listener;
    const Recipe recipe = step_recipe(kImages, what.bf16);
    loss = learn(model, step_task(model), step_sources(make_batch(), steps), recipe, budget).history.back().train_loss;
  } else {
    loss = evaluate(model, OneBatch(make_batch(), steps), kClasses, what.bf16, nullptr, listener).loss;
  }
  if (!std::isfinite(loss)) throw std::runtime_error(std::string("[bench] ") + what.name + ": the loss is not finite");
  return loss;
}

Counts count(const Case& what, const Model& model, std::int64_t steps) {
  counted = {};
  const auto callback = at::RecordFunctionCallback(see).needsInputs(true).scopes({at::RecordScope::FUNCTION});
  const at::CallbackHandle handle = at::addGlobalCallback(callback);
  c10::Allocator& own = *c10::GetCPUAllocator();
  CountingAllocator allocator(own);
  c10::SetCPUAllocator(&allocator);
  run_steps(what, model, steps);
  c10::SetCPUAllocator(&own);
  at::removeCallback(handle);
  return counted;
}

/// Of one step: what three take beyond two. A run goes before them, which prepares what the others find.
nlohmann::json counts_of_a_step(const Case& what, const Model& model) {
  run_steps(what, model, 1);
  const Counts two = count(what, model, 2), three = count(what, model, 3);
  return {{"multiply_adds", three.multiply_adds - two.multiply_adds},
          {"operators", three.operators - two.operators},
          {"allocations", three.allocations - two.allocations},
          {"allocated_bytes", three.allocated_bytes - two.allocated_bytes}};
}

// ---- processor time -------------------------------------------------------------------------------------------------

double processor_seconds() {
  timespec time;
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// The blocks' linear products of a batch, forward, and once more where the input's gradient is wanted.
class PlainProducts {
 public:
  explicit PlainProducts(const Case& what) : times_((what.learns ? 2 : 1) * network().depth) {
    const VitConfig vit = network();
    const auto options = at::TensorOptions(what.bf16 ? at::kBFloat16 : at::kFloat);
    for (const auto& [in, out] : {std::pair{vit.width, 3 * vit.width}, std::pair{vit.width, vit.width},
                                  std::pair{vit.width, vit.mlp_width}, std::pair{vit.mlp_width, vit.width}})
      factors_.emplace_back(at::ones({kImages * tokens(vit), in}, options), at::ones({in, out}, options));
  }
  void run() const {
    for (std::int64_t i = 0; i < times_; ++i)
      for (const auto& [x, w] : factors_) at::mm(x, w);
  }

 private:
  const std::int64_t times_;
  std::vector<std::pair<at::Tensor, at::Tensor>> factors_;
};

/// After each step the plain products, so that both meet the same machine; the least time of each counts.
class Turns final : public Listener {
 public:
  explicit Turns(const PlainProducts& products) : products_(products) {}
  void stage(const std::string&, std::int64_t) override { begin_ = processor_seconds(); }
  void step(std::int64_t, std::int64_t) override {
    const double middle = processor_seconds();
    products_.run();
    const double end = processor_seconds();
    step_ = std::min(step_, middle - begin_);
    plain_ = std::min(plain_, end - middle);
    begin_ = processor_seconds();
  }
  double products_of_a_step() const { return plain_ / step_; }

 private:
  const PlainProducts& products_;
  double begin_ = processor_seconds();
  double step_ = std::numeric_limits<double>::infinity(), plain_ = step_;
};

double products_of_a_step(const Case& what, const Model& model, std::int64_t steps) {
  const PlainProducts products(what);
  Turns turns(products);
  run_steps(what, model, steps, &turns);
  return turns.products_of_a_step();
}

nlohmann::json run(std::int64_t steps) {
  at::set_num_threads(1);
  const Model model = make_model();
  nlohmann::json cases;
  for (const Case& what : {Case{"learn fp32", true, false}, Case{"infer fp32", false, false},
                           Case{"learn bf16", true, true}, Case{"infer bf16", false, true}}) {
    if (what.bf16 && !multiplies_bf16()) continue;
    cases[what.name] = counts_of_a_step(what, model);
    if (steps > 0) cases[what.name]["products_of_a_step"] = products_of_a_step(what, model, steps);
  }
  const VitConfig vit = network();
  return {{"cases", cases},
          {"network",
           {{"depth", vit.depth},
            {"width", vit.width},
            {"mlp_width", vit.mlp_width},
            {"patch_px", vit.patch_px},
            {"tokens", tokens(vit)},
            {"classes", kClasses}}},
          {"images", kImages}};
}

}  // namespace

int main(int argc, char** argv) {
  std::int64_t steps = 20;
  CLI::App app("counts of a learning step and of inference");
  app.add_option("--steps", steps, "to time beside the plain products; 0: count only")->check(CLI::NonNegativeNumber);
  CLI11_PARSE(app, argc, argv);
  return print_result("count_bench", [&] { return run(steps); });
}
