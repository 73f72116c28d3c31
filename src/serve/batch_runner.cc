// A worker's batch, row by row or in shared passes. Whether a task's weights are made is decided as one decides between
// renting and buying: rows run without them until what they have cost more than with them is what making them costs.
// So a task that is asked for once never pays for its weights, and one asked for often pays twice at most.
#include "batch_runner.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstring>

#include "recast/data/image.h"
#include "recast/data/preprocess.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// A damaged image is the caller's fault, while kDataCorruption speaks of a file on this machine.
at::Tensor image_of(const RequestRows& request, std::int64_t row) {
  try {
    return decode_image(request.images[static_cast<std::size_t>(row)], fmt::format("image of row {}", row));
  } catch (const Error& error) {
    if (error.code() != Code::kDataCorruption) throw;
    throw Error(Code::kInvalidArgument, error.what());
  }
}

at::Tensor decoded(const RequestRows& request, std::int64_t row, const Preprocessing& preprocessing) {
  const at::Tensor image = image_of(request, row);
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

  void finish(const Fields& out, double infer_seconds) const {
    waiting.ticket->finish(
        waiting.row, {out.at("logits")[0].to(at::kCPU, at::kFloat), out.at("features")[0].to(at::kCPU, at::kFloat)},
        queue_ns, input_ns, static_cast<std::int64_t>(infer_seconds * 1e9));
  }
};

bool BatchRunner::prepare(Row& row) const {
  Ticket& ticket = *row.waiting.ticket;
  if (ticket.over()) return false;
  const auto begin = Clock::now();
  row.queue_ns = (begin - row.waiting.since).count();
  try {
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

BatchRunner::Choice BatchRunner::choose(const ServedBase& base, const std::shared_ptr<const ServedTask>& task,
                                        std::int64_t rows) const {
  if (!task->makes_weights) return {};
  if (mixing_ == Mixing::kTemplates && task->sums) return {Way::kTemplates, {}};
  if (auto made = base.weights().find(task->digest)) return {Way::kMade, made};
  if (mixing_ == Mixing::kGrouped) return {Way::kMade, make(base, *task)};
  const CostModel::Costs costs = base.costs().of(task->kind);
  const double more = std::max(0.0, costs.cold_row - costs.made_row) * static_cast<double>(rows);
  const double regret = task->regret.fetch_add(more) + more;
  const bool unknown = costs.making == 0 || costs.made_row == 0;
  if ((unknown && costs.cold_row > 0) || (costs.making > 0 && regret >= costs.making))
    return {Way::kMade, make(base, *task)};
  return {task->sums ? Way::kTemplates : Way::kDirect, {}};
}

void BatchRunner::run_alone(Row& row, const Choice& choice) const {
  const auto begin = Clock::now();
  try {
    Run run;
    run.dtype = dtype_;
    const Model& model = choice.made ? choice.made->model : row.task->model;
    const Fields out = model.forward({{{"input", row.input}}, 1}, run);
    const double seconds = seconds_since(begin);
    if (choice.made)
      row.base->costs().saw_made_row(row.task->kind, seconds);
    else
      row.base->costs().saw_cold_row(row.task->kind, seconds);
    observer_(*row.base, choice.way, 1, seconds);
    row.finish(out, seconds);
  } catch (...) {
    row.waiting.ticket->fail(error_at_hand());
  }
}

void BatchRunner::run_shared(std::span<Row* const> rows) const {
  const auto begin = Clock::now();
  const ServedBase& base = *rows.front()->base;
  try {
    std::vector<const TemplateSums*> sums;
    std::vector<at::Tensor> inputs;
    for (const Row* row : rows) {
      sums.push_back(&*row->task->sums);
      inputs.push_back(row->input);
    }
    const at::Tensor features =
        shared_features(*base.directory().backbone(), sums, at::cat(inputs), dtype_, base.banks());
    const double seconds = seconds_since(begin), share = seconds / static_cast<double>(rows.size());
    observer_(base, Way::kTemplates, static_cast<std::int64_t>(rows.size()), seconds);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Row& row = *rows[i];
      base.costs().saw_cold_row(row.task->kind, share);
      try {
        const at::Tensor own = features.narrow(0, static_cast<std::int64_t>(i), 1).contiguous();
        Run run;
        run.dtype = dtype_;
        row.finish(row.task->model.forward({{{"features", own}}, 1}, run), share);
      } catch (...) {
        row.waiting.ticket->fail(error_at_hand());
      }
    }
  } catch (...) {
    const std::exception_ptr error = error_at_hand();
    for (const Row* row : rows) row->waiting.ticket->fail(error);
  }
}

void BatchRunner::run(std::vector<WaitingRow> waiting,
                      const std::function<const ServedBase&(const std::string&)>& base_of) const {
  const at::NoGradGuard no_grad;
  std::vector<Row> rows;
  std::map<const ServedTask*, std::int64_t> count;
  for (WaitingRow& next : waiting) {
    Row row;
    row.task = next.ticket->rows().tasks[static_cast<std::size_t>(next.row)];
    row.base = &base_of(row.task->base);
    row.waiting = std::move(next);
    if (!prepare(row)) continue;
    ++count[row.task.get()];
    rows.push_back(std::move(row));
  }
  std::map<const ServedTask*, Choice> choices;
  std::map<std::tuple<const ServedBase*, std::int64_t, std::int64_t>, std::vector<Row*>> shared;
  for (Row& row : rows) {
    try {
      auto choice = choices.find(row.task.get());
      if (choice == choices.end())
        choice = choices.emplace(row.task.get(), choose(*row.base, row.task, count[row.task.get()])).first;
      if (choice->second.way == Way::kTemplates)
        shared[{row.base, row.input.size(2), row.input.size(3)}].push_back(&row);
      else
        run_alone(row, choice->second);
    } catch (...) {
      row.waiting.ticket->fail(error_at_hand());
    }
  }
  for (const auto& [where, together] : shared)
    for (std::size_t begin = 0; begin < together.size(); begin += static_cast<std::size_t>(max_shared_))
      run_shared(
          std::span(together).subspan(begin, std::min(together.size() - begin, static_cast<std::size_t>(max_shared_))));
}

}  // namespace recast
