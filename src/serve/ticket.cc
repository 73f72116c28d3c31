#include "ticket.h"

#include <fmt/format.h>

#include <set>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/run/failure.h"

namespace recast {
namespace {

/// As InferenceAccount has it.
std::string names_of(const std::vector<std::shared_ptr<const ServedTask>>& tasks) {
  constexpr std::size_t kMostBytes = 200;
  std::string names;
  std::set<const ServedTask*> seen;
  std::size_t more = 0;
  for (const auto& task : tasks) {
    if (!seen.insert(task.get()).second) continue;
    const std::string next = fmt::format("{}@{}:{}", task->base, task->name, task->version);
    if (!names.empty() && names.size() + 1 + next.size() > kMostBytes)
      ++more;
    else
      names += (names.empty() ? "" : ",") + next;
  }
  return more == 0 ? names : fmt::format("{},+{}", names, more);
}

}  // namespace

std::exception_ptr error_at_hand() {
  const Failure failure = failure_at_hand();
  // Its words for want of memory are for who sits at this machine.
  if (failure.code == Code::kExhausted && failure.message.starts_with("[memory]"))
    return std::make_exception_ptr(Error(Code::kUnavailable, "[serve] no free memory: try again later"));
  return std::make_exception_ptr(Error(failure.code, failure.message));
}

Ticket::Ticket(RequestRows rows, CallContext context, Done done, Observer observer)
    : rows_(std::move(rows)),
      context_(std::move(context)),
      deadline_(context_.deadline),
      done_(std::move(done)),
      observer_(std::move(observer)),
      results_(static_cast<std::size_t>(rows_.rows())),
      left_(rows_.rows()) {
  if (rows_.timeout_us > 0) deadline_ = std::min(deadline_, begun_ + std::chrono::microseconds(rows_.timeout_us));
}

bool Ticket::over() {
  if (answered_.load()) return true;
  const bool gone = context_.cancelled && *context_.cancelled;
  if (!gone && Clock::now() < deadline_) return false;
  fail(std::make_exception_ptr(
      gone ? Error(Code::kCancelled, "[serve] the caller is gone")
           : Error(Code::kUnavailable, "[serve] the request's time was over before its turn came: try again later")));
  return true;
}

void Ticket::finish(std::int64_t row, RowResult result, std::int64_t queue_ns, std::int64_t input_ns,
                    std::int64_t infer_ns) {
  queue_ns_ += queue_ns;
  input_ns_ += input_ns;
  infer_ns_ += infer_ns;
  results_[static_cast<std::size_t>(row)] = std::move(result);
  if (left_.fetch_sub(1) == 1) answer();
}

void Ticket::answer() {
  try {
    const auto computed = Clock::now();
    InferenceResponse response = write_rows(rows_, results_);
    if (answered_.exchange(true)) return;
    const auto now = Clock::now();
    account({queue_ns_, input_ns_, infer_ns_, (now - computed).count(), (now - begun_).count()}, nullptr);
    done_(std::move(response));
  } catch (...) {
    fail(std::current_exception());
  }
}

void Ticket::fail(std::exception_ptr error) {
  if (answered_.exchange(true)) return;
  account({queue_ns_, input_ns_, infer_ns_, 0, (Clock::now() - begun_).count()}, error);
  done_(error);
}

void Ticket::account(const RequestTimes& times, const std::exception_ptr& error) noexcept {
  try {
    if (context_.account)
      *context_.account = {rows_.rows(), names_of(rows_.tasks), times.queue_ns, times.input_ns + times.infer_ns};
    observer_(rows_, times, error);
  } catch (const std::exception& failed) {  // no memory: the answer goes out uncounted
    log_event(LogLevel::kError, "serve.not_counted", {{"error", std::string_view(failed.what())}});
  }
}

}  // namespace recast
