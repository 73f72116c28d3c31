#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "learn_plan.h"
#include "recast/data/contents.h"
#include "recast/data/dataset.h"
#include "recast/run/image_source.h"

namespace recast {

/// What a stream is made of.
struct StreamImages {
  std::shared_ptr<const Dataset> dataset;
  Contents contents;
  std::vector<std::int64_t> label_of_class;  ///< column of each class of the dataset; empty: the same
  std::shared_ptr<ImageSource> train, validation;
  nlohmann::json bad;  ///< by split: what was left out
  nlohmann::json duplicates;
  std::string digest;                 ///< of the bytes and labels to learn from and to validate on
  std::vector<std::string> warnings;  ///< for the user and the run's log, once there is one
};

/// The dataset of a request, all images hashed, those in two splits noted.
StreamImages open_contents(const LearnRequest& request);
std::shared_ptr<ImageSource> open_split(const LearnRequest& request, const LearnPlan& plan,
                                        const ModelDirectory& directory, const StreamImages& images, Split split);
/// Every image of a split once; what is left out is told and counted.
void decode(ImageSource& source, Split split, const LearnRequest& request, StreamImages& images);
/// Opens and decodes the splits to learn from and to validate on.
void read_images(StreamImages& images, const LearnRequest& request, const LearnPlan& plan,
                 const ModelDirectory& directory);
void give_warnings(StreamImages& images, Listener& listener);

}  // namespace recast
