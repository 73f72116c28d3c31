#include "task_numbers.h"

#include <algorithm>

#include "recast/method/compose.h"
#include "recast/method/model.h"

namespace recast {
namespace {

/// A run that never begins: what a plug-in creates for a task is counted and thrown away.
class CountingContext final : public Context {
 public:
  CountingContext(const Backbone& backbone, const MethodInfo& info) : backbone_(backbone), info_(info) {}

  std::int64_t numbers() const { return numbers_; }

  const Task& task() const override { return task_; }
  const Anatomy& anatomy() const override { return backbone_.anatomy(); }
  std::int64_t feature_width() const override { return backbone_.feature_width(); }
  Key key() const override { return Key(0); }
  const Counters& at() const override { return counters_; }
  std::span<Param> params() override { return {}; }
  State& own(Scope) override { return state_; }
  at::Tensor create(std::string_view name, at::Tensor init) override {
    const Family* family = info_.family(family_of(name));
    if (family && family->trains) numbers_ += init.numel();
    state_.set(std::string(name), init);
    return init;
  }
  void freeze(std::string_view, at::Tensor) override {}
  void start_from(std::string_view) override { refuse(); }
  Model model(std::string_view) override { refuse(); }
  Batch draw(std::string_view) override { refuse(); }
  void reject(std::string) override { refuse(); }

 private:
  [[noreturn]] void refuse() const {
    fail(Code::kUnsupported, "[{}] needs a run: its numbers cannot be counted before", info_.name);
  }

  const Backbone& backbone_;
  const MethodInfo& info_;
  const Task task_{"count", {}};
  const Counters counters_;
  State state_;
  std::int64_t numbers_ = 0;
};

std::int64_t count(const Backbone& backbone, const MethodInfo& info, const OptionTexts& options) {
  CountingContext context(backbone, info);
  info.make(options)->begin_task(context);
  return context.numbers();
}

}  // namespace

nlohmann::json task_numbers(const Backbone& backbone) {
  nlohmann::json rows = nlohmann::json::array();
  const auto& slots = backbone.anatomy().slots;
  if (std::none_of(slots.begin(), slots.end(), [](const Slot& slot) { return slot.bank.defined(); })) return rows;
  for (const MethodInfo* info : Registry::instance().all()) {
    if (!info->has(Need::kBank)) continue;
    const std::int64_t usual = count(backbone, *info, {});
    nlohmann::json others = nlohmann::json::array();
    for (const OptionSpec& option : info->options) {
      nlohmann::json choices = nlohmann::json::array();
      bool changes = false;
      for (const std::string& choice : option.choices) {
        const std::int64_t numbers = count(backbone, *info, {{option.name, choice}});
        choices.push_back(
            {{"plug", plug_text({info->name, info->name, {{option.name, choice}}})}, {"numbers", numbers}});
        changes = changes || numbers != usual;
      }
      if (changes) others.insert(others.end(), choices.begin(), choices.end());
    }
    if (others.empty()) others.push_back({{"plug", info->name}, {"numbers", usual}});
    rows.insert(rows.end(), others.begin(), others.end());
  }
  return rows;
}

}  // namespace recast
