#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "recast/run/class_stream.h"
#include "recast/run/stream_figures.h"
#include "recast/train/learn.h"

namespace recast {

/// Rows and the head's column of each.
struct StreamRows {
  std::shared_ptr<const Source> source;  ///< its labels are columns
  std::vector<std::int64_t> columns;     ///< [rows]
};

/// A class-incremental stream ready to be learned: one head for all classes, no task id. Cheap to copy.
struct ClassIncremental {
  Model start;  ///< its numbers are not looked at
  std::string task;
  std::vector<std::string> labels;  ///< [C] texts, in the order of the columns
  ClassStream stream;               ///< its rows are those of `train`
  StreamRows train, validation, test;
  /// For plug-ins that prepare themselves; null: the first step's rows. Labels are taken away.
  std::shared_ptr<const Source> unlabelled;
  Recipe recipe;
  std::uint64_t seed = 42;
  bool forward_transfer = true;  ///< learn each step's new classes alone as well
  std::string data = {};  ///< as Budget::data
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
  std::function<Model(std::string_view task)> other_task = nullptr;
};

struct StepOutcome {
  Learned learned;
  StepFigures figures;
  Evaluation test;  ///< of all classes seen
  std::int64_t new_rows = 0, known_rows = 0, validation_rows = 0;
};

/// Learns step `s` on top of `before`, the numbers (scopes kTask and kShared) that the step before it left; empty for
/// the first. It sees the step's training rows, and to choose by the validation rows of the classes that come in this
/// step; rows of earlier steps only where the stream brings them again. Then it measures on the test rows of all
/// classes seen, by which nothing is chosen. Deterministic for a seed, whatever the steps before were called for.
/// Throws  as learn(); kUnsupported: a stream in which classes come back and a head that learns each class once.
StepOutcome learn_stream_step(const ClassIncremental& setting, std::size_t s, const Numbers& before);

/// All steps one after another, each in memory only.
std::vector<StepOutcome> learn_stream(const ClassIncremental& setting);

/// Throws kUnsupported: classes come back in the stream, and the recipe's head learns each class once.
void check_stream(const Composition& recipe, StreamKind kind);

}  // namespace recast
