#pragma once
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace recast {

/// What was used last, up to so many bytes. An entry that alone is larger is not kept. Values that are in use elsewhere
/// live on there after they leave. Threads: all calls in parallel.
template <class Value>
class ByteCache {
 public:
  explicit ByteCache(std::int64_t budget) : budget_(budget) {}

  /// Null if it is not kept.
  std::shared_ptr<Value> find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;
  }

  /// The entry of this key, which is `value` unless another thread was first.
  std::shared_ptr<Value> keep(const std::string& key, std::shared_ptr<Value> value, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (const auto found = places_.find(key); found != places_.end()) return found->second->value;
    if (bytes > budget_) return value;
    entries_.push_front({key, value, bytes});
    places_[key] = entries_.begin();
    bytes_ += bytes;
    while (bytes_ > budget_) drop(std::prev(entries_.end()));
    return value;
  }

  void erase(const std::string& key) {
    const std::lock_guard lock(mutex_);
    if (const auto found = places_.find(key); found != places_.end()) drop(found->second);
  }

  std::int64_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return places_.size();
  }

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<Value> value;
    std::int64_t bytes;
  };
  using Place = typename std::list<Entry>::iterator;

  void drop(Place place) {
    bytes_ -= place->bytes;
    places_.erase(place->key);
    entries_.erase(place);
  }

  const std::int64_t budget_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last in front
  std::unordered_map<std::string, Place> places_;
  std::int64_t bytes_ = 0;
};

}  // namespace recast
