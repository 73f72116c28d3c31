#include "test_data.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <map>
#include <set>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

/// A dataset opened for a task, and what is to be said about it.
struct OpenedData {
  std::shared_ptr<const Dataset> dataset;
  std::vector<std::string> notes;
};

OpenedData open_data(const TaskRecord& record, const fs::path& chosen, ImagePool* pool) {
  const nlohmann::json& data = record.data;
  const std::string known = test_digest(data);
  const bool has_path = data.is_object() && data.contains("path");
  if (chosen.empty() && !has_path)
    fail(Code::kInvalidArgument, "[eval] task '{}' was not learned from images here: name some with --data PATH",
         record.name);
  ImageChoice choice = recorded_images(data);
  if (!chosen.empty() && chosen != choice.data) choice.classes.clear();  // other data has the task's classes alone
  if (!chosen.empty()) choice.data = chosen;
  const auto open = [pool](const ImageChoice& images) -> std::shared_ptr<const Dataset> {
    return pool ? pool->dataset(images) : open_images(images);
  };
  const bool limited = choice.limit_train > 0 || choice.limit_validation > 0 || choice.limit_test > 0;
  OpenedData opened{open(choice), {}};
  if (test_digest(describe_splits(*opened.dataset)) == known) return opened;
  if (chosen.empty()) {
    opened.notes.push_back(fmt::format(
        "the images in {} are not those that '{}' was learned with: some test images may have been training images",
        printable_path(choice.data), record.name));
  } else if (limited) {  // other data: the limits were not meant for it
    choice.limit_train = choice.limit_validation = choice.limit_test = 0;
    opened.dataset = open(choice);
  }
  return opened;
}

std::string some_of(const std::set<std::string>& names) {
  constexpr std::size_t kShown = 5;
  std::string text;
  std::size_t count = 0;
  for (const std::string& name : names)
    if (count++ < kShown) text += (text.empty() ? "'" : ", '") + printable(name) + "'";
  return count > kShown ? fmt::format("{} and {} more", text, count - kShown) : text;
}

/// The task's label for each class of the dataset, matched by name.
std::vector<std::int64_t> match_labels(const TaskRecord& record, const Dataset& dataset) {
  const std::vector<std::string>&labels = record.labels, &classes = dataset.classes();
  std::map<std::string, std::int64_t> places;
  for (std::size_t c = 0; c < labels.size(); ++c) places[labels[c]] = static_cast<std::int64_t>(c);
  std::set<std::string> unknown, missing(labels.begin(), labels.end());
  std::vector<std::int64_t> label_of_class;
  for (const std::string& name : classes) {
    const auto place = places.find(name);
    missing.erase(name);
    if (place == places.end())
      unknown.insert(name);
    else
      label_of_class.push_back(place->second);
  }
  if (!unknown.empty() || !missing.empty())
    fail(Code::kShapeMismatch,
         "[eval] the labels of {} are not those of task '{}':{}{}{}; give data with the same labels",
         printable_path(dataset.path()), record.name, unknown.empty() ? "" : " only the data has " + some_of(unknown),
         unknown.empty() || missing.empty() ? "" : ",",
         missing.empty() ? "" : " only the task has " + some_of(missing));
  return label_of_class;
}

}  // namespace

std::string test_digest(const nlohmann::json& data) {
  if (!data.is_object() || !data.contains("sha256") || !data["sha256"].is_object()) return "";
  return data["sha256"].value("test", "");
}

TestData use_test_data(const ModelDirectory& directory, const LoadedTask& task, std::shared_ptr<const Dataset> dataset,
                       BadImages bad_images, const std::atomic<bool>* stop, ImagePool* pool) {
  ImageSourceOptions options;
  options.threads = std::max(1, at::get_num_threads());
  if (bad_images == BadImages::kStop) options.cache_bytes = 0;  // one pass
  options.bad_images = bad_images;
  options.device = directory.device();
  options.label_of_class = match_labels(task.record, *dataset);
  if (pool) options.pixels = pool->pixels(dataset, Split::kTest, task.preprocessing);
  auto images = std::make_shared<ImageSource>(dataset, Split::kTest, task.preprocessing, options);
  TestData data{std::move(dataset), images, {}, {}};
  if (bad_images == BadImages::kSkip) images->decode_all(stop, nullptr);
  if (const std::size_t count = images->skipped().size(); count > 0)
    data.notes.push_back(
        fmt::format("{} images cannot be decoded and are skipped, the first: {}", count, images->skipped()[0].reason));
  data.bad_images = describe_skipped(images->skipped());
  return data;
}

TestData open_test_data(const ModelDirectory& directory, const LoadedTask& task, const fs::path& chosen,
                        BadImages bad_images, const std::atomic<bool>* stop, ImagePool* pool) {
  OpenedData opened = open_data(task.record, chosen, pool);
  TestData data = use_test_data(directory, task, std::move(opened.dataset), bad_images, stop, pool);
  data.notes.insert(data.notes.begin(), opened.notes.begin(), opened.notes.end());
  return data;
}

}  // namespace recast
