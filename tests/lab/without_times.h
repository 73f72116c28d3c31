#pragma once
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace recast {

/// A lab's document without what two runs of the same lab may differ in: times, machine, places.
inline nlohmann::json without_times(nlohmann::json value) {
  static const std::set<std::string> kTimes = {"seconds", "learn_seconds", "eval_seconds", "finished_utc",
                                               "command", "machine",       "out",          "file"};
  if (value.is_object())
    for (auto entry = value.begin(); entry != value.end();) {
      if (kTimes.count(entry.key()) > 0) {
        entry = value.erase(entry);
      } else {
        *entry = without_times(*entry);
        ++entry;
      }
    }
  if (value.is_array())
    for (auto& entry : value) entry = without_times(entry);
  return value;
}

}  // namespace recast
