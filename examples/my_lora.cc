// A plug-in of one's own in a program of one's own: the worked example of docs/adding-a-method.md.
//
//     example_my_lora MODEL_DIR
//
// prints where the plug-in acts on that backbone, and its options.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdio>

#include "recast/model/model_files.h"

// [docs/adding-a-method.md quotes from here]
// LoRA on q and v. Hu et al., ICLR 2022, arXiv:2106.09685, eq. 3.
// Idea     W' = W + (alpha / r) B A on the parts q and v of every fused attention projection; W is never written.
// State    per slot and part A [r, in], B [out, r], fp32: 4 r (in + out) bytes.
// Start    A normal, B zero: the first forward is the backbone's, bit for bit.
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct MyLoraOptions {
  std::int64_t rank = 4;
  double alpha = 4;
};

class MyLora final : public Method, public WeightRule {
 public:
  explicit MyLora(MyLoraOptions options) : options_(options) {}

  Stage stage() const override { return Stage::kAdd; }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots)
      if (slot.role == "attn.qkv") names.push_back(slot.name);
    return names;
  }

  void begin_task(Context& context) const override {
    for (const std::string& name : slots(context.anatomy())) {
      const Slot& slot = context.anatomy().at(name);
      for (const Part& part : slot.parts) {
        if (part.name == "k") continue;
        const Key key = context.key().fold(name).fold(part.name);
        context.create(number_name("A", name, part.name), key.normal({options_.rank, slot.shape[1]}) * 0.02);
        context.create(number_name("B", name, part.name), at::zeros({part.end - part.begin, options_.rank}));
      }
    }
  }

  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View& numbers, Pass&) const override {
    at::Tensor sum = w.clone();
    for (const Part& part : slot.parts) {
      if (part.name == "k") continue;
      const at::Tensor update = at::matmul(numbers("B", part.name), numbers("A", part.name));
      sum.slice(0, part.begin, part.end).add_(update, options_.alpha / static_cast<double>(options_.rank));
    }
    return sum;
  }

 private:
  MyLoraOptions options_;
};

const bool kRegistered = describe<MyLora, MyLoraOptions>("my-lora")
                             .summary("low-rank update of q and v")
                             .paper("arXiv:2106.09685")
                             .families({{.name = "A"}, {.name = "B"}})
                             .claims({Claim::kIsolated, Claim::kNeutralStart})
                             .suggested_rate(2e-3)
                             .option("rank", &MyLoraOptions::rank, in_range(1, 256), "inner width r")
                             .option("alpha", &MyLoraOptions::alpha, positive(), "the update is scaled by alpha / r")
                             .add();

}  // namespace
}  // namespace recast
// [to here]

int main(int argc, char** argv) try {
  if (argc != 2) {
    fmt::print(stderr, "usage: {} MODEL_DIR\n", argv[0]);
    return 2;
  }
  using namespace recast;
  const ModelFiles files = read_model_files(argv[1]);
  const auto backbone = make_backbone(files);
  const MethodInfo& info = Registry::instance().find("my-lora");
  const auto method = info.make({{"rank", "2"}});
  fmt::print("{}: {}; {} slots\n", info.name, info.summary, method->slots(backbone->anatomy()).size());
  for (const OptionSpec& option : info.options)
    fmt::print("  {} ({} in {}, default {}): {}\n", option.name, option.type, option.range, option.default_text,
               option.help);
} catch (const recast::Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return recast::exit_status(error.code());
}
