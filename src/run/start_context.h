#pragma once
#include <map>
#include <memory>

#include "recast/base/error.h"
#include "recast/method/model.h"

namespace recast {

/// A run that never begins: what a plug-in makes of a task's numbers is kept, and nothing is learned.
class StartContext final : public Context {
 public:
  StartContext(const Backbone& backbone, const MethodInfo& info, Key key)
      : backbone_(backbone), info_(info), key_(key) {}

  const std::map<Scope, State>& states() const { return states_; }

  const Task& task() const override { return task_; }
  const Anatomy& anatomy() const override { return backbone_.anatomy(); }
  std::int64_t feature_width() const override { return backbone_.feature_width(); }
  Key key() const override { return key_; }
  const Counters& at() const override { return counters_; }
  std::span<Param> params() override { return {}; }
  State& own(Scope scope) override { return states_[scope]; }
  at::Tensor create(std::string_view name, at::Tensor init) override {
    const Family* family = info_.family(family_of(name));
    if (!family) fail(Code::kInvalidArgument, "[{}] '{}' belongs to none of its families", info_.name, name);
    State& state = states_[family->scope];
    state.set(std::string(name), init.detach().clone(at::MemoryFormat::Contiguous));
    return state.tensor(name);
  }
  void freeze(std::string_view, at::Tensor) override {}
  void start_from(std::string_view) override { refuse(); }
  /// Only "backbone": there is no other.
  Model model(std::string_view which) override {
    if (which != "backbone") refuse();
    const std::shared_ptr<const Backbone> borrowed(std::shared_ptr<const Backbone>(), &backbone_);
    return Model(borrowed, compose({}, backbone_.anatomy()), {});
  }
  Batch draw(std::string_view) override { refuse(); }
  void reject(std::string) override { refuse(); }

 private:
  [[noreturn]] void refuse() const {
    fail(Code::kUnsupported, "[{}] needs a run: its numbers are not known before", info_.name);
  }

  const Backbone& backbone_;
  const MethodInfo& info_;
  const Key key_;
  const Task task_{"start", {}};
  const Counters counters_;
  std::map<Scope, State> states_;
};

}  // namespace recast
