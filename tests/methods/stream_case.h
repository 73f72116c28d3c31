#pragma once
// Streams of classes over features in memory, and the real ones: scikit-learn's digits, CIFAR-100 under a ResNet-20
// that has seen its first 50 classes only.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "format/expect_error.h"
#include "methods/reference.h"
#include "model/toy_vit.h"
#include "recast/run/class_incremental.h"
#include "recast/run/row_sources.h"

namespace recast {

/// A backbone whose features are so wide; rows of "features" go past it.
inline std::shared_ptr<const Backbone> backbone_of_width(std::int64_t width) {
  VitConfig vit = toy_vit_config(1);
  vit.width = width;
  return make_backbone(toy_vit(1, vit));
}

inline Model head_model(const std::string& plug, std::int64_t width, const std::string& recipe = "steps") {
  const auto backbone = backbone_of_width(width);
  const std::vector<PlugSpec> plugs = merge_plugs(find_recipe(recipe), {parse_plug(plug)}, backbone->anatomy());
  return Model(backbone, compose(plugs, backbone->anatomy()), {});
}

/// Features and their classes.
struct Table {
  at::Tensor x;  ///< [n, D] fp32
  at::Tensor y;  ///< [n] int64
  Table rows(const at::Tensor& chosen) const { return {x.index_select(0, chosen), y.index_select(0, chosen)}; }
  Table rows(std::int64_t from, std::int64_t to) const { return {x.slice(0, from, to), y.slice(0, from, to)}; }
};
inline Table joined(const Table& a, const Table& b) { return {at::cat({a.x, b.x}), at::cat({a.y, b.y})}; }

inline Batch batch_of(const Table& table) {
  return {{{"features", table.x}, {"label", table.y}, {"sample", at::arange(table.y.size(0))}}, table.y.size(0)};
}

inline std::shared_ptr<const Source> source_of(const Table& table) {
  return std::make_shared<FeatureSource>(table.x, table.y, at::arange(table.y.size(0)));
}

/// One learn() call of a head on these rows, on top of `before`.
inline Learned learn_table(const Model& model, const Table& train, std::int64_t classes, const Numbers& before = {},
                           std::uint64_t seed = 42) {
  Task task{"table", {}};
  for (std::int64_t c = 0; c < classes; ++c) task.labels.push_back("class " + std::to_string(c));
  Model start = model;
  start.numbers() = before;
  Budget budget;
  budget.seed = seed;
  const Table held = train.rows(0, std::min<std::int64_t>(8, train.y.size(0)));
  return learn(start, task, {source_of(train), source_of(held)}, find_recipe("steps"), budget);
}

inline at::Tensor logits_of(const Model& model, const at::Tensor& x) {
  return model.forward({{{"features", x}}, x.size(0)}, {}).at("logits");
}
inline double accuracy_of(const Model& model, const Table& test) {
  return logits_of(model, test.x).argmax(1).eq(test.y).to(at::kDouble).mean().item<double>();
}

/// The head's numbers of a model that a plug-in has learned.
inline const State& shared_of(const Learned& learned) {
  return learned.model.numbers().at(learned.model.recipe().head().alias(), Scope::kShared);
}

/// Random features with a mean a class, enough for a head to tell them apart.
inline Table random_table(std::int64_t rows, std::int64_t width, std::int64_t classes, std::uint64_t seed) {
  const Key key = Key(seed).fold("table");
  at::Tensor y = at::empty({rows}, at::kLong);
  for (std::int64_t i = 0; i < rows; ++i)
    y[i] = static_cast<std::int64_t>(key.fold("label", static_cast<std::uint64_t>(i)).below(classes));
  for (std::int64_t c = 0; c < std::min(rows, classes); ++c) y[c] = c;
  const at::Tensor mean = Key(99).fold("mean").normal({classes, width});
  return {mean.index_select(0, y) + 0.7 * key.fold("noise").normal({rows, width}), y};
}

/// scikit-learn's digits: 1,200 rows to train on, 597 to test. One pass of Python per seed and process.
struct Digits {
  Table train, test;
};
inline Digits digits(int seed) {
  TensorFile question;
  question.metadata["seed"] = std::to_string(seed);
  const NamedTensors answer = python_reference("digits.py", question);
  return {{answer.at("train_x"), answer.at("train_y")}, {answer.at("test_x"), answer.at("test_y")}};
}

/// A class-incremental stream over features: classes in their own order unless a class seed is given.
inline ClassIncremental stream_of(const Model& model, const Digits& data, std::int64_t classes,
                                  const StreamOptions& options, std::uint64_t seed = 42) {
  ClassIncremental setting{model, "stream", {}, {}, {}, {}, {}, nullptr, find_recipe("steps")};
  const std::int64_t* first = data.train.y.const_data_ptr<std::int64_t>();
  setting.stream = make_stream({first, first + data.train.y.size(0)}, classes, options);
  const at::Tensor column = at::tensor(setting.stream.column, at::kLong);
  const auto rows = [&](const Table& table) {
    const at::Tensor labels = column.index_select(0, table.y);
    const std::int64_t* begin = labels.const_data_ptr<std::int64_t>();
    return StreamRows{source_of({table.x, labels}), {begin, begin + labels.size(0)}};
  };
  setting.train = rows(data.train);
  setting.validation = rows({data.train.x.slice(0, 0, {}, 10), data.train.y.slice(0, 0, {}, 10)});
  setting.test = rows(data.test);
  for (const std::int64_t c : setting.stream.order) setting.labels.push_back("class " + std::to_string(c));
  setting.seed = seed;
  setting.forward_transfer = false;
  return setting;
}

inline std::vector<StepFigures> figures_of(const std::vector<StepOutcome>& outcomes) {
  std::vector<StepFigures> steps;
  for (const StepOutcome& outcome : outcomes) steps.push_back(outcome.figures);
  return steps;
}

/// Figures of a head on a stream of digits.
inline StreamFigures learn_digits(const std::string& plug, const Digits& data, const StreamOptions& options,
                                  std::uint64_t seed = 42, bool prepare_on_all = false) {
  ClassIncremental setting = stream_of(head_model(plug, 64), data, 10, options, seed);
  if (prepare_on_all) setting.unlabelled = setting.train.source;
  return stream_figures(figures_of(learn_stream(setting)));
}

}  // namespace recast
