// CLR, channel-wise lightweight reprogramming. Ge et al., ICCV 2023, arXiv:2307.11386, section 3, and the authors'
// code. Idea     after a convolution, each channel of its output goes through a small kernel of its own (a depthwise
//          convolution, stride 1, no bias) before the batch norm.
// State    per norm slot k [C, 1, s, s], fp32: 4 C s^2 bytes. ResNet-34, where=all, s = 3: 76,608 numbers; ResNet-50:
//          239,040.
// Start    Dirac: k is 1 in the middle and 0 around it, so that the first forward is the backbone's, bit for bit, where
//          activations are finite (a sum of x and exact zeros).
// Where    all, the authors' base model: after every convolution, those of shortcuts included; spatial: not after 1 x 1
//          convolutions (their reduced_v1); sized: after 1 x 1 convolutions one factor a channel (reduced_v2).
// Note     the authors train gains, biases and statistics of the batch norms as well, which other plug-ins do.
#include <ATen/ATen.h>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct ClrOptions {
  std::string where = "all";
  std::int64_t kernel = 3;
};

class Clr final : public Method, public Branch {
 public:
  explicit Clr(ClrOptions options) : options_(std::move(options)) {
    if (options_.kernel % 2 == 0)
      fail(Code::kInvalidArgument, "[clr] kernel must be odd, so that it has a middle, got {}", options_.kernel);
  }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const auto& [norm, side] : sides(anatomy)) names.push_back(norm->name);
    return names;
  }

  void begin_task(Context& context) const override {
    for (const auto& [norm, side] : sides(context.anatomy())) {
      at::Tensor kernel = at::zeros({norm->shape[0], 1, side, side});
      kernel.select(3, side / 2).select(2, side / 2).fill_(1);
      context.create(number_name("k", norm->name), kernel);
    }
  }

  at::Tensor around(const Slot& slot, const at::Tensor& x, const Next& next, const View& numbers,
                    Pass&) const override {
    const at::Tensor kernel = numbers("k").to(x.scalar_type());
    return next(at::conv2d(x, kernel, {}, 1, kernel.size(3) / 2, 1, /*groups=*/slot.shape[0]));
  }

 private:
  /// The batch norms and the side of the kernel before each: a norm follows its convolution in an anatomy.
  std::vector<std::pair<const Slot*, std::int64_t>> sides(const Anatomy& anatomy) const {
    std::vector<std::pair<const Slot*, std::int64_t>> found;
    bool pointwise = false;
    for (const Slot& slot : anatomy.slots) {
      if (slot.kind == SlotKind::kWeight) pointwise = slot.shape.back() == 1;
      if (slot.kind != SlotKind::kNorm || !anatomy.find(slot.name + ".running_mean")) continue;
      if (pointwise && options_.where == "spatial") continue;
      found.emplace_back(&slot, pointwise && options_.where == "sized" ? 1 : options_.kernel);
    }
    return found;
  }

  ClrOptions options_;
};

const bool kRegistered = describe<Clr, ClrOptions>("clr")
                             .summary("a small kernel for each channel after every convolution")
                             .paper("arXiv:2307.11386")
                             .families({{.name = "k", .decay_scale = 0}})
                             .claims({Claim::kIsolated, Claim::kNeutralStart})
                             .suggested_rate(3e-4)
                             .option("where", &ClrOptions::where, one_of({"all", "spatial", "sized"}),
                                     "after all convolutions; not after 1 x 1; or there with one factor a channel")
                             .option("kernel", &ClrOptions::kernel, in_range(1, 15), "side of the kernels, odd")
                             .add();

}  // namespace
}  // namespace recast
