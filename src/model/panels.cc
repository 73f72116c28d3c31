#include "panels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <string>
#include <utility>
#include <vector>

namespace recast::vit_pass {

kernels::Isa isa() {
  const std::string capability = at::get_cpu_capability();
  return capability.starts_with("AVX512") ? kernels::Isa::kAvx512
         : capability == "AVX2"           ? kernels::Isa::kAvx2
                                          : kernels::Isa::kPlain;
}

template <class S>
bool multiplies() {
  static const bool kDoes = [] {
    const std::vector<S> a(32 * 32, S(0)), b(32 * kPanel, S(0));
    std::vector<float> c(32 * kPanel, 1.f);
    try {
      const Tiles tiles;
      multiply<S>(32, kPanel, 32, a.data(), 32, b.data(), kPanel, c.data(), kPanel);
    } catch (const std::exception&) {
      return false;
    }
    return std::all_of(c.begin(), c.end(), [](float x) { return x == 0; });
  }();
  return kDoes;
}

template bool multiplies<float>();
template bool multiplies<bf16>();

namespace {

/// Of a weight [out, in], in `memory` where it fits. part(column, width, work) gives what one panel is packed from: its
/// first number and the distance of two of the weight's rows; `work` is a thread's own, for parts that are made.
template <class S, class Part>
Panels<S> pack_panels(Index out, Index in, Side side, at::Tensor memory, const Part& part) {
  const kernels::ActivationKernels<S>& rows = kernels::activation_kernels<S>(isa());
  const bool transposed = side == Side::kForward;
  Panels<S> panels;
  panels.K = transposed ? in : out;
  panels.N = transposed ? out : in;
  const Index numbers = panels.count() * panels.K * kPanel;
  panels.memory = memory.defined() && memory.numel() == numbers ? std::move(memory)
                                                                : at::empty({numbers}, at::TensorOptions(kDtype<S>));
  at::parallel_for(0, panels.count(), 1, [&](Index begin, Index end) {
    std::vector<float> work;
    for (Index p = begin; p < end; ++p) {
      const Index width = panels.width(p);
      const auto [from, ld] = part(p * kPanel, width, work);
      rows.pack_weight(panels.K, width, from, ld, transposed, const_cast<S*>(panels.at(p)), kPanel);
    }
  });
  return panels;
}

}  // namespace

template <class S>
Panels<S> pack(const at::Tensor& weight, Side side) {
  const at::Tensor w = weight.flatten(1).to(at::kFloat).contiguous();
  const Index in = w.size(1), step = side == Side::kForward ? in : 1;
  return pack_panels<S>(w.size(0), in, side, {}, [&](Index column, Index, std::vector<float>&) {
    return std::pair<const float*, Index>(data<float>(w) + column * step, in);
  });
}

template <class S>
Panels<S> pack_sum(const at::Tensor& templates, const at::Tensor& coefficients, Side side, at::Tensor memory) {
  const kernels::ActivationKernels<S>& rows = kernels::activation_kernels<S>(isa());
  const at::Tensor bank = templates.flatten(2).to(at::kFloat).contiguous(),
                   c = coefficients.to(at::kFloat).contiguous();
  const Index n = bank.size(0), out = bank.size(1), in = bank.size(2);
  const bool transposed = side == Side::kForward;
  const Index columns = transposed ? in : kPanel, step = transposed ? in : 1;
  std::vector<float> factors;
  for (Index i = 0; i < n; ++i) factors.insert(factors.end(), static_cast<std::size_t>(columns), data<float>(c)[i]);
  const auto part = [&](Index column, Index width, std::vector<float>& sum) {
    sum.resize(static_cast<std::size_t>((transposed ? kPanel : out) * columns));
    rows.combine(transposed ? width : out, transposed ? in : width, n, data<float>(bank) + column * step, out * in, in,
                 factors.data(), columns, sum.data(), columns);
    return std::pair<const float*, Index>(sum.data(), columns);
  };
  return pack_panels<S>(out, in, side, std::move(memory), part);
}

template Panels<float> pack(const at::Tensor&, Side);
template Panels<bf16> pack(const at::Tensor&, Side);
template Panels<float> pack_sum(const at::Tensor&, const at::Tensor&, Side, at::Tensor);
template Panels<bf16> pack_sum(const at::Tensor&, const at::Tensor&, Side, at::Tensor);

}  // namespace recast::vit_pass
