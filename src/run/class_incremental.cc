#include "recast/run/class_incremental.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "recast/base/error.h"
#include "recast/run/row_sources.h"

namespace recast {
namespace {

/// Rows whose column `wanted` takes.
template <class Wanted>
std::vector<std::int64_t> rows_where(const StreamRows& rows, const Wanted& wanted) {
  std::vector<std::int64_t> chosen;
  for (std::size_t row = 0; row < rows.columns.size(); ++row)
    if (wanted(rows.columns[row])) chosen.push_back(static_cast<std::int64_t>(row));
  return chosen;
}

std::shared_ptr<const Source> choose(const StreamRows& rows, std::vector<std::int64_t> chosen, std::int64_t first = 0) {
  return std::make_shared<ChosenRows>(rows.source, std::move(chosen), ChosenRows::Labels{first, true});
}

std::vector<std::string> labels_of(const ClassIncremental& setting, std::int64_t first, std::int64_t classes) {
  const auto begin = setting.labels.begin() + first;
  return {begin, begin + classes};
}

std::shared_ptr<const Source> unlabelled_rows(const ClassIncremental& setting) {
  const auto& source = setting.unlabelled ? setting.unlabelled : setting.train.source;
  std::vector<std::int64_t> rows = setting.stream.steps.front().rows;
  if (setting.unlabelled) {
    rows.resize(static_cast<std::size_t>(source->rows()));
    std::iota(rows.begin(), rows.end(), 0);
  }
  return std::make_shared<ChosenRows>(source, std::move(rows), ChosenRows::Labels{0, false});
}

Learned learn_rows(const ClassIncremental& setting, const Numbers& before, std::vector<std::string> labels,
                   const Sources& sources) {
  Model start = setting.start;
  start.numbers() = before;
  Budget budget;
  budget.seed = setting.seed;
  budget.data = setting.data;
  budget.stop = setting.stop;
  budget.listener = setting.listener;
  budget.other_task = setting.other_task;
  return learn(start, Task{setting.task, std::move(labels)}, sources, setting.recipe, budget);
}

/// Share of right answers on the test rows of some columns, where only these compete. The model's column of `first` is
/// `first` - `dropped`.
double accuracy_within(const ClassIncremental& setting, const Model& model, std::int64_t first, std::int64_t classes,
                       std::int64_t dropped) {
  const at::NoGradGuard no_grad;
  const auto rows = rows_where(setting.test, [&](std::int64_t c) { return c >= first && c < first + classes; });
  const auto source = choose(setting.test, rows, first);
  std::vector<std::int64_t> order(rows.size());
  std::iota(order.begin(), order.end(), 0);
  const auto stream = source->open(order, source->plain_batch(), false, Key(0));
  std::int64_t right = 0;
  while (const auto batch = stream->next()) {
    const at::Tensor logits = model.forward(*batch, {}).at("logits").narrow(1, first - dropped, classes);
    right += logits.argmax(1).eq(batch->column("label")).sum().item<std::int64_t>();
  }
  return static_cast<double>(right) / static_cast<double>(std::max<std::size_t>(rows.size(), 1));
}

/// Of a head that learns the new classes of a step and nothing else.
double accuracy_alone(const ClassIncremental& setting, const StreamStep& step) {
  std::vector<std::int64_t> rows;
  const auto is_new = [&](std::int64_t c) { return c >= step.first && c < step.first + step.classes; };
  for (const std::int64_t row : step.rows)
    if (is_new(setting.train.columns[static_cast<std::size_t>(row)])) rows.push_back(row);
  const Sources sources{choose(setting.train, std::move(rows), step.first),
                        choose(setting.validation, rows_where(setting.validation, is_new), step.first),
                        unlabelled_rows(setting)};
  const Learned alone = learn_rows(setting, {}, labels_of(setting, step.first, step.classes), sources);
  return accuracy_within(setting, alone.model, step.first, step.classes, step.first);
}

/// Test rows of all classes seen, group by group.
void measure(const ClassIncremental& setting, std::size_t s, StepOutcome& outcome) {
  const std::int64_t seen = setting.stream.seen(s);
  const auto rows = rows_where(setting.test, [&](std::int64_t c) { return c < seen; });
  const auto source = choose(setting.test, rows);
  if (setting.listener) setting.listener->stage("test", evaluation_batches(*source));
  outcome.test = evaluate(outcome.learned.model, *source, seen, false, setting.stop, setting.listener);
  std::vector<std::int64_t> right(s + 1), count(s + 1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t column = setting.test.columns[static_cast<std::size_t>(rows[i])];
    std::size_t group = 0;
    while (column >= setting.stream.seen(group)) ++group;
    ++count[group];
    right[group] += outcome.test.correct[i];
  }
  StepFigures& figures = outcome.figures;
  figures.classes = seen;
  figures.test_rows = outcome.test.rows;
  figures.top1 = outcome.test.top1;
  for (std::size_t g = 0; g <= s; ++g)
    figures.groups.push_back(static_cast<double>(right[g]) / static_cast<double>(std::max<std::int64_t>(count[g], 1)));
}

}  // namespace

void check_stream(const Composition& recipe, StreamKind kind) {
  if (kind != StreamKind::kDisjoint && recipe.head().info->has(Need::kNewClasses))
    fail(Code::kUnsupported,
         "[stream] '{}' learns each class once, and in a {} stream classes come back: take disjoint",
         recipe.head().alias(), name(kind));
}

StepOutcome learn_stream_step(const ClassIncremental& setting, std::size_t s, const Numbers& before) {
  const StreamStep& step = setting.stream.steps.at(s);
  std::vector<bool> comes(setting.labels.size());
  std::int64_t new_rows = 0;
  for (const std::int64_t row : step.rows) {
    const std::int64_t column = setting.train.columns[static_cast<std::size_t>(row)];
    comes[static_cast<std::size_t>(column)] = true;
    new_rows += column >= step.first;
  }
  const auto validation =
      rows_where(setting.validation, [&](std::int64_t c) { return comes[static_cast<std::size_t>(c)]; });
  const auto validation_rows = static_cast<std::int64_t>(validation.size());
  const Sources sources{choose(setting.train, step.rows), choose(setting.validation, validation),
                        unlabelled_rows(setting)};
  StepOutcome outcome{learn_rows(setting, before, labels_of(setting, 0, setting.stream.seen(s)), sources), {}, {}};
  outcome.new_rows = new_rows;
  outcome.known_rows = static_cast<std::int64_t>(step.rows.size()) - new_rows;
  outcome.validation_rows = validation_rows;
  measure(setting, s, outcome);
  if (setting.forward_transfer && step.classes > 1) {
    outcome.figures.within = accuracy_within(setting, outcome.learned.model, step.first, step.classes, 0);
    // The first step has nothing before it: it is alone.
    outcome.figures.alone = s == 0 ? outcome.figures.within : accuracy_alone(setting, step);
  }
  return outcome;
}

std::vector<StepOutcome> learn_stream(const ClassIncremental& setting) {
  std::vector<StepOutcome> outcomes;
  for (std::size_t s = 0; s < setting.stream.steps.size(); ++s)
    outcomes.push_back(learn_stream_step(setting, s, s == 0 ? Numbers() : outcomes.back().learned.model.numbers()));
  return outcomes;
}

}  // namespace recast
