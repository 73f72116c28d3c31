#include "serve/public_error.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "recast/base/log.h"

namespace recast {
namespace {

TEST(PublicError, FillsNoLogWithWhatRequestsBringAbout) {
  int logged = 0;
  set_log(LogLevel::kError, [&](const LogEvent& event) { logged += event.name == "serve.failed"; });
  for (int i = 0; i < 1'000; ++i) {
    try {
      throw std::runtime_error("/secret/path");
    } catch (...) {
      EXPECT_EQ(public_error().message.find("secret"), std::string::npos);
    }
  }
  set_log(LogLevel::kOff, {});
  EXPECT_LT(logged, 500);
}

}  // namespace
}  // namespace recast
