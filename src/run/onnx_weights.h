#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "recast/method/bank_sum.h"
#include "recast/model/onnx_network.h"

namespace recast {

/// Where in the vector of a task's coefficients those of one slot lie: B * n numbers, a block's n templates together.
struct CoefficientPlace {
  std::string slot;
  Blocks blocks;
  std::int64_t count = 1, templates = 1;  ///< B and n
  std::int64_t offset = 0;
};
using CoefficientLayout = std::vector<CoefficientPlace>;

/// The places of all sums in depth order, one after another.
CoefficientLayout coefficient_layout(const Anatomy& anatomy, const std::map<std::string, BankSum, std::less<>>& sums);
std::int64_t coefficient_count(const CoefficientLayout& layout);

/// How many tokens take the time that making a weight for their row does: 35 to 75 on two cores, bench/onnx_rows.py.
inline constexpr std::int64_t kTokensOfAWeight = 64;

/// The effective numbers of a drawn network: constants, and sums over templates with the layout's coefficients, which
/// are an input of the graph: [count], or [N, count] with a task for each row.
///
/// One task: each weight is the product of its coefficients and the templates, then enters its layer as usual.
/// A task a row, matrices: a weight for each row by the same product, [N, out, in], and one batched product with the
/// rows' tokens. Making a weight takes the time of about kTokensOfAWeight tokens, whatever their number. Where that is
/// more than n - 1 further products, for images of few tokens, each template is multiplied instead and the results are
/// added with the row's coefficients.
/// A task a row, kernels: ONNX has no convolution with a kernel for each row, so each template is convolved and the
/// results are added with the row's coefficients: n times the cost of the layer.
class OnnxWeights final : public OnnxRoute {
 public:
  using Constant = std::function<at::Tensor(const Slot&)>;

  /// `constant`: the number of a slot that the layout does not cover.
  /// `coefficients`: the input's name; not looked at where the layout is empty.
  OnnxWeights(OnnxGraph& graph, Constant constant, CoefficientLayout layout, std::string coefficients, bool per_row);

  std::string matrix_product(const Slot& slot, const std::string& x, std::int64_t tokens) override;
  std::string convolution(const Slot& slot, const std::string& x, const OnnxGraph::Attributes& attributes) override;
  at::Tensor value(const Slot& slot) override { return constant_(slot); }

 private:
  struct Sum {
    CoefficientPlace place;
    std::string coefficients;  ///< the slot's own, [B * n] or [N, B * n]
  };

  std::string matrix(const Slot& slot, const Sum& sum, bool transposed);
  std::string arranged_bank(const Slot& slot, const Sum& sum, bool transposed, std::int64_t block);
  std::string convolve_templates(const Slot& slot, const Sum& sum, const std::string& x,
                                 const OnnxGraph::Attributes& attributes);
  std::string multiply_templates(const Slot& slot, const Sum& sum, const std::string& x);
  std::string channel_factors(const Slot& slot, const Sum& sum, std::int64_t groups, std::int64_t template_index);

  OnnxGraph& graph_;
  Constant constant_;
  std::map<std::string, Sum, std::less<>> sums_;
  bool per_row_;
};

}  // namespace recast
