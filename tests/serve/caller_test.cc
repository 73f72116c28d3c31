#include "serve/caller.h"

#include <gtest/gtest.h>

namespace recast {
namespace {

TEST(Caller, CountsAsOneWithItsNetwork) {
  EXPECT_EQ(network_of("192.0.2.7"), "192.0.2.7");
  EXPECT_EQ(network_of("::ffff:192.0.2.7"), "192.0.2.7");
  EXPECT_EQ(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:2:ffff::"));
  EXPECT_NE(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:3::1"));
  EXPECT_EQ(network_of("::1"), "::/64");
  EXPECT_EQ(network_of("fe80::1%1"), "fe80::/64");
  EXPECT_EQ(network_of("somewhere"), "somewhere");
  EXPECT_EQ(Caller().party("2001:db8::1"), "2001:db8::/64");
}

}  // namespace
}  // namespace recast
