#pragma once
// The plug-ins that conformance runs over: every registered one, at its defaults and once more for each other choice of
// an option with a closed set, composed with what it needs to run on the toy ViT; those that act on a network's slots
// at their defaults on the toy CNN too, and with all choices where only that has them.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "conformance/toy_source.h"
#include "format/temporary_folder.h"

namespace recast {

/// Names of the plug-ins of the library; those that a test program registers for itself begin with "test-".
inline std::vector<std::string> plug_names() {
  std::vector<std::string> names;
  for (const MethodInfo* info : Registry::instance().all())
    if (!info->name.starts_with("test-")) names.push_back(info->name);
  return names;
}

/// "recast:grain=part on cnn": a plug-in with options and the toy backbone under it; without "on", the ViT.
inline PlugSpec spec_of(const std::string& variant) { return parse_plug(variant.substr(0, variant.find(' '))); }
inline std::shared_ptr<const Backbone> backbone_of(const std::string& variant) {
  return variant.ends_with(" on cnn") ? toy_cnn_backbone() : toy_backbone();
}

inline const MethodInfo& info_of(const std::string& plug) { return Registry::instance().find(spec_of(plug).method); }
inline std::unique_ptr<const Method> make_method(const std::string& plug) {
  return info_of(plug).make(spec_of(plug).options);
}
inline bool acts_on_the_network(const std::string& plug) {
  const auto method = make_method(plug);
  return method->roles().weight || method->roles().branch;
}

/// "recast", "recast:grain=part", ...
inline std::vector<std::string> plug_options() {
  std::vector<std::string> texts;
  for (const std::string& name : plug_names()) {
    texts.push_back(name);
    for (const OptionSpec& option : Registry::instance().find(name).options) {
      std::vector<std::string> values = option.choices;
      if (option.type == "flag") values = {"true", "false"};
      for (const std::string& value : values)
        if (value != option.default_text) texts.push_back(name + ":" + option.name + "=" + value);
    }
  }
  return texts;
}

/// Those on a backbone that has their slots; the ViT, where they fail, if none has.
inline std::vector<std::string> plug_variants() {
  static const auto vit = backbone_of(""), cnn = backbone_of(" on cnn");
  const auto composes = [](const std::string& text, const std::shared_ptr<const Backbone>& backbone) {
    try {
      compose({spec_of(text)}, backbone->anatomy());
      return true;
    } catch (const Error& error) {
      if (error.code() != Code::kUnsupported) throw;
      return false;
    }
  };
  std::vector<std::string> variants;
  for (const std::string& text : plug_options()) {
    const bool on_cnn = acts_on_the_network(text) && composes(text, cnn), on_vit = !on_cnn || composes(text, vit);
    if (on_vit) variants.push_back(text);
    if (on_cnn && (!on_vit || spec_of(text).options.empty())) variants.push_back(text + " on cnn");
  }
  return variants;
}

/// The variants for which `wanted` holds.
template <class Wanted>
std::vector<std::string> variants_where(const Wanted& wanted) {
  std::vector<std::string> chosen;
  for (const std::string& plug : plug_variants())
    if (wanted(plug)) chosen.push_back(plug);
  return chosen;
}

/// A test name: letters, digits and _.
inline std::string case_name(const testing::TestParamInfo<std::string>& info) {
  std::string name;
  for (const char c : info.param) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

/// The plug-in and, where it moves nothing itself, the preferred plug-ins beside it if they go together.
inline Model plug_model(const std::shared_ptr<const Backbone>& backbone, const Recipe& recipe,
                        const std::string& plug) {
  const Anatomy& anatomy = backbone->anatomy();
  const std::vector<PlugSpec> alone = merge_plugs(recipe, {spec_of(plug)}, anatomy);
  if (!acts_on_the_network(plug)) {
    Recipe host = recipe;
    host.plugs = alone;
    try {
      std::vector<PlugSpec> specs = merge_plugs(host, {}, anatomy);
      return Model(backbone, compose(specs, anatomy), {});
    } catch (const Error&) {
      // It stands alone, as a head for fixed features does.
    }
  }
  return Model(backbone, compose(alone, anatomy), {});
}

/// Counts a run's steps and sets a flag after one of them.
class StopAfter final : public Listener {
 public:
  explicit StopAfter(std::int64_t steps) : left_(steps) {}
  void step(std::int64_t, std::int64_t) override {
    if (--left_ == 0) stop = true;
  }
  std::atomic<bool> stop = false;

 private:
  std::int64_t left_;
};

/// One plug-in's way through the toy task.
struct PlugCase {
  explicit PlugCase(const std::string& plug, std::int64_t epochs = 2)
      : recipe(toy_recipe(epochs)), backbone(backbone_of(plug)), start(plug_model(backbone, recipe, plug)) {}

  Learned learn(const Budget& budget = {}) const { return recast::learn(start, task, sources, recipe, budget); }
  /// Rows that were not learned from.
  Batch probe(std::int64_t rows = 7) const {
    std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
    std::iota(order.begin(), order.end(), 0);
    return toy_batch(*sources.validation, order);
  }

  Recipe recipe;
  std::shared_ptr<const Backbone> backbone;
  Model start;
  Task task = toy_task();
  Sources sources = toy_sources(/*rows=*/20);  // batches of 8, 8 and 4: the last one is ragged
};

/// A head that learns in phases of its own, not in the recipe's epochs.
inline bool learns_in_phases(const Learned& learned) { return learned.history.empty(); }

/// Those rows of labels from `first` on.
inline std::shared_ptr<const Source> classes_from(const std::shared_ptr<const Source>& source, std::int64_t first) {
  const auto& toy = dynamic_cast<const ToySource&>(*source);
  const at::Tensor rows = toy.labels().ge(first).nonzero().flatten();
  return std::make_shared<ToySource>(toy.images().index_select(0, rows), toy.labels().index_select(0, rows));
}

/// Numbers of one scope over those of another: a task and the newest shared state.
inline Numbers joined(const Numbers& task, const Numbers& shared) {
  Numbers both = task.only(Scope::kTask);
  const Numbers newest = shared.only(Scope::kShared);
  for (const auto& [plug, scopes] : newest.plugs())
    for (const auto& [scope, state] : scopes) both.at(plug, scope) = state;
  return both;
}

inline void expect_same(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  EXPECT_TRUE(at::equal(a, b)) << what << " differ by up to " << (a - b).abs().max().item<double>();
}

}  // namespace recast
