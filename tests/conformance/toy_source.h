#pragma once
// Synthetic image classes in memory and the recipe, backbone and task that go with them: small enough that a run of
// some epochs takes a fraction of a second, and learnable, so that a loss that does not fall is a fault.
#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/toy_cnn.h"
#include "model/toy_vit.h"
#include "recast/mimic/mimicry.h"
#include "recast/train/learn.h"

namespace recast {

/// Rows of tensors in memory. Columns "input" [B, 3, 16, 16] fp32, "label" [B] int64, "sample" [B] int64 (row index).
/// augmented: each row is flipped or not by a draw from (key, row).
class ToySource final : public Source {
 public:
  ToySource(at::Tensor images, at::Tensor labels) : images_(std::move(images)), labels_(std::move(labels)) {}

  std::int64_t rows() const override { return labels_.size(0); }
  const at::Tensor& images() const { return images_; }
  const at::Tensor& labels() const { return labels_; }

  std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented,
                                    Key key) const override {
    return std::make_unique<Stream>(*this, std::move(order), batch_size, augmented, key);
  }

 private:
  class Stream final : public BatchStream {
   public:
    Stream(const ToySource& source, std::vector<std::int64_t> order, std::int64_t batch_size, bool augmented, Key key)
        : source_(source), order_(std::move(order)), batch_size_(batch_size), augmented_(augmented), key_(key) {}

    std::optional<Batch> next() override {
      if (done_ >= order_.size()) return {};
      const std::size_t end = std::min(done_ + static_cast<std::size_t>(batch_size_), order_.size());
      const std::vector<std::int64_t> chosen(order_.begin() + done_, order_.begin() + end);
      done_ = end;
      const at::Tensor rows = at::tensor(chosen, at::kLong);
      at::Tensor images = source_.images_.index_select(0, rows);
      if (augmented_)
        for (std::size_t i = 0; i < chosen.size(); ++i)
          if (key_.fold("flip", static_cast<std::uint64_t>(chosen[i])).below(2) == 1)
            images[i] = images[i].flip({2}).clone();
      return Batch{{{"input", images}, {"label", source_.labels_.index_select(0, rows)}, {"sample", rows}},
                   static_cast<std::int64_t>(chosen.size())};
    }

   private:
    const ToySource& source_;
    std::vector<std::int64_t> order_;
    std::size_t done_ = 0;
    std::int64_t batch_size_;
    bool augmented_;
    Key key_;
  };

  at::Tensor images_, labels_;
};

/// Row r is of class r mod classes: the class's own random picture plus noise half as strong. Classes come from `seed`
/// alone, noise from `seed` and `first_row` + r, so two sources of one seed share their classes and no row.
inline std::shared_ptr<ToySource> toy_source(std::int64_t rows, std::int64_t classes, std::uint64_t seed,
                                             std::int64_t first_row = 0) {
  const Key key = Key(seed).fold("toy source");
  std::vector<at::Tensor> images;
  std::vector<std::int64_t> labels;
  for (std::int64_t row = 0; row < rows; ++row) {
    labels.push_back(row % classes);
    images.push_back(key.fold("class", static_cast<std::uint64_t>(row % classes)).normal({3, 16, 16}) +
                     0.5 * key.fold("row", static_cast<std::uint64_t>(first_row + row)).normal({3, 16, 16}));
  }
  return std::make_shared<ToySource>(at::stack(images), at::tensor(labels, at::kLong));
}

/// Training and validation rows of the same classes.
inline Sources toy_sources(std::int64_t rows = 24, std::int64_t classes = 3, std::uint64_t seed = 11) {
  return {toy_source(rows, classes, seed), toy_source(2 * classes + 1, classes, seed, /*first_row=*/1000)};
}

inline Task toy_task(std::string name = "toy", std::int64_t classes = 3) {
  Task task{std::move(name), {}};
  for (std::int64_t c = 0; c < classes; ++c) task.labels.push_back("class " + std::to_string(c));
  return task;
}

/// Cross-entropy, AdamW, no schedule, no fitted head.
inline Recipe toy_recipe(std::int64_t epochs = 1, std::int64_t batch_size = 8) {
  Recipe recipe;
  recipe.name = "toy";
  recipe.summary = "for tests";
  recipe.plugs = {parse_plug("ce"), parse_plug("adamw")};
  recipe.epochs = epochs;
  recipe.batch_size = batch_size;
  recipe.rate = 1e-2;
  recipe.head_rate = 1e-2;
  return recipe;
}

/// The toy ViT with every role under templates of its own: two blocks, one bank a role, n = 2, K = 2, exact.
inline std::shared_ptr<const Backbone> toy_backbone(std::uint64_t seed = 1) {
  MimicryOptions options;
  options.target = "all";
  options.groups = 1;
  return make_backbone(mimic(toy_vit(seed), options).files);
}

/// The toy ResNet with a bank each for conv1 and conv2 of a stage's repeated blocks.
inline std::shared_ptr<const Backbone> toy_cnn_backbone(std::uint64_t seed = 1) {
  MimicryOptions options;
  options.target = "conv";
  return make_backbone(mimic(toy_cnn(seed), options).files);
}

/// A model before it learns anything, from plug-ins as on the command line. The recipe's plug-ins join those given.
inline Model toy_model(const std::shared_ptr<const Backbone>& backbone, const Recipe& recipe,
                       const std::vector<std::string>& plugs) {
  std::vector<PlugSpec> chosen;
  for (const std::string& plug : plugs) chosen.push_back(parse_plug(plug));
  if (chosen.empty()) chosen.push_back(parse_plug("linear-probe"));
  return Model(backbone, compose(merge_plugs(recipe, chosen, backbone->anatomy()), backbone->anatomy()), {});
}

/// Rows of a source as one batch.
inline Batch toy_batch(const Source& source, std::vector<std::int64_t> rows) {
  const auto size = static_cast<std::int64_t>(rows.size());
  return *source.open(std::move(rows), size, false, Key(0))->next();
}

/// A copy of every number of the backbone that a plug-in can reach: weights, vectors, templates, coefficients.
inline State backbone_numbers(const Backbone& backbone) {
  State numbers;
  for (const Slot& slot : backbone.anatomy().slots) {
    if (slot.kind == SlotKind::kWeight || slot.kind == SlotKind::kVector) numbers.set(slot.name, backbone.weight(slot));
    if (slot.bank.defined()) numbers.set(slot.name + "/bank", slot.bank);
    if (slot.coefficients.defined()) numbers.set(slot.name + "/coefficients", slot.coefficients);
  }
  return numbers.clone();
}

}  // namespace recast
