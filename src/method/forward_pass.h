#pragma once
#include <optional>

#include "recast/method/bank_sum.h"
#include "recast/method/model.h"

namespace recast {

/// One forward call: routes the backbone's slots through the recipe's rules and branches, then runs the heads.
class ForwardPass final : public Pass, private Route {
 public:
  ForwardPass(const Backbone& backbone, const Composition& recipe, const Numbers& numbers, const Batch& batch,
              const Run& run);
  Fields run(bool heads);

  const Batch& batch() const override { return batch_; }
  Mode mode() const override { return run_.mode; }
  Key key() const override { return run_.key; }
  std::int64_t step() const override { return run_.step; }
  bool learns() const override { return run_.emissions != nullptr; }
  at::Tensor weight(std::string_view slot) override;
  at::Tensor param(std::string_view plug, std::string_view name, const at::Tensor& own) override;
  void emit(std::string_view name, at::Tensor value) override;
  void add_loss(std::string_view name, at::Tensor scalar) override;
  at::Tensor once(std::string_view name, const std::function<at::Tensor()>& compute) override;

 private:
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override;
  at::Tensor call(const Slot& slot, const at::Tensor& x, const Next& next) override;
  at::Tensor value(const Slot& slot, const at::Tensor& own) override;

  View view(const Plug& plug, std::string_view slot);
  at::Tensor apply_rules(const Slot& slot, at::Tensor w, const std::vector<const Plug*>& rules, std::size_t count);
  at::Tensor weight_after(const Slot& slot, std::size_t rules);
  at::Tensor product_after(const Slot& slot, std::size_t rules, const at::Tensor& x, const Apply& apply);
  at::Tensor call_inside(const Slot& slot, std::size_t branches, const at::Tensor& x, const Next& next);
  at::Tensor backbone_features();
  /// The features where the recipe only makes sums of templates and the backbone has a function of its own for that.
  at::Tensor sum_features();
  std::optional<BankSums> sums();

  const Backbone& backbone_;
  const Composition& recipe_;
  const Numbers& numbers_;
  const Batch& batch_;
  const Run& run_;
  const Plug* current_ = nullptr;  ///< whose code runs: the owner of what it emits
  std::set<std::string, std::less<>> taps_;
  std::map<std::string, at::Tensor, std::less<>> weights_, once_;
  std::set<std::string, std::less<>> in_making_;  ///< kParam slots whose rules run
  Fields out_;
};

}  // namespace recast
