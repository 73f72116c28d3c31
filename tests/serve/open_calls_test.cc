#include "open_calls.h"

#include <gtest/gtest.h>

namespace recast {
namespace {

struct Call final : TimedCall {
  void expired() override {}
  void closing() override { ++told; }
  int told = 0;
};

TEST(OpenCalls, TellTheEndToThoseThatComeBehindIt) {
  OpenCalls open(10, std::chrono::milliseconds(100));
  const auto early = std::make_shared<Call>(), late = std::make_shared<Call>();
  open.add(early, "a");
  open.close();
  open.add(late, "a");
  EXPECT_EQ(early->told, 1);
  EXPECT_EQ(late->told, 1);
  open.remove(early.get());
  open.remove(late.get());
  open.wait_until_none();
}

}  // namespace
}  // namespace recast
