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

TEST(ParseUtc, TakesTimesAsFilesHaveThem) {
  EXPECT_EQ(parse_utc("1970-01-01T00:00:00Z")->time_since_epoch().count(), 0);
  for (const char* text : {"2026-01-31T23:59:59Z", "2024-02-29T00:00:00Z", "1969-12-31T23:59:58Z"}) {
    ASSERT_TRUE(parse_utc(text)) << text;
    EXPECT_EQ(parse_utc(text)->time_since_epoch().count(), seconds_of(text)) << text;
  }
}

TEST(ParseUtc, RefusesWhatIsNoTime) {
  for (const char* text :
       {"", "2026-01-31", "2026-01-31T23:59:59", "2026-01-31 23:59:59Z", "2026-01-31T23:59:59+00:00",
        "2026-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
        "2026-01-31T24:00:00Z", "2026-01-31T23:60:00Z", "2026-01-31T23:59:60Z", "2026-01-31T23:59:59Z "}) {
    EXPECT_FALSE(parse_utc(text)) << text;
  }
}

}  // namespace
}  // namespace recast
