#include "linear.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>

namespace recast {
namespace {

using Pointwise = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                             c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

/// oneDNN's product with the bias added on the way, where this libtorch and processor have it for bf16. at::linear adds
/// the bias in a pass of its own, a quarter of the time of a product on AMX; the bits are the same. Autograd does not
/// know the operator.
const std::optional<c10::TypedOperatorHandle<Pointwise>>& biased_product() {
  static const auto kFound = []() -> std::optional<c10::TypedOperatorHandle<Pointwise>> {
    auto& dispatcher = c10::Dispatcher::singleton();
    const auto product = dispatcher.findSchema({"mkldnn::_linear_pointwise", ""});
    const auto supported = dispatcher.findSchema({"mkldnn::_is_mkldnn_bf16_supported", ""});
    if (!product || !supported || !supported->typed<bool()>().call()) return {};
    return product->typed<Pointwise>();
  }();
  return kFound;
}

bool recorded(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return c10::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad() || bias.requires_grad());
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor w = weight.to(x.scalar_type());
  if (!bias.defined()) return at::linear(x, w);
  const at::Tensor b = bias.to(x.scalar_type());
  const bool fused = x.is_cpu() && x.scalar_type() == at::kBFloat16 && !recorded(x, w, b) && biased_product();
  return fused ? biased_product()->call(x, w, b, "none", c10::List<std::optional<at::Scalar>>(), "")
               : at::linear(x, w, b);
}

}  // namespace recast
