#include "recast/run/image_pool.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "recast/base/error.h"

namespace recast {

std::unique_ptr<Dataset> open_images(const ImageChoice& choice) {
  return limit_per_class(
      choose_classes(open_dataset(choice.data, choice.split_seed), choice.classes, choice.superclasses),
      choice.limit_train, choice.limit_test, choice.limit_validation);
}

ImageChoice recorded_images(const nlohmann::json& data) {
  const auto of = [](const nlohmann::json& object, const char* key) { return object.value(key, std::int64_t{0}); };
  ImageChoice choice;
  if (!data.is_object()) return choice;
  choice.data = data.value("path", std::string());
  choice.split_seed = data.value("split_seed", choice.split_seed);
  const nlohmann::json limits = data.value("limits", nlohmann::json());
  if (limits.is_object()) {
    choice.limit_train = of(limits, "train");
    choice.limit_validation = of(limits, "validation");
    choice.limit_test = of(limits, "test");
  }
  // Written by describe_splits(), or by a stranger.
  if (data.value("chosen", nlohmann::json()) == true && data.contains("classes") && data["classes"].is_array())
    for (const nlohmann::json& name : data["classes"])
      if (name.is_string()) choice.classes.push_back(name);
  return choice;
}

std::shared_ptr<const Dataset> ImagePool::dataset(const ImageChoice& choice) {
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const auto& choices = (*entry)->choices;
    if (std::find(choices.begin(), choices.end(), choice) == choices.end()) continue;
    entries_.splice(entries_.begin(), entries_, entry);
    return entries_.front()->dataset;
  }
  drop_oldest();
  auto entry = std::make_shared<Entry>();
  entry->dataset = open_images(choice);
  entry->choices = {choice, choice};
  if (entry->dataset->chosen()) {  // as the records of tasks have it
    entry->choices[1].superclasses.clear();
    entry->choices[1].classes = entry->dataset->classes();
  }
  entries_.push_front(std::move(entry));
  return entries_.front()->dataset;
}

/// Makes room for one more.
void ImagePool::drop_oldest() {
  const auto held = [this] {
    std::int64_t bytes = 0;
    for (const auto& entry : entries_)
      for (const auto& [view, pixels] : entry->pixels) bytes += pixels->cached_bytes();
    return bytes;
  };
  while (!entries_.empty() && (entries_.size() >= most_ || held() > bytes_)) entries_.pop_back();
}

std::shared_ptr<ImagePool::Entry> ImagePool::entry_of(const Dataset& dataset) {
  for (const auto& entry : entries_)
    if (entry->dataset.get() == &dataset) return entry;
  return nullptr;
}

std::shared_ptr<const Contents> ImagePool::contents(const std::shared_ptr<const Dataset>& dataset,
                                                    const VisitOptions& options) {
  std::shared_ptr<Entry> entry;
  {
    const std::lock_guard lock(mutex_);
    entry = entry_of(*dataset);
  }
  if (!entry) return std::make_shared<Contents>(scan_contents(*dataset, options));
  const std::lock_guard lock(entry->filling);
  if (!entry->contents) entry->contents = std::make_shared<Contents>(scan_contents(*dataset, options));
  return entry->contents;
}

std::shared_ptr<const Pixels> ImagePool::pixels(const std::shared_ptr<const Dataset>& dataset, Split split,
                                                const Preprocessing& preprocessing) {
  struct Held {
    Held(std::shared_ptr<const Dataset> of, Split split, const Preprocessing& preprocessing, std::int64_t bytes)
        : dataset(std::move(of)), pixels(*dataset, split, preprocessing, bytes) {}
    const std::shared_ptr<const Dataset> dataset;
    const Pixels pixels;
  };
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Entry> entry = entry_of(*dataset);
  const View view{split, preprocessing.size_px, preprocessing.crop_pct, preprocessing.interpolation};
  if (entry)
    if (const auto found = entry->pixels.find(view); found != entry->pixels.end()) return found->second;
  const auto held = std::make_shared<Held>(dataset, split, preprocessing, bytes_);
  const std::shared_ptr<const Pixels> made(held, &held->pixels);
  if (entry) entry->pixels.emplace(view, made);
  return made;
}

}  // namespace recast
