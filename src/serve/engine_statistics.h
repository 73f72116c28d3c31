#pragma once
#include <list>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "ticket.h"

namespace recast {

/// Counts and times of the models that were used, those used last up to `models`. Threads: all calls in parallel.
class EngineStatistics {
 public:
  explicit EngineStatistics(std::size_t models) : models_(models) {}

  void add(const std::string& model, const std::string& version, const RequestRows& rows, const RequestTimes& times,
           bool failed);
  /// As the statistics extension of the protocol has it, by name and version; an empty name: all.
  nlohmann::json model_stats(const std::string& model, const std::string& version) const;

 private:
  using Key = std::pair<std::string, std::string>;
  struct Duration {
    std::int64_t count = 0, ns = 0;
    void add(std::int64_t more_ns) { ++count, ns += more_ns; }
  };
  struct Counts {
    std::int64_t last_ms = 0, rows = 0, requests = 0;
    Duration success, fail, queue, input, infer, output;
    std::list<Key>::iterator place;
  };

  Counts& counts(const Key& key);

  const std::size_t models_;
  mutable std::mutex mutex_;
  std::map<Key, Counts> by_model_;
  std::list<Key> order_;  // the one used last in front
};

}  // namespace recast
