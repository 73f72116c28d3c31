#include "recast/method/truth.h"

#include <ATen/ATen.h>

#include "recast/base/error.h"

namespace recast {
namespace {

/// The stable id of a row, or its place in the batch where there is none.
std::int64_t sample_of(const Batch& truth, std::int64_t row) {
  return truth.has("sample") ? truth.column("sample")[row].item<std::int64_t>() : row;
}

}  // namespace

void append_rows(Context& context, std::string_view family, const at::Tensor& rows) {
  State& own = context.own(Scope::kShared);
  if (!own.has(family))
    context.create(family, rows);
  else
    own.set(std::string(family), at::cat({own.tensor(family), rows}));
}

at::Tensor finite_features(std::string_view plug, const Fields& in, const Batch& truth) {
  const at::Tensor features = in.at("features");
  const at::Tensor bad = features.isfinite().all(1).logical_not();
  if (bad.any().item<bool>())
    fail(Code::kDataCorruption, "[{}] the features of sample {} hold NaN or infinity", plug,
         sample_of(truth, bad.nonzero()[0].item<std::int64_t>()));
  return features;
}

at::Tensor known_columns(std::string_view plug, const Batch& truth, std::int64_t classes) {
  const at::Tensor label = truth.column("label");
  const at::Tensor bad = label.lt(0).logical_or(label.ge(classes));
  if (bad.any().item<bool>()) {
    const std::int64_t row = bad.nonzero()[0].item<std::int64_t>();
    fail(Code::kInvalidArgument, "[{}] sample {} has label {}, and the head has columns 0 to {}", plug,
         sample_of(truth, row), label[row].item<std::int64_t>(), classes - 1);
  }
  return label;
}

std::optional<Phase> one_pass(Context& context, std::string name, std::string source) {
  State& run = context.own(Scope::kRun);
  const std::string key = number_name(kPassed, {}, name);
  if (run.has(key)) return {};
  run.set(key, std::int64_t{1});
  Phase phase;
  phase.name = std::move(name);
  phase.source = std::move(source);
  return phase;
}

}  // namespace recast
