#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "passes.h"
#include "recast/format/tensor_file.h"

namespace recast {

void check_stop(const std::atomic<bool>* stop) {
  if (stop && stop->load()) fail(Code::kCancelled, "[learn] stopped on request");
}

std::int64_t evaluation_batches(const Source& source) {
  return (source.rows() + source.plain_batch() - 1) / source.plain_batch();
}

std::vector<std::int64_t> all_rows(const Source& source) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(source.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

void for_each_batch(const Source& source, const std::atomic<bool>* stop, Listener* listener,
                    const std::function<void(const Batch&)>& use) {
  const at::NoGradGuard no_grad;
  const auto stream = source.open(all_rows(source), source.plain_batch(), false, Key(0));
  const std::int64_t total = evaluation_batches(source);
  std::int64_t done = 0;
  while (const auto batch = stream->next()) {
    use(*batch);
    check_stop(stop);
    if (listener) listener->step(++done, total);
  }
}

namespace {

/// Batches rank, rank + size, ... of all.
std::vector<std::int64_t> rows_of(const Source& source, const Ranks& ranks) {
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < source.rows(); ++row)
    if (row / source.plain_batch() % ranks.size() == ranks.rank()) rows.push_back(row);
  return rows;
}

}  // namespace

void for_each_result(const Source& source, Ranks* ranks, const std::atomic<bool>* stop, Listener* listener,
                     const std::function<Fields(const Batch&)>& compute, const std::function<void(Fields)>& use) {
  if (!ranks || ranks->alone())
    return for_each_batch(source, stop, listener, [&](const Batch& batch) { use(compute(batch)); });
  const at::NoGradGuard no_grad;
  const auto stream = source.open(rows_of(source, *ranks), source.plain_batch(), false, Key(0));
  const std::int64_t total = evaluation_batches(source);
  for (std::int64_t done = 0; done < total;) {
    const auto batch = stream->next();
    check_stop(stop);
    for (const std::string& bytes : ranks->gather(batch ? encode_tensor_file({compute(*batch), {}}) : "")) {
      if (bytes.empty()) continue;
      use(decode_tensor_file(bytes, "another rank").tensors);
      ++done;
      if (listener) listener->step(done, total);
    }
  }
}

namespace {

/// Sums over rows from which an Evaluation follows.
class Tally {
 public:
  explicit Tally(std::int64_t classes) : rows_(static_cast<std::size_t>(classes)), right_(rows_.size()) {
    if (classes <= kMostClassesConfused) result_.confusion.assign(classes, std::vector<std::int64_t>(classes, 0));
  }

  /// What is to be known of each row, from logits [B, C] and labels [B].
  static Fields judge(const at::Tensor& logits, const at::Tensor& label) {
    const at::Tensor log_p = at::log_softmax(logits.to(at::kDouble), 1);
    // A row's rank: how many classes score strictly higher, ties going to the lower class number.
    const at::Tensor own = logits.gather(1, label.unsqueeze(1));
    return {{"truth", log_p.gather(1, label.unsqueeze(1)).squeeze(1)},
            {"rank", logits.gt(own).sum(1)},
            {"answer", logits.argmax(1)},
            {"label", label}};
  }

  void add(const Fields& judged) {
    const at::Tensor &label = judged.at("label"), &answer = judged.at("answer"), &rank = judged.at("rank"),
                     &truth = judged.at("truth");
    for (std::int64_t row = 0; row < label.size(0); ++row) {
      const std::int64_t t = label[row].item<std::int64_t>(), a = answer[row].item<std::int64_t>();
      if (!result_.confusion.empty()) ++result_.confusion.at(t).at(a);
      ++rows_.at(t);
      right_[t] += t == a;
      top1_ += t == a;
      result_.correct.push_back(t == a);
      top5_ += rank[row].item<std::int64_t>() < 5;
      loss_ -= truth[row].item<double>();
      ++result_.rows;
    }
  }

  Evaluation finish() {
    const double rows = static_cast<double>(std::max<std::int64_t>(result_.rows, 1));
    result_.top1 = static_cast<double>(top1_) / rows;
    result_.top5 = static_cast<double>(top5_) / rows;
    result_.loss = loss_ / rows;
    for (std::size_t c = 0; c < rows_.size(); ++c)
      result_.per_class.push_back(rows_[c] == 0 ? -1 : static_cast<double>(right_[c]) / static_cast<double>(rows_[c]));
    return std::move(result_);
  }

 private:
  Evaluation result_;
  std::vector<std::int64_t> rows_, right_;  // by class
  std::int64_t top1_ = 0, top5_ = 0;
  double loss_ = 0;
};

}  // namespace

Evaluation evaluate(const Model& model, const Source& source, std::int64_t classes, bool bf16,
                    const std::atomic<bool>* stop, Listener* listener, Ranks* ranks) {
  Tally tally(classes);
  Run run;
  run.dtype = bf16 ? at::kBFloat16 : at::kFloat;
  const auto judge = [&](const Batch& batch) {
    const at::Tensor logits = model.forward(batch, run).at("logits");
    if (logits.size(1) != classes)
      fail(Code::kShapeMismatch, "[evaluate] the head gives {} classes, the labels are of {}", logits.size(1), classes);
    return Tally::judge(logits, batch.column("label"));
  };
  for_each_result(source, ranks, stop, listener, judge, [&](const Fields& judged) { tally.add(judged); });
  return tally.finish();
}

FeatureTable extract_features(const Model& model, const Source& source, bool bf16, const std::atomic<bool>* stop,
                              Listener* listener, Ranks* ranks) {
  Run run;
  run.dtype = bf16 ? at::kBFloat16 : at::kFloat;
  std::vector<at::Tensor> features, labels;
  const auto extract = [&](const Batch& batch) -> Fields {
    return {{"features", model.features(batch, run)}, {"label", batch.column("label")}};
  };
  for_each_result(source, ranks, stop, listener, extract, [&](const Fields& extracted) {
    features.push_back(extracted.at("features"));
    labels.push_back(extracted.at("label"));
  });
  if (features.empty()) fail(Code::kUnsupported, "[learn] a split without images");
  return {at::cat(features), at::cat(labels)};
}

}  // namespace recast
