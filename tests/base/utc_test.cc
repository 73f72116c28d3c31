#include "recast/base/utc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

namespace recast {
namespace {

/// Seconds since 1970, or -1.
std::int64_t seconds_of(const std::string& text) {
  std::tm parts{};
  const char* const rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return rest != nullptr && *rest == '\0' ? ::timegm(&parts) : -1;
}

TEST(UtcNow, IsTheTimeOfThisSecondWhateverTheTimeZone) {
  for (const char* zone : {"UTC", "Asia/Kathmandu", "XXX-5:45"}) {
    ::setenv("TZ", zone, 1);
    ::tzset();
    const std::time_t before = std::time(nullptr);
    const std::string now = utc_now();
    EXPECT_EQ(now.size(), 20u) << now;
    EXPECT_GE(seconds_of(now), before) << now;
    EXPECT_LE(seconds_of(now), std::time(nullptr)) << now;
  }
  ::unsetenv("TZ");
  ::tzset();
}

}  // namespace
}  // namespace recast
