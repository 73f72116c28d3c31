#include "recast/base/error_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

namespace recast {
namespace {
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(ErrorTable, HoldsACauseAndARemedyForEveryCode) {
  std::set<std::string_view> names;
  for (const ErrorEntry& entry : error_table()) {
    EXPECT_EQ(error_entry(entry.code).name, entry.name);
    EXPECT_EQ(name(entry.code), entry.name);
    EXPECT_EQ(exit_status(entry.code), entry.exit_status);
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_THAT(entry.meaning, Not(IsEmpty()));
    EXPECT_FALSE(entry.causes.empty()) << entry.name;
    for (const ErrorCause& cause : entry.causes) {
      EXPECT_TRUE(cause.cause.ends_with('.')) << cause.cause;
      EXPECT_TRUE(cause.remedy.ends_with('.')) << cause.remedy;
    }
  }
  EXPECT_EQ(names.size(), 10u);
}

TEST(ErrorTable, KeepsTheExitStatusesThatScriptsRelyOn) {
  EXPECT_EQ(exit_status(Code::kInvalidArgument), 2);
  EXPECT_EQ(exit_status(Code::kAlreadyExists), 2);
  EXPECT_EQ(exit_status(Code::kUnsupported), 3);
  EXPECT_EQ(exit_status(Code::kShapeMismatch), 3);
  EXPECT_EQ(exit_status(Code::kExhausted), 3);
  EXPECT_EQ(exit_status(Code::kNotFound), 4);
  EXPECT_EQ(exit_status(Code::kDataCorruption), 5);
  EXPECT_EQ(exit_status(Code::kUnavailable), 1);
  EXPECT_EQ(exit_status(Code::kInternal), 1);
  EXPECT_EQ(exit_status(Code::kCancelled), 130);
}

TEST(ErrorTable, IsWhatThePageInDocsSays) {
  std::ostringstream page;
  page << std::ifstream(RECAST_SOURCE_DIR "/docs/errors.md").rdbuf();
  EXPECT_EQ(page.str(), error_page()) << "make it again: build/bin/recast errors --markdown > docs/errors.md";
  for (const ErrorEntry& entry : error_table()) EXPECT_THAT(page.str(), HasSubstr("\n## " + std::string(entry.name)));
}

}  // namespace
}  // namespace recast
