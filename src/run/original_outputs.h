#pragma once
#include <atomic>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "layer_features.h"
#include "recast/data/dataset.h"
#include "recast/run/mimicry_studies.h"
#include "recast/run/model_directory.h"

namespace recast {

/// The model's own, at the size that the images are asked for. Throws as check(Preprocessing).
Preprocessing preprocessing_of(const ModelDirectory& original, const StudyImages& images);

/// How much of the original is left in another model, on images.
struct Likeness {
  std::vector<FeatureLikeness> layers;  ///< in depth order, at last "features"

  /// What the classifier of the task `pretrained` answers over either model's features.
  struct Answers {
    std::int64_t rows = 0;
    double same = 1;                                  ///< share of rows with the original's answer
    std::optional<double> top1_original, top1_other;  ///< where the images' labels are the task's
  };
  std::optional<Answers> answers;

  double features() const { return layers.back().cosine; }
  double mean() const;
  /// {features: [{layer, cosine}], mean_feature_cosine, task: {rows, same_answers, top1_original, top1} or null}.
  nlohmann::json json() const;
};

/// What the layers of an original, and its pretrained classifier, make of some images: what mimicked models are held
/// against. Keeps images and outputs in memory. Threads: compare() in parallel.
class OriginalOutputs {
 public:
  /// The images of one split, spread evenly over it. Throws  as open_dataset() and check(Preprocessing);
  /// kInvalidArgument: images below 1; kCancelled.
  OriginalOutputs(const ModelDirectory& original, const StudyImages& images, Split split, const StudyWatch& watch);

  Likeness compare(const Backbone& other, const StudyWatch& watch) const;
  /// {path, split, images, image_size, classifies: there is a task `pretrained`, notes}.
  nlohmann::json json() const;

 private:
  struct Outputs {
    at::Tensor input, labels;        ///< labels: undefined unless the images' classes are labels of the classifier
    std::vector<at::Tensor> layers;  ///< as layers_, then features
  };
  void take_classifier(const ModelDirectory& original, const Dataset& dataset);
  std::vector<at::Tensor> run(const Backbone& backbone, const at::Tensor& input) const;
  at::Tensor answers(const at::Tensor& features) const;

  std::filesystem::path path_;
  Split split_;
  std::int64_t rows_ = 0, image_size_ = 0;
  std::vector<std::string> layers_, notes_;
  std::optional<Model> classifier_;
  std::vector<std::int64_t> label_of_class_;
  std::vector<Outputs> batches_;
};

}  // namespace recast
