#pragma once
#include "run_context.h"

namespace recast {

/// One step: lazily the forward, then loss, backward, hooks and the optimisers' moves.
class TrainingStep final : public Step {
 public:
  TrainingStep(Learner& learner, Batch batch);

  /// Losses, backward, after_backward, update. Returns the loss, or nothing if it or a gradient was not finite: then
  /// nothing has moved.
  std::optional<double> optimise();
  void drive(const Plug& driver);
  void apply_emissions();
  const Batch& rows() const { return batch_; }

  Context& context() override { return *context_; }
  const Batch& batch() const override { return batch_; }
  const Fields& out() override;
  at::Tensor loss(const Batch& rows) override;
  std::vector<at::Tensor> grad(const at::Tensor& scalar, std::string_view plug, bool twice) override;
  at::Tensor weight_grad(std::string_view slot) override;
  std::vector<at::Tensor> preview() override;
  void update() override;

 private:
  template <class Call>
  void for_each_update_rule(Call call);
  void bind(const Plug& plug);
  at::Tensor objective(const Batch& rows, const Fields& out, const Emissions& emissions);
  void clip();
  bool finite_gradients() const;
  void apply();
  void clear();

  Learner& learner_;
  Batch batch_;
  Run run_;
  Emissions emissions_;
  std::optional<Fields> out_;
  const Plug* bound_ = nullptr;
  std::optional<RunContext> context_;
};

}  // namespace recast
