// AdaptFormer. Chen et al., NeurIPS 2022, arXiv:2205.13535, section 3.2 (equations 3 to 5) and the authors' code.
// Idea     a bottleneck beside the MLP of each transformer block: block'(x) = block(x) + s up(relu(down(x'))), where x'
//          is the residual after the attention, as it enters the block's second norm (the authors' code feeds the
//          adapter without a norm of its own).
// State    per block down [r, D], up [D, r] and their biases [r], [D], fp32: 4 (2 D r + r + D) bytes. ViT-B, r = 64:
//          1,189,632 numbers, with a head of 100 classes the 1.26 million of the paper's tables.
// Start    down Kaiming-uniform (a = sqrt 5), the rest zero: the first forward is the backbone's, bit for bit.
// Departs  in a backbone with LayerScale the adapter's sum is not scaled by it: s is the branch's own scale.
// Note     x' is met at the norm slot and needed at the end of the block, so the pass keeps it in between.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "recast/method/registry.h"

namespace recast {
namespace {

constexpr std::string_view kNorm = ".norm2";

struct AdaptFormerOptions {
  std::int64_t bottleneck = 64;
  double scale = 0.1;
  double dropout = 0.1;
};

class AdaptFormer final : public Method, public Branch {
 public:
  explicit AdaptFormer(AdaptFormerOptions options) : options_(options) {}

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const std::string& block : blocks(anatomy)) {
      names.push_back(block);
      names.push_back(block + std::string(kNorm));
    }
    return names;
  }

  void begin_task(Context& context) const override {
    for (const std::string& block : blocks(context.anatomy())) {
      const std::int64_t width = context.anatomy().at(block).shape[0], r = options_.bottleneck;
      const double bound = 1 / std::sqrt(static_cast<double>(width));
      context.create(number_name("down", block), (context.key().fold(block).uniform({r, width}) * 2 - 1) * bound);
      context.create(number_name("down_bias", block), at::zeros({r}));
      context.create(number_name("up", block), at::zeros({width, r}));
      context.create(number_name("up_bias", block), at::zeros({width}));
    }
  }

  at::Tensor around(const Slot& slot, const at::Tensor& x, const Next& next, const View& numbers,
                    Pass& pass) const override {
    if (slot.kind == SlotKind::kNorm) {
      const std::string block = slot.name.substr(0, slot.name.size() - kNorm.size());
      if (!pass.once(place(block), [&] { return x; }).is_same(x))
        fail(Code::kUnsupported, "[adaptformer] another plug-in runs {} twice in one pass", block);
      return next(x);
    }
    const at::Tensor y = next(x);
    const at::Tensor residual = pass.once(place(slot.name), [&]() -> at::Tensor {
      fail(Code::kUnsupported, "[adaptformer] another plug-in replaces {}: there is no MLP to stand beside", slot.name);
    });
    return y + adapter(slot, residual, numbers, pass) * options_.scale;
  }

 private:
  static std::vector<std::string> blocks(const Anatomy& anatomy) {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots)
      if (slot.kind == SlotKind::kNorm && slot.role == kNorm.substr(1))
        names.push_back(slot.name.substr(0, slot.name.size() - kNorm.size()));
    return names;
  }

  /// Where a pass keeps the residual of a block: two adapters in one recipe keep theirs apart.
  std::string place(const std::string& block) const { return fmt::format("{}/{}", fmt::ptr(this), block); }

  at::Tensor adapter(const Slot& slot, const at::Tensor& x, const View& numbers, Pass& pass) const {
    const at::ScalarType dtype = x.scalar_type();
    at::Tensor hidden = at::relu(at::linear(x, numbers("down").to(dtype), numbers("down_bias").to(dtype)));
    if (options_.dropout > 0 && pass.mode() == Mode::kTrain) {
      std::vector<std::int64_t> shape = hidden.sizes().vec();
      // Each row has its own draws, also where other ranks work on the rows before it.
      const std::int64_t first = pass.batch().has("row") ? pass.batch().column("row")[0].item<std::int64_t>() : 0;
      shape[0] += first;
      const at::Tensor drawn =
          pass.key().fold("dropout").fold(slot.name).uniform(shape).narrow(0, first, hidden.size(0));
      hidden = hidden * drawn.ge(options_.dropout).to(hidden.options()) / (1 - options_.dropout);
    }
    return at::linear(hidden, numbers("up").to(dtype), numbers("up_bias").to(dtype));
  }

  AdaptFormerOptions options_;
};

const bool kRegistered =
    describe<AdaptFormer, AdaptFormerOptions>("adaptformer")
        .summary("bottleneck beside the MLP of every transformer block")
        .paper("arXiv:2205.13535")
        .families({{.name = "down"},
                   {.name = "down_bias", .decay_scale = 0},
                   {.name = "up"},
                   {.name = "up_bias", .decay_scale = 0}})
        .claims({Claim::kIsolated, Claim::kNeutralStart})
        .suggested_rate(1e-3)
        .option("bottleneck", &AdaptFormerOptions::bottleneck, in_range(1, 1024), "inner width r of the adapter")
        .option("scale", &AdaptFormerOptions::scale, positive(), "factor s on what the adapter adds")
        .option("dropout", &AdaptFormerOptions::dropout, in_range(0, 0.9),
                "share of the adapter's inner units left out in each training step")
        .add();

}  // namespace
}  // namespace recast
