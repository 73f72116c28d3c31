#pragma once
// One batch that lies decoded in memory, and the learning step that benches run on it.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "recast/run/model_directory.h"
#include "recast/train/learn.h"

namespace recast {

/// The same batch `count` times, whatever order and size are asked for: nothing is decoded, drawn or copied.
class OneBatch final : public Source {
 public:
  OneBatch(Batch batch, std::int64_t count) : batch_(std::move(batch)), count_(count) {}
  std::int64_t rows() const override { return batch_.rows * count_; }
  std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t, bool, Key) const override {
    return std::make_unique<Stream>(batch_, static_cast<std::int64_t>(order.size()) / batch_.rows);
  }

 private:
  class Stream final : public BatchStream {
   public:
    Stream(const Batch& batch, std::int64_t left) : batch_(batch), left_(left) {}
    std::optional<Batch> next() override { return left_-- > 0 ? std::optional(batch_) : std::nullopt; }

   private:
    const Batch& batch_;
    std::int64_t left_;
  };
  Batch batch_;
  std::int64_t count_;
};

/// `batch` as often as asked to learn from; validation is no part of a step: one row is enough.
inline Sources step_sources(const Batch& batch, std::int64_t steps) {
  Batch one;
  one.rows = 1;
  for (const auto& [name, column] : batch.at) one.at[name] = column.slice(0, 0, 1);
  return {std::make_shared<OneBatch>(batch, steps), std::make_shared<OneBatch>(one, 1)};
}

/// The learning step that is measured: cross-entropy, AdamW, gradient norm 1, no schedule.
inline Recipe step_recipe(std::int64_t batch_size, bool bf16, std::int64_t epochs = 1) {
  Recipe recipe;
  recipe.name = "bench";
  recipe.plugs = {parse_plug("ce"), parse_plug("adamw")};
  recipe.epochs = epochs;
  recipe.batch_size = batch_size;
  recipe.bf16 = bf16;
  return recipe;
}

/// `start` has "c@SLOT" [K, n], "weight" and "bias" of the head: the numbers that all contenders start from.
inline Model start_model(const ModelDirectory& directory, const std::filesystem::path& start, const Recipe& recipe) {
  const auto& backbone = directory.backbone();
  Numbers numbers;
  State &coefficients = numbers.at("recast", Scope::kTask), &head = numbers.at("linear-probe", Scope::kTask);
  for (const auto& [name, tensor] : read_tensor_file(start).tensors)
    family_of(name) == "c" ? coefficients.set(name, tensor.unsqueeze(1).contiguous()) : head.set(name, tensor);
  const auto plugs = merge_plugs(recipe, {parse_plug("recast"), parse_plug("linear-probe")}, backbone->anatomy());
  return Model(backbone, compose(plugs, backbone->anatomy()), std::move(numbers));
}

inline std::int64_t step_classes(const Model& model) {
  return model.numbers().at("linear-probe", Scope::kTask).tensor("bias").size(0);
}

inline Task step_task(const Model& model) {
  Task task{"bench", {}};
  for (std::int64_t c = 0; c < step_classes(model); ++c) task.labels.push_back(std::to_string(c));
  return task;
}

}  // namespace recast
