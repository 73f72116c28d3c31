#pragma once
#include <atomic>
#include <chrono>
#include <functional>

#include "recast/serve/service.h"
#include "request_rows.h"

namespace recast {

/// When what happened to a request, summed over its rows.
struct RequestTimes {
  std::int64_t queue_ns = 0, input_ns = 0, infer_ns = 0, output_ns = 0, total_ns = 0;
};

/// The exception being handled, as a typed error in words for callers. Call it in a catch block.
std::exception_ptr error_at_hand();

/// A request that is being answered: rows come in from any worker, the last one, or the first error, answers it.
class Ticket {
 public:
  using Clock = std::chrono::steady_clock;
  using Done = std::function<void(InferenceResult)>;
  /// Called before the answer goes out, with its times; error: null where it is an answer.
  using Observer = std::function<void(const RequestRows&, const RequestTimes&, const std::exception_ptr& error)>;

  Ticket(RequestRows rows, CallContext context, Done done, Observer observer);

  const RequestRows& rows() const { return rows_; }
  /// Nobody waits any more: answered with an error, given up by the caller, or too late.
  bool over();
  void finish(std::int64_t row, RowResult result, std::int64_t queue_ns, std::int64_t input_ns, std::int64_t infer_ns);
  /// Answers with the error, unless it is answered already.
  void fail(std::exception_ptr error);

 private:
  void answer();
  /// Keeps the account that the caller asked for, and tells the observer, as far as memory allows.
  void account(const RequestTimes& times, const std::exception_ptr& error) noexcept;

  const RequestRows rows_;
  const CallContext context_;
  const Clock::time_point begun_ = Clock::now();
  Clock::time_point deadline_;
  const Done done_;
  const Observer observer_;
  std::vector<RowResult> results_;
  std::atomic<std::int64_t> left_, queue_ns_{0}, input_ns_{0}, infer_ns_{0};
  std::atomic<bool> answered_{false};
};

}  // namespace recast
