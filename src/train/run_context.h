#pragma once
#include "learner.h"

namespace recast {

/// A plug-in's view of the run.
class RunContext final : public Context {
 public:
  RunContext(Learner& learner, const Plug& plug) : learner_(learner), plug_(plug) {}
  const Task& task() const override { return learner_.task(); }
  const Anatomy& anatomy() const override { return learner_.model().backbone().anatomy(); }
  std::int64_t feature_width() const override { return learner_.model().backbone().feature_width(); }
  Key key() const override { return learner_.key().fold(plug_.alias()); }
  const Counters& at() const override { return learner_.counters(); }
  std::span<Param> params() override { return learner_.params(); }
  State& own(Scope scope) override { return learner_.numbers().at(plug_.alias(), scope); }
  at::Tensor create(std::string_view name, at::Tensor init) override {
    return learner_.create(plug_, name, std::move(init));
  }
  void freeze(std::string_view name, at::Tensor rows) override { learner_.freeze(plug_, name, std::move(rows)); }
  void start_from(std::string_view task) override { learner_.start_from(task); }
  Model model(std::string_view which) override { return learner_.other_model(which); }
  Batch draw(std::string_view source) override { return learner_.draw(plug_, source); }
  void reject(std::string reason) override { learner_.reject(plug_, reason); }

 private:
  Learner& learner_;
  const Plug& plug_;
};

}  // namespace recast
