#include "learning_images.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/data/left_out.h"
#include "recast/format/files.h"
#include "recast/format/settled_path.h"
#include "recast/run/image_pool.h"

namespace recast {
namespace {

void add(const Contents& contents, Split split, Sha256& digest) {
  for (const std::optional<Digest>& image : contents.digests[static_cast<std::size_t>(split)])
    if (image) digest.update({reinterpret_cast<const char*>(image->data()), image->size()});
}

std::string digest_of_learning(const Dataset& dataset, const Contents& contents) {
  Sha256 digest;
  const nlohmann::json names = describe_splits(dataset).at("sha256");
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    digest.update(names.at(name(split)).get<std::string>());
    add(contents, split, digest);
  }
  return digest.finish_hex();
}

/// Hashes all images; warns of those in two splits.
void scan(const LearnRequest& request, LearningImages& images) {
  const Dataset& dataset = *images.dataset;
  VisitOptions options;
  options.threads = std::max(1, at::get_num_threads());
  options.stop = request.stop;
  if (request.listener) {
    std::int64_t rows = 0;
    for (const Split split : kSplits) rows += static_cast<std::int64_t>(dataset.examples(split).size());
    request.listener->stage("hash images", rows);
    options.progress = [&](std::int64_t done, std::int64_t total) { request.listener->step(done, total); };
  }
  images.contents = request.pool ? request.pool->contents(images.dataset, options)
                                 : std::make_shared<Contents>(scan_contents(dataset, options));
  const Duplicates duplicates = find_duplicates(dataset, *images.contents);
  if (request.listener)
    for (const std::string& note : images.contents->notes) request.listener->note(note);
  if (const std::string warning = warning_of(duplicates); !warning.empty()) {
    log_event(LogLevel::kWarn, "images.duplicated", {{"test_in_train", duplicates.test_in_train}});
    images.warnings.push_back(warning);
  }
  if (const LeftOut left_out = images_beside_classes(dataset); left_out.count > 0) {
    log_event(LogLevel::kWarn, "images.left_out", {{"count", left_out.count}});
    images.warnings.push_back(warning_of(left_out));
  }
  images.duplicates = describe(duplicates);
  images.digest = digest_of_learning(dataset, *images.contents);
}

Preprocessing preprocessing_of(const LearnPlan& plan, const ModelDirectory& directory) {
  Preprocessing preprocessing = directory.files().config.preprocessing;
  preprocessing.size_px = plan.image_size;
  return preprocessing;
}

}  // namespace

std::string digest_of(const Contents& contents, Split split) {
  Sha256 digest;
  add(contents, split, digest);
  return digest.finish_hex();
}

LearningImages open_contents(const LearnRequest& request) {
  LearningImages images;
  const ImageChoice choice{settled(request.data), request.split_seed,       request.classes,   request.superclasses,
                           request.limit_train,   request.limit_validation, request.limit_test};
  images.dataset = request.pool ? request.pool->dataset(choice) : open_images(choice);
  scan(request, images);
  images.bad[name(Split::kTest)] = {{"count", 0}, {"first", nlohmann::json::array()}};
  return images;
}

std::shared_ptr<ImageSource> open_split(const LearnRequest& request, const LearnPlan& plan,
                                        const ModelDirectory& directory, const LearningImages& images, Split split) {
  const Preprocessing preprocessing = preprocessing_of(plan, directory);
  ImageSourceOptions options;
  options.threads = std::max(1, at::get_num_threads());
  options.device = directory.device();
  options.bad_images = request.bad_images;
  options.label_of_class = images.classes.label_of_class;
  if (split == Split::kTrain) options.augmentation = Augmentation::named(plan.recipe.augmentation);
  if (request.pool) options.pixels = request.pool->pixels(images.dataset, split, preprocessing);
  return std::make_shared<ImageSource>(images.dataset, split, preprocessing, options);
}

void decode(ImageSource& source, Split split, const LearnRequest& request, LearningImages& images) {
  if (request.listener) request.listener->stage(fmt::format("read {} images", name(split)), source.rows());
  source.decode_all(request.stop, request.listener);
  images.bad[name(split)] = describe_skipped(source.skipped());
  if (source.skipped().empty()) return;
  log_event(LogLevel::kWarn, "images.skipped", {{"split", name(split)}, {"count", source.skipped().size()}});
  images.warnings.push_back(fmt::format("{} {} images cannot be decoded and are skipped, the first: {}",
                                        source.skipped().size(), name(split), source.skipped()[0].reason));
}

void read_images(LearningImages& images, const LearnRequest& request, const LearnPlan& plan,
                 const ModelDirectory& directory) {
  images.train = open_split(request, plan, directory, images, Split::kTrain);
  images.validation = open_split(request, plan, directory, images, Split::kValidation);
  decode(*images.train, Split::kTrain, request, images);
  decode(*images.validation, Split::kValidation, request, images);
}

SplitFeatures split_features(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                             const LearningImages& images, Split split, bool bf16, Listener& listener,
                             const ImageSource* source) {
  return feature_cache().features({directory, *images.dataset, *images.contents, split,
                                   preprocessing_of(plan, directory), request.bad_images, bf16, request.stop, &listener,
                                   source});
}

std::optional<FeatureTable> bare_features(const LearnRequest& request, const LearnPlan& plan,
                                          const ModelDirectory& directory, const LearningImages& images, Split split,
                                          bool bf16, Listener& listener) {
  const ImageSource& source = *(split == Split::kTrain ? images.train : images.validation);
  const SplitFeatures kept = split_features(request, plan, directory, images, split, bf16, listener, &source);
  if (!at::equal(kept.rows, at::tensor(source.split_rows(), at::kLong))) return {};
  listener.note(fmt::format("features of {} {} images from {}", kept.rows.size(0), name(split), kept.from));
  const at::Tensor labels = images.classes.label_of_class.empty()
                                ? kept.labels
                                : at::tensor(images.classes.label_of_class, at::kLong).index_select(0, kept.labels);
  return FeatureTable{kept.features.to(directory.device()), labels.to(directory.device())};
}

void give_warnings(LearningImages& images, Listener& listener) {
  for (const std::string& warning : images.warnings) listener.warning(warning);
  images.warnings.clear();
}

}  // namespace recast
