#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "recast/method/compose.h"
#include "recast/model/backbone.h"

namespace recast {

/// What a training pass hands back besides its outputs.
struct Emissions {
  std::map<std::pair<std::string, std::string>, at::Tensor> values;  ///< (plug-in, name) -> next value
  std::vector<std::pair<std::string, at::Tensor>> losses;            ///< add to the objective
  /// (plug-in, slot) -> what its weight() returned, for plug-ins that declare Need::kWeightGradient.
  std::map<std::pair<std::string, std::string>, at::Tensor> weights;
};

/// How to run a forward call.
struct Run {
  Mode mode = Mode::kEvaluate;
  Key key{0};
  std::int64_t step = 0;
  at::ScalarType dtype = at::kFloat;  ///< of matrix products: kFloat or kBFloat16
  std::vector<std::string> taps;      ///< beside those that the recipe's plug-ins ask for
  Emissions* emissions = nullptr;     ///< null: emits and losses of plug-ins are dropped
};

/// Backbone + composed recipe + numbers: a value, cheap to copy (tensors are shared). Threads: all calls in parallel.
class Model {
 public:
  Model(std::shared_ptr<const Backbone> backbone, std::shared_ptr<const Composition> recipe, Numbers numbers);

  /// Returns "features" [B, D] fp32, what the heads give ("logits" [B, C] fp32), and "tap.SLOT". Gradients flow unless
  /// the caller forbids them. Rows that differ in a column that a rule varies by run in slices of their own.
  /// Throws kShapeMismatch.
  Fields forward(const Batch& batch, const Run& run) const;
  /// The same without heads: "features" and "tap.SLOT".
  Fields inputs_of_heads(const Batch& batch, const Run& run) const;
  /// The first of them.
  at::Tensor features(const Batch& batch, const Run& run) const;

  /// A copy in which one plug-in has these numbers in place of its own of the same names.
  Model with(std::string_view plug, const State& numbers) const;
  /// Effective dense weights of all weight slots, by slot name.
  State weights(const Run& run = {}) const;

  const Backbone& backbone() const { return *backbone_; }
  std::shared_ptr<const Backbone> shared_backbone() const { return backbone_; }
  const Composition& recipe() const { return *recipe_; }
  std::shared_ptr<const Composition> shared_recipe() const { return recipe_; }
  const Numbers& numbers() const { return numbers_; }
  Numbers& numbers() { return numbers_; }

 private:
  Fields forward_slice(const Batch& batch, const Run& run, bool heads) const;
  Fields forward_slices(const Batch& batch, const Run& run, bool heads) const;
  std::shared_ptr<const Backbone> backbone_;
  std::shared_ptr<const Composition> recipe_;
  Numbers numbers_;
};

}  // namespace recast
