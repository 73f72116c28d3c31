#pragma once
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "recast/comm/ranks.h"
#include "recast/method/model.h"
#include "recast/method/recipe.h"

namespace recast {

/// Rows to learn from or to measure on, by index. Threads: read() in parallel.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::int64_t rows() const = 0;
  /// Batches over `order` (row indices), one after another; empty when done. Columns "input" or "features", "label",
  /// "sample" (row index). augmented: draws from `key` and the row's id alone.
  virtual std::unique_ptr<class BatchStream> open(std::vector<std::int64_t> order, std::int64_t batch_size,
                                                  bool augmented, Key key) const = 0;
  /// Rows of a batch where nothing is trained; fixed, so that figures do not depend on a recipe's batch size.
  virtual std::int64_t plain_batch() const { return 64; }
};
class BatchStream {
 public:
  virtual ~BatchStream() = default;
  virtual std::optional<Batch> next() = 0;
};

struct Sources {
  std::shared_ptr<const Source> train, validation;
  /// Rows without labels for plug-ins that prepare themselves (codebooks); null: those to train on.
  std::shared_ptr<const Source> unlabelled = nullptr;
};

/// With more classes the table would take more memory than the model: 32 MB at this many.
inline constexpr std::int64_t kMostClassesConfused = 2048;

/// Figures of a pass over labelled rows. top1, top5 and per_class lie in 0..1; top5 counts among min(5, C).
struct Evaluation {
  double top1 = 0, top5 = 0, loss = 0;
  std::vector<double> per_class;                     ///< accuracy of each class; -1 for a class without rows
  std::vector<std::vector<std::int64_t>> confusion;  ///< [truth][answer]; empty above kMostClassesConfused classes
  std::vector<bool> correct;                         ///< [rows] of top 1, in order; checkpoints do not keep it
  std::int64_t rows = 0;
};

/// One line of metrics.csv.
struct EpochMetrics {
  std::string stage;  ///< "head", "train", "refit"
  std::int64_t epoch = 0;
  double train_loss = 0, validation_loss = 0, validation_top1 = 0, rate = 0, seconds = 0;
  std::int64_t skipped_steps = 0;  ///< non-finite losses or gradients, skipped and counted
};

/// What a run reports while it goes on. Called from the learning thread.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual void stage(const std::string& name, std::int64_t total_steps) {}
  virtual void step(std::int64_t done, std::int64_t total) {}
  virtual void epoch(const EpochMetrics&) {}
  virtual void note(const std::string& text) {}
  /// Something that makes the figures doubtful: to be shown even where nothing else is.
  virtual void warning(const std::string& text) { note("WARNING: " + text); }
  /// A run goes on from a checkpoint: the epochs that were reported before it.
  virtual void resumed(const std::vector<EpochMetrics>& history) {}
};

/// Features of a source's rows in order, evaluation mode, no augmentation: [rows, D] fp32, and labels [rows].
struct FeatureTable {
  at::Tensor features, labels;
};

struct Budget {
  std::uint64_t seed = 42;
  std::map<std::string, double> rates;      ///< by plug-in alias, before everything else
  std::string data;                         ///< what tells these rows from others: a checkpoint of others is refused
  std::filesystem::path checkpoint;         ///< written after each stage, each epoch and on a stop; empty: none
  bool resume = false;                      ///< go on from `checkpoint` if it is there
  const std::atomic<bool>* stop = nullptr;  ///< set by Ctrl-C: stops after the step at hand (kCancelled)
  Listener* listener = nullptr;
  Ranks* ranks = nullptr;  ///< who share the work, each with a call of its own; null: nobody
  std::function<Model(std::string_view task)> other_task;  ///< for Context::model("task:NAME")
  /// What extract_features() gives for the bare backbone, from whoever keeps it; asked only as long as all plug-ins
  /// leave features as they are (Claim::kNeutralStart). No value: it is computed.
  std::function<std::optional<FeatureTable>(const Source&, bool bf16)> bare_features;
};

struct Learned {
  Model model;                                             ///< with the numbers kept
  std::string kept;                                        ///< "head", "train", "refit" or "last": which candidate won
  std::vector<std::pair<std::string, double>> candidates;  ///< stage -> validation top1
  std::vector<EpochMetrics> history;
  Evaluation validation;
  double seconds = 0;           ///< of all sittings of a resumed run, up to their last checkpoints
  std::int64_t best_epoch = 0;  ///< epochs done when the numbers kept were taken; 0: none
  std::int64_t step_bytes = 0;  ///< of gradients that a rank other than 0 sends in a step, and gets back summed
};

/// The checkpoint before the newest one, beside it: what a run goes on from where the newest one is damaged or missing.
std::filesystem::path previous_checkpoint(const std::filesystem::path& newest);

/// Learns one task: phases of the plug-ins, the recipe's epochs, the best epoch by validation. Reentrant; the model
/// handed in is not changed. Deterministic for a seed, a machine and a thread count, also when it is killed at any
/// moment and resumed: same numbers, same history but for its seconds.
/// Several ranks  each takes its rows of every batch, as one process would have drawn them, and its batches of every
///                other pass; gradients are summed, what passes find is gathered in order. So the numbers are those of
///                one process but for the rounding of the summed gradients, and rank 0's on every rank. Only rank 0
///                reads and writes `checkpoint`, also when another one is lost between two steps.
/// Throws kUnsupported (several ranks: plug-ins that drive the step, make its rows, or keep statistics of its batches),
/// RanksParted, kCancelled (stopped, or rejected by a plug-in), kInvalidArgument (parameters that no or two optimisers
/// take).
Learned learn(const Model& start, const Task& task, const Sources& sources, const Recipe& recipe, const Budget& budget);

/// How many batches evaluate() and extract_features() take for a source: the total of their Listener::step().
std::int64_t evaluation_batches(const Source& source);

/// Runs the model over a source in evaluation mode, in order.
/// Several ranks share the batches and find the same bits.
Evaluation evaluate(const Model& model, const Source& source, std::int64_t classes, bool bf16,
                    const std::atomic<bool>* stop = nullptr, Listener* listener = nullptr, Ranks* ranks = nullptr);

/// Throws kUnsupported for a source without rows, kCancelled.
FeatureTable extract_features(const Model& model, const Source& source, bool bf16,
                              const std::atomic<bool>* stop = nullptr, Listener* listener = nullptr,
                              Ranks* ranks = nullptr);

/// L2-regularised multinomial logistic regression on standardised features, by L-BFGS in double; the strength is
/// chosen on the validation rows from a grid that is warm-started from strong to weak. fp32 weight [C, D], bias [C] for
/// unstandardised features.
struct LinearClassifier {
  at::Tensor weight, bias;
  double strength = 0;  ///< inverse strength C of the penalty, as scikit-learn counts it
  double validation_top1 = 0;
};
LinearClassifier fit_logistic(const FeatureTable& train, const FeatureTable& validation, std::int64_t classes);

}  // namespace recast
