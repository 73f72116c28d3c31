// A worker's batch. Grouped: each row is a pass of its own, with its task's made weights. By templates: rows of all
// tasks share a pass. Left to choose, rows of one task share a pass in any case, and those of different tasks go by
// templates or apart, whichever costs less by what such passes took so far. Whether a task's weights are made is then
// decided as one decides between renting and buying: rows run without them until what they have cost more than with
// them is what making them costs. So a task that is asked for once never pays for its weights, one asked for often pays
// twice at most, and where shared passes are cheaper than made ones none are made.
#include "batch_runner.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstring>
#include <set>

#include "public_error.h"
#include "recast/data/image.h"
#include "recast/data/preprocess.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Every so many decisions the other way is taken, so that what it cost once does not rule for ever.
constexpr std::uint64_t kTryTheOther = 64;

at::Tensor decoded(const RequestRows& request, std::int64_t row, const Preprocessing& preprocessing) {
  const at::Tensor image = read_of_caller([&] {
    return decode_image(request.images[static_cast<std::size_t>(row)], fmt::format("image of row {}", row));
  });
  return normalise(evaluation_pixels(image, preprocessing).unsqueeze(0), preprocessing);
}

at::Tensor given(const RequestRows& request, std::int64_t row) {
  const at::Tensor pixels = at::empty({1, 3, request.height, request.width});
  std::memcpy(pixels.mutable_data_ptr(), request.pixels + static_cast<std::size_t>(row) * pixels.nbytes(),
              pixels.nbytes());
  return pixels;
}

}  // namespace

struct BatchRunner::Row {
  WaitingRow waiting;
  std::shared_ptr<const ServedTask> task;
  const ServedBase* base = nullptr;
  at::Tensor input;  ///< [1, 3, height, width]
  std::int64_t queue_ns = 0, input_ns = 0;

  void finish(const Fields& out, std::int64_t at, double infer_seconds) const {
    const auto own = [&](const char* field) { return out.at(field)[at].to(at::kCPU, at::kFloat); };
    waiting.ticket->finish(waiting.row, {own("logits"), own("features")}, queue_ns, input_ns,
                           static_cast<std::int64_t>(infer_seconds * 1e9));
  }
};

struct BatchRunner::TaskRows {
  const ServedBase& base;
  const ServedTask& task;
  std::vector<Row*> rows;
  std::shared_ptr<const MadeModel> made = {};  ///< if they are kept

  double cost(Way way, std::size_t count) const { return base.costs().pass(task.kind, way, count); }
  double made_cost() const { return cost(Way::kMade, rows.size()); }
};

at::Tensor BatchRunner::inputs_of(std::span<Row* const> rows) {
  if (rows.size() == 1) return rows.front()->input;
  std::vector<at::Tensor> inputs;
  for (const Row* row : rows) inputs.push_back(row->input);
  return at::cat(inputs);
}

void BatchRunner::fail_all(std::span<Row* const> rows) {
  const std::exception_ptr error = error_at_hand();
  for (const Row* row : rows) row->waiting.ticket->fail(error);
}

bool BatchRunner::prepare(Row& row) const {
  Ticket& ticket = *row.waiting.ticket;
  const auto begin = Clock::now();
  row.queue_ns = (begin - row.waiting.since).count();
  try {
    if (ticket.over()) return false;
    row.input = ticket.rows().pixels ? given(ticket.rows(), row.waiting.row)
                                     : decoded(ticket.rows(), row.waiting.row, row.task->preprocessing);
    row.input = row.input.to(row.base->directory().device());
  } catch (...) {
    ticket.fail(error_at_hand());
    return false;
  }
  row.input_ns = (Clock::now() - begin).count();
  return true;
}

std::shared_ptr<const MadeModel> BatchRunner::make(const ServedBase& base, const ServedTask& task) const {
  const auto begin = Clock::now();
  auto made = std::make_shared<const MadeModel>(with_made_weights(task.model, dtype_));
  base.costs().saw_making(task.kind, seconds_since(begin));
  task.regret = 0;
  return base.weights().keep(task.digest, made, made->bytes);
}

// ---- passes ---------------------------------------------------------------------------------------------------------

void BatchRunner::run_pass(std::span<Row* const> rows, const std::shared_ptr<const MadeModel>& made) const {
  const auto begin = Clock::now();
  const ServedBase& base = *rows.front()->base;
  const ServedTask& task = *rows.front()->task;
  try {
    Run run;
    run.dtype = dtype_;
    const Model& model = made ? made->model : task.model;
    const auto count = static_cast<std::int64_t>(rows.size());
    const Fields out = model.forward({{{"input", inputs_of(rows)}}, count}, run);
    const double seconds = seconds_since(begin);
    const Way way = made ? Way::kMade : Way::kDirect;
    base.costs().saw_pass(task.kind, way, rows.size(), seconds);
    observer_(base, way, count, seconds);
    for (std::int64_t i = 0; i < count; ++i)
      rows[static_cast<std::size_t>(i)]->finish(out, i, seconds / static_cast<double>(count));
  } catch (...) {
    fail_all(rows);
  }
}

void BatchRunner::run_shared(std::span<Row* const> rows) const {
  const auto begin = Clock::now();
  const ServedBase& base = *rows.front()->base;
  try {
    std::vector<const TemplateSums*> sums;
    std::set<std::string_view> kinds;
    for (const Row* row : rows) {
      sums.push_back(&*row->task->sums);
      kinds.insert(row->task->kind);
    }
    const at::Tensor features =
        shared_features(*base.directory().backbone(), sums, inputs_of(rows), dtype_, base.banks());
    const double seconds = seconds_since(begin);
    for (const std::string_view kind : kinds)
      base.costs().saw_pass(std::string(kind), Way::kTemplates, rows.size(), seconds);
    observer_(base, Way::kTemplates, static_cast<std::int64_t>(rows.size()), seconds);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Row& row = *rows[i];
      try {
        const at::Tensor own = features.narrow(0, static_cast<std::int64_t>(i), 1).contiguous();
        Run run;
        run.dtype = dtype_;
        row.finish(row.task->model.forward({{{"features", own}}, 1}, run), 0,
                   seconds / static_cast<double>(rows.size()));
      } catch (...) {
        row.waiting.ticket->fail(error_at_hand());
      }
    }
  } catch (...) {
    fail_all(rows);
  }
}

// ---- which rows go together -----------------------------------------------------------------------------------------

bool BatchRunner::worth_making(const TaskRows& of, double cost) const {
  const double making = of.base.costs().making(of.task.kind), made = of.made_cost();
  if (making == 0 || made == 0) return cost > 0;  // to know it
  const double more = std::max(0.0, cost - made);
  return of.task.regret.fetch_add(more) + more >= making;
}

void BatchRunner::run_each(const TaskRows& of) const {
  auto made = of.made;
  if (!made && of.task.makes_weights) made = make(of.base, of.task);
  for (Row* row : of.rows) run_pass({&row, 1}, made);
}

void BatchRunner::run_task(const TaskRows& of) const {
  const double cost = of.cost(Way::kDirect, of.rows.size());
  const bool makes = !of.made && of.task.makes_weights && worth_making(of, cost);
  run_pass(of.rows, makes ? make(of.base, of.task) : of.made);
}

bool BatchRunner::cheaper_shared(std::span<const TaskRows* const> tasks, double shared) const {
  if (shared == 0) return true;  // to know it
  std::size_t rest = 0;
  double apart = 0;
  for (const TaskRows* of : tasks) {
    if (!of->made) {
      rest += of->rows.size();
      continue;
    }
    const double made = of->made_cost();
    if (made == 0) return false;  // to know it
    apart += made;
  }
  if (rest > 0) apart += tasks.front()->cost(Way::kTemplates, rest);
  return (shared < apart) != (++decisions_ % kTryTheOther == 0);
}

void BatchRunner::run_mixed(std::span<TaskRows* const> tasks) const {
  std::size_t all = 0;
  for (const TaskRows* of : tasks) all += of->rows.size();
  const double together_cost = tasks.front()->cost(Way::kTemplates, all);
  const double row_cost = together_cost / static_cast<double>(all);
  if (mixing_ == Mixing::kAuto)
    for (TaskRows* of : tasks)
      if (!of->made && worth_making(*of, row_cost * static_cast<double>(of->rows.size())))
        of->made = make(of->base, of->task);
  const bool shared = mixing_ == Mixing::kTemplates || cheaper_shared(tasks, together_cost);
  std::vector<Row*> together;
  for (const TaskRows* of : tasks) {
    if (of->made && !shared)
      run_pass(of->rows, of->made);
    else
      together.insert(together.end(), of->rows.begin(), of->rows.end());
  }
  if (!together.empty()) run_shared(together);
}

void BatchRunner::run(std::vector<WaitingRow> waiting,
                      const std::function<const ServedBase&(const std::string&)>& base_of) const {
  const at::NoGradGuard no_grad;
  std::vector<Row> rows;
  rows.reserve(waiting.size());  // rows are pointed to
  using Size = std::pair<std::int64_t, std::int64_t>;
  std::map<std::pair<const ServedTask*, Size>, TaskRows> tasks;
  for (WaitingRow& next : waiting) {
    Row row;
    row.task = next.ticket->rows().tasks[static_cast<std::size_t>(next.row)];
    row.base = &base_of(row.task->base);
    row.waiting = std::move(next);
    if (!prepare(row)) continue;
    rows.push_back(std::move(row));
    Row& kept = rows.back();
    const Size size(kept.input.size(2), kept.input.size(3));
    tasks.try_emplace({kept.task.get(), size}, TaskRows{*kept.base, *kept.task, {}})
        .first->second.rows.push_back(&kept);
  }
  std::map<std::pair<const ServedBase*, Size>, std::vector<TaskRows*>> mixed;
  for (auto& [key, of] : tasks) {
    try {
      if (of.task.makes_weights) of.made = of.base.weights().find(of.task.digest);
      if (mixing_ != Mixing::kGrouped && of.task.sums)
        mixed[{&of.base, key.second}].push_back(&of);
      else if (mixing_ == Mixing::kGrouped)
        run_each(of);
      else
        run_task(of);
    } catch (...) {
      fail_all(of.rows);
    }
  }
  for (const auto& [where, together] : mixed) {
    try {
      run_mixed(together);
    } catch (...) {
      for (const TaskRows* of : together) fail_all(of->rows);
    }
  }
}

}  // namespace recast
