#include "onnx_weights.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

namespace recast {
namespace {

std::int64_t numel_from(const Slot& slot, std::size_t dim) {
  std::int64_t count = 1;
  for (std::size_t d = dim; d < slot.shape.size(); ++d) count *= slot.shape[d];
  return count;
}

/// Rows or columns of the slot's weight as a matrix [out, all else] that a block has.
std::int64_t matrix_block(const Slot& slot, const Blocks& blocks) {
  return blocks.of_columns ? blocks.length * numel_from(slot, 2) : blocks.length;
}

std::string group_name(const Slot& slot) { return fmt::format("bank.{}", slot.group); }

}  // namespace

CoefficientLayout coefficient_layout(const Anatomy& anatomy, const std::map<std::string, BankSum, std::less<>>& sums) {
  CoefficientLayout layout;
  std::int64_t offset = 0;
  for (const Slot& slot : anatomy.slots) {
    const auto found = sums.find(slot.name);
    if (found == sums.end()) continue;
    const at::Tensor& c = found->second.coefficients;
    layout.push_back({slot.name, found->second.blocks, c.size(0), c.size(1), offset});
    offset += c.numel();
  }
  return layout;
}

std::int64_t coefficient_count(const CoefficientLayout& layout) {
  return layout.empty() ? 0 : layout.back().offset + layout.back().count * layout.back().templates;
}

OnnxWeights::OnnxWeights(OnnxGraph& graph, Constant constant, CoefficientLayout layout, std::string coefficients,
                         bool per_row)
    : graph_(graph), constant_(std::move(constant)), per_row_(per_row) {
  if (layout.empty()) return;
  std::vector<std::int64_t> lengths;
  for (const CoefficientPlace& place : layout) lengths.push_back(place.count * place.templates);
  const std::vector<std::string> pieces = graph_.nodes("Split", {std::move(coefficients), graph_.numbers(lengths)},
                                                       lengths.size(), {{"axis", std::int64_t{per_row ? 1 : 0}}});
  for (std::size_t i = 0; i < layout.size(); ++i) sums_[layout[i].slot] = {layout[i], pieces[i]};
}

std::string OnnxWeights::matrix_product(const Slot& slot, const std::string& x, std::int64_t tokens) {
  const auto sum = sums_.find(slot.name);
  const bool few = per_row_ && sum != sums_.end() && slot.shape.size() == 2 &&
                   (sum->second.place.templates - 1) * tokens < kTokensOfAWeight;
  if (few) return multiply_templates(slot, sum->second, x);
  if (sum != sums_.end()) return graph_.node("MatMul", {x, matrix(slot, sum->second, true)});
  const std::string name = slot.name + ".weight";
  if (!graph_.has_tensor(name)) graph_.tensor(name, constant_(slot).flatten(1).t().contiguous());
  return graph_.node("MatMul", {x, name});
}

std::string OnnxWeights::convolution(const Slot& slot, const std::string& x, const OnnxGraph::Attributes& attributes) {
  const auto sum = sums_.find(slot.name);
  if (sum == sums_.end())
    return graph_.node("Conv", {x, graph_.tensor(slot.name + ".weight", constant_(slot))}, attributes);
  if (per_row_) return convolve_templates(slot, sum->second, x, attributes);
  const std::string kernel = graph_.node("Reshape", {matrix(slot, sum->second, false), graph_.numbers(slot.shape)});
  return graph_.node("Conv", {x, kernel}, attributes);
}

/// The weight as [out, in] or, transposed, [in, out]; [N, ...] with a task a row. The product of coefficients and
/// templates gives blocks of `block` rows (or columns) one after another, the last one padded.
std::string OnnxWeights::matrix(const Slot& slot, const Sum& sum, bool transposed) {
  const std::int64_t B = sum.place.count, n = sum.place.templates;
  const std::int64_t out = slot.shape[0], in = numel_from(slot, 1);
  // A weight of one block comes out either way round; of several, the dimension that they cut must be in front.
  const bool columns_first = B == 1 ? transposed : sum.place.blocks.of_columns;
  const std::int64_t cut = columns_first ? in : out, rest = columns_first ? out : in;
  const std::int64_t block = B == 1 ? cut : matrix_block(slot, sum.place.blocks);
  const std::string bank = arranged_bank(slot, sum, columns_first, block);  // [B, n, block * rest]
  std::string weight;
  if (per_row_) {
    const std::string rows = graph_.node("Reshape", {sum.coefficients, graph_.numbers({0, B, n})});
    const std::string by_block =
        graph_.node("Transpose", {rows}, {{"perm", std::vector<std::int64_t>{1, 0, 2}}});  // [B, N, n]
    weight = graph_.node("MatMul", {by_block, bank});                                      // [B, N, block * rest]
    if (B > 1) weight = graph_.node("Transpose", {weight}, {{"perm", std::vector<std::int64_t>{1, 0, 2}}});
    weight = graph_.node("Reshape", {weight, graph_.numbers({-1, B * block, rest})});
  } else {
    const std::string by_block = graph_.node("Reshape", {sum.coefficients, graph_.numbers({B, 1, n})});
    weight = graph_.node("MatMul", {by_block, bank});
    weight = graph_.node("Reshape", {weight, graph_.numbers({B * block, rest})});
  }
  const std::int64_t axis = per_row_ ? 1 : 0;
  if (B * block > cut)
    weight = graph_.node("Slice", {weight, graph_.numbers({0}), graph_.numbers({cut}), graph_.numbers({axis})});
  if (columns_first == transposed) return weight;
  const std::vector<std::int64_t> swapped =
      per_row_ ? std::vector<std::int64_t>{0, 2, 1} : std::vector<std::int64_t>{1, 0};
  return graph_.node("Transpose", {weight}, {{"perm", swapped}});
}

/// The slot's templates as [B, n, block * rest]: cut as the blocks are, each block's rows in order. One constant for
/// all slots of a group that are cut alike.
std::string OnnxWeights::arranged_bank(const Slot& slot, const Sum& sum, bool columns_first, std::int64_t block) {
  const std::int64_t B = sum.place.count, n = sum.place.templates;
  const std::string name = fmt::format("{}.{}{}", group_name(slot), columns_first ? "columns" : "rows", block);
  if (graph_.has_tensor(name)) return name;
  at::Tensor templates = slot.bank.flatten(2);  // [n, out, in]
  if (columns_first) templates = templates.transpose(1, 2);
  const std::int64_t padding = B * block - templates.size(1);
  if (padding > 0) templates = at::constant_pad_nd(templates, {0, 0, 0, padding});
  return graph_.tensor(name, templates.reshape({n, B, block * templates.size(2)}).transpose(0, 1).contiguous());
}

/// sum_i c_i (x T_i^T), the coefficients of a row of the batch on the units that they belong to.
std::string OnnxWeights::multiply_templates(const Slot& slot, const Sum& sum, const std::string& x) {
  const bool before = sum.place.blocks.of_columns && sum.place.count > 1;
  std::string total;
  for (std::int64_t i = 0; i < sum.place.templates; ++i) {
    const std::string matrix = fmt::format("{}.matrix{}", group_name(slot), i);
    if (!graph_.has_tensor(matrix)) graph_.tensor(matrix, slot.bank[i].t().contiguous());
    const std::string factors =
        graph_.node("Unsqueeze", {channel_factors(slot, sum, 1, i), graph_.numbers({1})});  // [N, 1, C]
    const std::string in = before ? graph_.node("Mul", {x, factors}) : x;
    std::string y = graph_.node("MatMul", {in, matrix});
    if (!before) y = graph_.node("Mul", {y, factors});
    total = total.empty() ? y : graph_.node("Add", {total, y});
  }
  return total;
}

/// sum_i c_i (T_i * x), the coefficients of a row of the batch on the channels that they belong to.
std::string OnnxWeights::convolve_templates(const Slot& slot, const Sum& sum, const std::string& x,
                                            const OnnxGraph::Attributes& attributes) {
  std::int64_t groups = 1;
  for (const auto& [name, value] : attributes)
    if (name == "group") groups = std::get<std::int64_t>(value);
  const bool before = sum.place.blocks.of_columns && sum.place.count > 1;
  std::string total;
  for (std::int64_t i = 0; i < sum.place.templates; ++i) {
    const std::string kernel = fmt::format("{}.template{}", group_name(slot), i);
    if (!graph_.has_tensor(kernel)) graph_.tensor(kernel, slot.bank[i]);
    const std::string factors =
        graph_.node("Unsqueeze", {channel_factors(slot, sum, groups, i), graph_.numbers({2, 3})});
    const std::string in = before ? graph_.node("Mul", {x, factors}) : x;
    std::string y = graph_.node("Conv", {in, kernel}, attributes);
    if (!before) y = graph_.node("Mul", {y, factors});
    total = total.empty() ? y : graph_.node("Add", {total, y});
  }
  return total;
}

/// Of one template, for each row and channel (output channels, or input ones where blocks are of columns): [N, C], or
/// [N, 1] where all channels have the same.
std::string OnnxWeights::channel_factors(const Slot& slot, const Sum& sum, std::int64_t groups,
                                         std::int64_t template_index) {
  const CoefficientPlace& place = sum.place;
  const std::string rows =
      graph_.node("Reshape", {sum.coefficients, graph_.numbers({0, place.count, place.templates})});
  std::string factors = graph_.node(
      "Gather",
      {rows, graph_.tensor(fmt::format("index_{}", template_index), at::scalar_tensor(template_index, at::kLong))},
      {{"axis", std::int64_t{2}}});  // [N, B]
  if (place.count > 1) {
    const std::int64_t cut = slot.shape[place.blocks.of_columns ? 1 : 0];
    const std::int64_t channels = place.blocks.of_columns ? cut * groups : cut;
    std::vector<std::int64_t> block_of;
    for (std::int64_t c = 0; c < channels; ++c) block_of.push_back(c % cut / place.blocks.length);
    const std::string name = fmt::format("blocks_of_{}_by_{}_times_{}", cut, place.blocks.length, channels / cut);
    factors = graph_.node("Gather", {factors, graph_.tensor(name, at::tensor(block_of, at::kLong))},
                          {{"axis", std::int64_t{1}}});
  }
  return factors;
}

}  // namespace recast
