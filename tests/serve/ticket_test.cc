#include "ticket.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <new>

namespace recast {
namespace {

RequestRows one_row() {
  RequestRows rows;
  rows.mixed = true;
  rows.tasks = {nullptr};
  return rows;
}

void no_memory(const RequestRows&, const RequestTimes&, const std::exception_ptr&) { throw std::bad_alloc(); }

TEST(Ticket, IsAnsweredThoughItCannotBeCounted) {
  int answers = 0, failures = 0;
  const auto done = [&](const InferenceResult& result) {
    ++(std::holds_alternative<InferenceResponse>(result) ? answers : failures);
  };
  Ticket computed(one_row(), {}, done, no_memory);
  computed.finish(0, {at::ones({2}), at::ones({3})}, 0, 0, 0);
  EXPECT_EQ(answers, 1);
  CallContext context;
  context.cancelled = std::make_shared<std::atomic<bool>>(true);
  Ticket given_up(one_row(), std::move(context), done, no_memory);
  EXPECT_TRUE(given_up.over());
  EXPECT_EQ(failures, 1);
}

}  // namespace
}  // namespace recast
