#include "recast/run/linear_head.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "recast/base/error.h"

namespace recast {
namespace {

at::Tensor logits(const Model& model, const at::Tensor& features) {
  return model.forward({{{"features", features}}, features.size(0)}, {}).at("logits").to(at::kFloat);
}

}  // namespace

LinearHead linear_head(const Model& model) {
  constexpr std::int64_t kRows = 8;
  constexpr double kTolerance = 1e-5;
  const at::NoGradGuard no_grad;
  const std::string& plug = model.recipe().head().alias();
  if (!model.recipe().taps().empty())
    fail(Code::kUnsupported, "[{}] its head reads more of the network than the features, so it cannot be exported",
         plug);
  const std::int64_t D = model.backbone().feature_width();
  const at::Tensor bias = logits(model, at::zeros({1, D}))[0];
  LinearHead head{(logits(model, at::eye(D)) - bias).t().contiguous(), bias.contiguous()};
  const at::Tensor rows = Key(1).fold("linear head").normal({kRows, D});
  const at::Tensor wanted = logits(model, rows), got = at::addmm(head.bias, rows, head.weight.t());
  const double off = (wanted - got).abs().max().item<double>(), most = wanted.abs().max().item<double>();
  if (!(off <= kTolerance * most))
    fail(Code::kUnsupported,
         "[{}] its head is no linear map of the features (off by {:.1g} of {:.3g}), so it cannot be "
         "exported",
         plug, off, most);
  return head;
}

}  // namespace recast
