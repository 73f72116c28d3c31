#include "recast/run/compare_tasks.h"

#include <chrono>
#include <set>

#include "recast/base/error.h"
#include "recast/base/statistics.h"
#include "recast/format/printable.h"
#include "recast/format/settled_path.h"
#include "recast/run/learn_seeds.h"
#include "recast/run/provenance.h"
#include "test_data.h"

namespace recast {
namespace {

/// One side of a pair, measured.
struct Measured {
  nlohmann::json about;
  Evaluation evaluation;
};

/// Everything that is the same for all pairs.
class Comparison {
 public:
  Comparison(const ModelDirectory& directory, const CompareRequest& request)
      : directory_(directory), request_(request) {
    if (!request.data.empty()) dataset_ = open_dataset(settled(request.data));
  }

  void add_pair(const std::string& a, const std::string& b) {
    const Measured ours = measure(a), theirs = measure(b);
    require_new("a", ours.about);
    require_new("b", theirs.about);
    if (ours.evaluation.rows != theirs.evaluation.rows ||
        (!pairs_.empty() && images_.size() != ours.evaluation.correct.size()))
      fail(Code::kDataCorruption, "[compare] the test images changed meanwhile: {} of '{}', {} of '{}'",
           ours.evaluation.rows, a, theirs.evaluation.rows, b);
    std::int64_t only_a = 0, only_b = 0;
    images_.resize(ours.evaluation.correct.size());
    for (std::size_t row = 0; row < images_.size(); ++row) {
      const int difference = int{theirs.evaluation.correct.at(row)} - int{ours.evaluation.correct.at(row)};
      only_a += difference < 0;
      only_b += difference > 0;
      images_[row] += difference;
    }
    pairs_.push_back({{"a", ours.about},
                      {"b", theirs.about},
                      {"only_a", only_a},
                      {"only_b", only_b},
                      {"difference", theirs.evaluation.top1 - ours.evaluation.top1}});
  }

  nlohmann::json report() const {
    return {{"data", data_},   {"rows", images_.size()},       {"notes", notes_},
            {"pairs", pairs_}, {"over_images", over_images()}, {"over_seeds", over_seeds()}};
  }

 private:
  /// Counted twice, a version would pass for two independent ones and make every interval too narrow.
  void require_new(const char* side, const nlohmann::json& about) const {
    for (const nlohmann::json& pair : pairs_)
      if (pair.at(side).at("task") == about.at("task") && pair.at(side).at("version") == about.at("version"))
        fail(Code::kInvalidArgument, "[compare] '{}:{}' is given twice on one side: each version counts once",
             about.at("task").get<std::string>(), about.at("version").get<std::int64_t>());
  }

  Measured measure(const std::string& name) {
    const LoadedTask task = directory_.load(name);
    dataset_ ? require_unseen_images(task.record) : require_same_images(task.record);
    const TestData data = dataset_ ? use_test_data(directory_, task, dataset_, request_.bad_images, request_.stop)
                                   : open_test_data(directory_, task, {}, request_.bad_images, request_.stop);
    data_ = printable_path(data.dataset->path());
    notes_.insert(data.notes.begin(), data.notes.end());
    if (request_.listener) request_.listener->stage("evaluate " + name, evaluation_batches(*data.images));
    Measured out{{},
                 evaluate(task.model, *data.images, static_cast<std::int64_t>(task.record.labels.size()), request_.bf16,
                          request_.stop, request_.listener)};
    out.about = {{"task", task.record.name}, {"version", task.record.version}, {"top1", out.evaluation.top1}};
    return out;
  }

  /// With the same folder, another split would test on what was learned.
  void require_unseen_images(const TaskRecord& record) const {
    const std::string path = record.data.is_object() ? record.data.value("path", "") : "";
    if (path == dataset_->path().string() && test_digest(record.data) != test_digest(describe_splits(*dataset_)))
      fail(Code::kInvalidArgument,
           "[compare] '{}' was learned from {} with another split, so it may have seen these test images: name others "
           "with --data",
           record.name, printable(path, 300));
  }

  void require_same_images(const TaskRecord& record) {
    const std::string digest = test_digest(record.data);
    if (first_.empty()) first_ = record.name, digest_ = digest;
    if (digest.empty() || digest != digest_)
      fail(Code::kInvalidArgument,
           "[compare] '{}' and '{}' were not learned from the same data and split, so the test images of one may have "
           "taught the other: name images that neither has seen with --data PATH",
           first_, record.name);
  }

  nlohmann::json over_images() const {
    std::vector<double> differences;
    for (const int sum : images_) differences.push_back(sum / static_cast<double>(pairs_.size()));
    const Spread s = spread(differences);
    const bool one = pairs_.size() == 1;
    const double p =
        one ? mcnemar_p(pairs_[0].at("only_a"), pairs_[0].at("only_b")) : paired_t_p(differences).value_or(1);
    return {{"test", one ? "McNemar, exact" : "paired t"},
            {"difference", s.mean},
            {"interval95", s.interval95 ? nlohmann::json{s.interval95->low, s.interval95->high} : nlohmann::json()},
            {"p", p}};
  }

  nlohmann::json over_seeds() const {
    if (pairs_.size() < 2) return nullptr;
    std::vector<double> differences;
    for (const nlohmann::json& pair : pairs_) differences.push_back(pair.at("difference"));
    nlohmann::json out = spread_json(differences);
    out.update({{"test", "paired t"}, {"p", paired_t_p(differences).value()}});
    return out;
  }

  const ModelDirectory& directory_;
  const CompareRequest& request_;
  std::shared_ptr<const Dataset> dataset_;  ///< the one that the request names, for all
  std::string first_, digest_, data_;
  std::set<std::string> notes_;
  std::vector<nlohmann::json> pairs_;
  std::vector<int> images_;  ///< per image: in how many pairs only b has it right, less those where only a has
};

}  // namespace

nlohmann::json compare_tasks(const ModelDirectory& directory, const CompareRequest& request) {
  const auto start = std::chrono::steady_clock::now();
  if (request.a.empty() || request.a.size() != request.b.size())
    fail(Code::kInvalidArgument, "[compare] pairs are compared: as many tasks on both sides, got {} and {}",
         request.a.size(), request.b.size());
  Comparison comparison(directory, request);
  for (std::size_t i = 0; i < request.a.size(); ++i) comparison.add_pair(request.a[i], request.b[i]);
  nlohmann::json report = comparison.report();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  report.update(provenance(request.command, seconds.count()));
  return report;
}

}  // namespace recast
