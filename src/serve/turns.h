#pragma once
#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <unordered_map>
#include <utility>

namespace recast {

template <class Item>
std::int64_t weightless(const Item&) {
  return 0;
}

/// What waits, in a line for each caller. Callers take turns item by item, and the items of one come in their order.
/// `Weight`: what std::invoke() takes for the weight of an item, which is summed up for each line and for all of them.
/// Threads  one at a time.
template <class Item, auto Weight = &weightless<Item>>
class Turns {
 public:
  /// One caller's, never empty.
  struct Line {
    std::string caller;
    std::list<Item> items;
    std::int64_t weight = 0;
  };

  Turns() = default;
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  /// Whose turn it is in front.
  const std::list<Line>& lines() const { return lines_; }
  /// Null: nothing of this caller waits.
  const Line* line_of(const std::string& caller) const {
    const auto found = by_caller_.find(caller);
    return found == by_caller_.end() ? nullptr : &*found->second;
  }
  std::int64_t size() const { return size_; }  ///< items, of all callers
  std::int64_t weight() const { return weight_; }

  /// At least one, behind what waits of this caller. Nothing has changed where there is no memory.
  void add(const std::string& caller, std::list<Item> items) {
    auto own = by_caller_.find(caller);
    if (own == by_caller_.end()) {
      std::list<Line> fresh(1);
      fresh.front().caller = caller;
      own = by_caller_.emplace(caller, fresh.begin()).first;
      lines_.splice(lines_.end(), fresh);
    }
    Line& line = *own->second;
    for (const Item& item : items) {
      const std::int64_t weight = std::invoke(Weight, item);
      line.weight += weight;
      weight_ += weight;
      ++size_;
    }
    line.items.splice(line.items.end(), items);
  }

  /// Of the caller whose turn it is; there must be one.
  Item next() {
    Line& line = lines_.front();
    Item item = std::move(line.items.front());
    line.items.pop_front();
    const std::int64_t weight = std::invoke(Weight, item);
    line.weight -= weight;
    weight_ -= weight;
    --size_;
    if (line.items.empty()) {
      by_caller_.erase(line.caller);
      lines_.pop_front();
    } else {
      lines_.splice(lines_.end(), lines_, lines_.begin());
    }
    return item;
  }

  /// All, which do not wait any more.
  std::list<Line> take_all() {
    by_caller_.clear();
    size_ = weight_ = 0;
    return std::exchange(lines_, {});
  }

 private:
  std::list<Line> lines_;
  std::unordered_map<std::string, typename std::list<Line>::iterator> by_caller_;
  std::int64_t size_ = 0, weight_ = 0;
};

}  // namespace recast
