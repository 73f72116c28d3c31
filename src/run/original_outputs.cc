#include "original_outputs.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "recast/base/error.h"
#include "recast/data/dataset.h"
#include "recast/format/printable.h"
#include "recast/run/figures.h"
#include "recast/run/image_source.h"
#include "recast/run/import_checkpoint.h"

namespace recast {
namespace {

constexpr std::int64_t kAtOnce = 8, kMostImages = 100'000;

/// Rows 0 .. rows-1, `count` of them at even distances.
std::vector<std::int64_t> spread_rows(std::int64_t rows, std::int64_t count) {
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < std::min(rows, count); ++i) chosen.push_back(i * rows / std::min(rows, count));
  return chosen;
}

void check_stop(const StudyWatch& watch) {
  if (watch.stop && *watch.stop) fail(Code::kCancelled, "[mimic] stopped on request; nothing was written");
}

}  // namespace

Preprocessing preprocessing_of(const ModelDirectory& original, const StudyImages& images) {
  Preprocessing preprocessing = original.files().config.preprocessing;
  if (images.image_size) preprocessing.size_px = *images.image_size;
  check(preprocessing);
  return preprocessing;
}

double Likeness::mean() const {
  double sum = 0;
  for (const FeatureLikeness& layer : layers) sum += layer.cosine;
  return sum / static_cast<double>(layers.size());
}

nlohmann::json Likeness::json() const {
  nlohmann::json out = {{"features", nlohmann::json::array()}, {"mean_feature_cosine", mean()}, {"task", nullptr}};
  for (const FeatureLikeness& layer : layers)
    out["features"].push_back({{"layer", layer.layer}, {"cosine", layer.cosine}});
  if (answers)
    out["task"] = {{"rows", answers->rows},
                   {"same_answers", answers->same},
                   {"top1_original", or_null(answers->top1_original)},
                   {"top1", or_null(answers->top1_other)}};
  return out;
}

OriginalOutputs::OriginalOutputs(const ModelDirectory& original, const StudyImages& images, Split split,
                                 const StudyWatch& watch)
    : path_(images.data), split_(split), layers_(layers_of(original.backbone()->anatomy())) {
  if (images.count < 1 || images.count > kMostImages)
    fail(Code::kInvalidArgument, "[mimic] --images must lie in 1..{}, got {}", kMostImages, images.count);
  const Preprocessing preprocessing = preprocessing_of(original, images);
  image_size_ = preprocessing.size_px;
  const std::shared_ptr<const Dataset> dataset = open_dataset(images.data);
  take_classifier(original, *dataset);

  ImageSourceOptions options;
  options.threads = std::max(1, at::get_num_threads());
  options.cache_bytes = 0;  // each image is read once
  options.label_of_class = label_of_class_;
  const ImageSource source(dataset, split, preprocessing, options);
  const std::vector<std::int64_t> chosen = spread_rows(source.rows(), images.count);
  rows_ = static_cast<std::int64_t>(chosen.size());
  const at::NoGradGuard no_grad;
  if (watch.listener) watch.listener->stage("original", rows_);
  const auto stream = source.open(chosen, kAtOnce, /*augmented=*/false, Key(0));
  std::int64_t done = 0;
  while (const std::optional<Batch> batch = stream->next()) {
    const at::Tensor input = batch->column("input");
    batches_.push_back(
        {input, label_of_class_.empty() ? at::Tensor() : batch->column("label"), run(*original.backbone(), input)});
    check_stop(watch);
    if (watch.listener) watch.listener->step(done += batch->rows, rows_);
  }
}

/// The task `pretrained`, where it reads features alone, and the place of each class among its labels.
void OriginalOutputs::take_classifier(const ModelDirectory& original, const Dataset& dataset) {
  const std::optional<TaskRecord> record = original.store().load(kPretrainedTask);
  if (!record) return;
  Model model = original.model(*record);
  if (model.recipe().moves_features()) return;
  classifier_ = std::move(model);
  for (const std::string& name : dataset.classes()) {
    const auto place = std::find(record->labels.begin(), record->labels.end(), name);
    if (place == record->labels.end()) {
      label_of_class_.clear();
      notes_.push_back(fmt::format(
          "accuracy is not measured: the class '{}' of the images is no label of the task {}; name the folders as its "
          "labels",
          printable(name), kPretrainedTask));
      return;
    }
    label_of_class_.push_back(place - record->labels.begin());
  }
}

std::vector<at::Tensor> OriginalOutputs::run(const Backbone& backbone, const at::Tensor& input) const {
  ListeningRoute route(backbone, layers_);
  const at::Tensor features = backbone.features(input, route);
  std::vector<at::Tensor> outputs;
  for (const std::string& layer : layers_) outputs.push_back(route.outputs.at(layer));
  outputs.push_back(features);
  return outputs;
}

at::Tensor OriginalOutputs::answers(const at::Tensor& features) const {
  Batch batch;
  batch.rows = features.size(0);
  batch.at["features"] = features;  // enter at the head: any backbone's will do
  return classifier_->forward(batch, {}).at("logits").argmax(1);
}

Likeness OriginalOutputs::compare(const Backbone& other, const StudyWatch& watch) const {
  const at::NoGradGuard no_grad;
  Likeness likeness;
  for (const std::string& layer : layers_) likeness.layers.push_back({layer, 0});
  likeness.layers.push_back({"features", 0});
  double same = 0, right_original = 0, right_other = 0;
  if (watch.listener) watch.listener->stage("features", rows_);
  std::int64_t done = 0;
  for (const Outputs& batch : batches_) {
    const std::vector<at::Tensor> outputs = run(other, batch.input);
    const auto rows = static_cast<double>(batch.input.size(0)), all = static_cast<double>(rows_);
    for (std::size_t i = 0; i < outputs.size(); ++i)
      likeness.layers[i].cosine += mean_cosine(outputs[i], batch.layers[i]) * rows / all;
    if (classifier_) {
      const at::Tensor original = answers(batch.layers.back()), now = answers(outputs.back());
      same += now.eq(original).sum().item<double>();
      if (batch.labels.defined()) {
        right_original += original.eq(batch.labels).sum().item<double>();
        right_other += now.eq(batch.labels).sum().item<double>();
      }
    }
    check_stop(watch);
    if (watch.listener) watch.listener->step(done += batch.input.size(0), rows_);
  }
  if (classifier_) {
    const auto all = static_cast<double>(rows_);
    likeness.answers = Likeness::Answers{rows_, same / all, {}, {}};
    if (!label_of_class_.empty()) {
      likeness.answers->top1_original = right_original / all;
      likeness.answers->top1_other = right_other / all;
    }
  }
  return likeness;
}

nlohmann::json OriginalOutputs::json() const {
  return {
      {"path", printable_path(path_)},         {"split", name(split_)}, {"images", rows_}, {"image_size", image_size_},
      {"classifies", classifier_.has_value()}, {"notes", notes_}};
}

}  // namespace recast
