#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "layer_features.h"
#include "recast/run/report.h"

namespace recast {

/// A test image and what the task says of it.
struct ExampleImage {
  std::string id, png, truth, answer;
  double probability = 0;  ///< of the answer
  bool right() const { return truth == answer; }
};

/// A task's effective weight W' beside the backbone's own W.
struct WeightChange {
  std::string slot;
  double relative = 0;  ///< |W' - W| / |W|, Frobenius
  double cosine = 1;    ///< of W' and W as vectors
};

struct TaskFacts {
  TaskRecord record;       ///< without its numbers
  nlohmann::json metrics;  ///< the record's, an object in any case
  nlohmann::json counts;   ///< count_numbers(), or an empty object
  std::int64_t versions = 1, file_bytes = 0;
  std::vector<std::string> notes;               ///< what could not be shown, and why
  bool loaded = false, moves_features = false;  ///< moves_features: where it was loaded
  std::vector<ExampleImage> examples;
  std::vector<WeightChange> weights;
  std::vector<FeatureLikeness> features;
  std::optional<nlohmann::json> measured;  ///< figures of test, taken now
  std::string head_alone;                  ///< task that trained nothing but a head on the same images; empty: none

  bool head_only() const { return loaded && !moves_features; }
};

struct ReportFacts {
  nlohmann::json model;          ///< inspect_directory()
  std::string name;              ///< of the directory
  std::vector<TaskFacts> tasks;  ///< oldest first
  std::string written_utc;
};

/// Throws as report_html(). A task that cannot be loaded or measured becomes a note.
ReportFacts collect_facts(const ModelDirectory& directory, const ReportOptions& options);

// What a record says comes from files of others too, so nothing is taken for granted about it.

/// The text of a key, other values as JSON; empty if there is none.
std::string text_at(const nlohmann::json& document, const char* key);
/// The number at a path of keys, if there is one.
std::optional<double> number_at(const nlohmann::json& document, std::initializer_list<const char*> keys);

}  // namespace recast
