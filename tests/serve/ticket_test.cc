#include "ticket.h"

#include <gtest/gtest.h>

#include <new>

#include "recast/base/error.h"

namespace recast {
namespace {

void no_memory(const RequestRows&, const RequestTimes&, const std::exception_ptr&) { throw std::bad_alloc(); }

TEST(Ticket, IsAnsweredThoughItCannotBeCounted) {
  int failures = 0;
  const auto done = [&](const InferenceResult& result) {
    failures += std::holds_alternative<std::exception_ptr>(result);
  };
  Ticket failed({}, {}, done, no_memory);
  failed.fail(std::make_exception_ptr(Error(Code::kInternal, "[test] failed")));
  EXPECT_EQ(failures, 1);
  CallContext context;
  context.cancelled = std::make_shared<std::atomic<bool>>(true);
  Ticket given_up({}, std::move(context), done, no_memory);
  EXPECT_TRUE(given_up.over());
  EXPECT_EQ(failures, 2);
}

}  // namespace
}  // namespace recast
