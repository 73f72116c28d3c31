#pragma once
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "passes.h"

namespace recast {

/// A candidate for the numbers to keep: those of a stage, judged on the validation rows.
struct Candidate {
  std::string stage;
  Numbers numbers;
  Evaluation validation;
  std::int64_t epoch = 0;
};

/// The numbers of a state whose families train.
State trained_of(const MethodInfo& plug, const State& state);
/// Over those of the same names.
void put(const State& numbers, State& state);

/// The rows of a batch that a rank works on: `rows` of `whole`, from `first` on. Of a smaller batch never more.
struct Share {
  std::int64_t first = 0, rows = 0, whole = 0;
};
Share share_of(std::int64_t whole, const Ranks& ranks);

/// One learning run: the numbers in motion and what plug-ins may ask of them. Not for use from several threads.
class Learner {
 public:
  Learner(const Model& start, const Task& task, const Sources& sources, const Recipe& recipe, const Budget& budget);
  Learned run();

  // For contexts and steps of plug-ins.
  const Task& task() const { return task_; }
  const Composition& recipe() const { return model_.recipe(); }
  const Model& model() const { return model_; }
  Model other_model(std::string_view which) const;
  Numbers& numbers() { return model_.numbers(); }
  Key key() const { return key_; }
  const Counters& counters() const { return counters_; }
  /// Sums a step's gradients and its loss over ranks, on which a gradient may be undefined. A stop that one of them was
  /// asked for is one of all.
  void sum_gradients(double& loss);
  bool alone() const { return ranks_.alone(); }
  std::span<Param> params() { return params_; }
  double clip_norm() const { return settings_.clip_norm; }
  at::ScalarType dtype() const { return settings_.bf16 ? at::kBFloat16 : at::kFloat; }
  at::Tensor create(const Plug& plug, std::string_view name, at::Tensor init);
  void freeze(const Plug& plug, std::string_view name, at::Tensor rows);
  void start_from(std::string_view task);
  Batch draw(const Plug& plug, std::string_view source);
  [[noreturn]] void reject(const Plug& plug, const std::string& reason) const;

 private:
  friend class LearnerCheckpoint;
  void begin();
  /// Whether a number changed.
  bool end_task();
  /// Whether there were any.
  bool run_phases(When when);
  void run_phase(const Plug& plug, const Phase& phase);
  /// One batch of a phase that does not train; whether to go on. `out`: what the batch gives.
  bool visit(const Plug& plug, const Batch& batch, const Fields& out);
  /// A pass whose visits look at the outputs of batches, or at gradients.
  void visit_outputs(const Plug& plug, const Phase& phase, const Source& rows, bool& more);
  void visit_gradients(const Plug& plug, const Phase& phase, const Source& rows, bool& more);
  /// The rest of the phase that a checkpoint was taken in.
  void finish_phase();
  bool run_main_phases();
  void run_main();
  const Candidate& best_candidate() const;
  void fit_head(const std::string& stage);
  /// At the start from whoever keeps them.
  FeatureTable features_of(const Source& source, Listener* listener);
  void train_main();
  /// `epochs` epochs of steps; after each, `after_epoch`.
  void train(const std::string& stage, std::int64_t epochs, const Source& source, bool augmented,
             const std::function<void(EpochMetrics&)>& after_epoch);
  struct EpochSums {
    double loss = 0;
    std::int64_t steps = 0, skipped = 0;
  };
  void train_step(Batch batch, const Share& share, EpochSums& sums);
  void check_ranks() const;
  /// Rank 0's numbers, on every rank.
  void share_numbers();
  /// Whether to end after the step at hand, the same on every rank.
  bool stop_asked() const { return alone() ? budget_.stop && budget_.stop->load() : stop_agreed_; }
  void refresh_params();
  double base_rate(const Plug& plug) const;
  /// Of one number, before the schedule's factor.
  double rate(const Plug& plug, const Family& family, std::string_view number) const;
  void consider(const std::string& stage, Evaluation validation);
  State own_numbers(const std::string& plug, const State& state) const;
  void restore(const Candidate& candidate);
  Evaluation validate();
  void give_feedback(const Evaluation& validation);
  void save_checkpoint() const;
  bool load_checkpoint();
  const Source& source(std::string_view name) const;
  /// Whether there is anything for epochs to move beside the head: trained numbers, or statistics of their batches.
  bool learns_beside_head() const;
  void note(const std::string& text) const;
  void report(const EpochMetrics& metrics);
  /// Spent on this run, sittings before a resume included.
  double seconds() const;

  Model model_, previous_;
  Task task_;
  Sources sources_;
  Recipe settings_;
  Budget budget_;
  Ranks alone_;
  Ranks& ranks_;
  bool stop_agreed_ = false;
  std::int64_t step_bytes_ = 0;
  Key key_;
  Counters counters_;
  std::vector<Param> params_;
  bool params_changed_ = false;
  bool bare_ = false;  ///< the features are still the bare backbone's
  /// How far the run is: what a resumed one skips.
  enum class Place { kBefore, kHead, kMain, kAfter };
  Place place_ = Place::kBefore;
  /// The training phase at hand, which decides whose parameters train and how fast.
  struct Current {
    std::string plug;
    Phase phase;
  };
  std::optional<Current> current_;
  std::map<std::string, std::int64_t> born_;
  std::map<std::string, at::Tensor> frozen_;
  std::map<std::string, std::int64_t> cursors_;
  std::vector<Candidate> candidates_;
  std::vector<EpochMetrics> history_;
  std::int64_t steps_in_epoch_ = 0;  ///< done in the epoch at hand; where a resumed run goes on
  EpochSums sums_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double seconds_before_ = 0;
};

}  // namespace recast
