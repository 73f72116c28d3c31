#pragma once
#include "run_context.h"

namespace recast {

/// One step: lazily the forward, then loss, backward, hooks and the optimisers' moves.
class TrainingStep final : public Step {
 public:
  /// batch: this rank's rows of the step's; among several ranks it gets a column "row", their places in it [B].
  TrainingStep(Learner& learner, Batch batch, const Share& share);
  /// In evaluation mode, with the outputs of some slots: for a look at gradients, after which nothing moves.
  TrainingStep(Learner& learner, Batch batch, const Share& share, const std::vector<std::string>& taps);

  /// Losses and backward, over all ranks. Returns the loss, or nothing, and no gradients, if it or a gradient is not
  /// finite.
  std::optional<double> backward();
  /// Away with the gradients.
  void clear();
  /// Backward, after_backward, update. Returns the loss, or nothing if it or a gradient was not finite: then
  /// nothing has moved and nothing is to be applied.
  std::optional<double> optimise();
  /// False: the driver set a gradient that is not finite, and nothing has moved.
  bool drive(const Plug& driver);
  void apply_emissions();
  const Batch& rows() const { return batch_; }

  Context& context() override { return contexts_.find(bound_)->second; }
  const Batch& batch() const override { return batch_; }
  const Fields& out() override;
  at::Tensor loss(const Batch& rows) override;
  std::vector<at::Tensor> grad(const at::Tensor& scalar, std::string_view plug, bool twice) override;
  at::Tensor weight_grad(std::string_view slot) override;
  std::vector<at::Tensor> preview() override;
  void update() override;

 private:
  /// Calls plug-ins one after another, each with its own context, and leaves the caller's bound.
  template <class Call>
  void for_each_update_rule(Call call);
  void bind(const Plug& plug) { bound_ = &plug; }
  at::Tensor objective(const Batch& rows, const Fields& out, const Emissions& emissions);
  void clip();
  bool finite_gradients() const;
  /// The optimisers' moves, frozen rows put back.
  void apply();
  void move_params();

  /// Losses and backward of this rank's rows, if it has any. Returns their part of the loss.
  double backward_share();

  Learner& learner_;
  Batch batch_;
  Share share_;
  Run run_;
  Emissions emissions_;
  std::optional<Fields> out_;
  bool clipped_ = false, refused_ = false;
  const Plug* bound_ = nullptr;
  std::map<const Plug*, RunContext> contexts_;  ///< all made at once: a reference holds for the whole step
};

}  // namespace recast
