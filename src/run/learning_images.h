#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "class_registry.h"
#include "learn_plan.h"
#include "recast/data/contents.h"
#include "recast/data/dataset.h"
#include "recast/run/feature_cache.h"
#include "recast/run/image_source.h"

namespace recast {

/// What is learned from, a task or a stream of classes.
struct LearningImages {
  std::shared_ptr<const Dataset> dataset;
  std::shared_ptr<const Contents> contents;
  ClassRegistry classes;
  std::shared_ptr<ImageSource> train, validation;
  nlohmann::json bad;  ///< by split: what was left out
  nlohmann::json duplicates;
  std::string digest;                 ///< of the bytes and labels to learn from and to validate on
  std::vector<std::string> warnings;  ///< for the user and the run's log, once there is one
};

/// Of the bytes of a split's images, in order.
std::string digest_of(const Contents& contents, Split split);
/// The dataset of a request, all images hashed, those in two splits noted. Both from the request's pool where it has
/// one.
LearningImages open_contents(const LearnRequest& request);
std::shared_ptr<ImageSource> open_split(const LearnRequest& request, const LearnPlan& plan,
                                        const ModelDirectory& directory, const LearningImages& images, Split split);
/// Every image of a split once; what is left out is told and counted.
void decode(ImageSource& source, Split split, const LearnRequest& request, LearningImages& images);
/// Opens and decodes the splits to learn from and to validate on.
void read_images(LearningImages& images, const LearnRequest& request, const LearnPlan& plan,
                 const ModelDirectory& directory);
/// The bare backbone's features of a split, kept or made: from `source`, that split opened and decoded, else from the
/// files.
SplitFeatures split_features(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                             const LearningImages& images, Split split, bool bf16, Listener& listener,
                             const ImageSource* source = nullptr);
/// The bare backbone's features of one of `images`' splits, with the task's labels; none where what was kept is not of
/// the same rows.
std::optional<FeatureTable> bare_features(const LearnRequest& request, const LearnPlan& plan,
                                          const ModelDirectory& directory, const LearningImages& images, Split split,
                                          bool bf16, Listener& listener);
/// Once each.
void give_warnings(LearningImages& images, Listener& listener);

}  // namespace recast
