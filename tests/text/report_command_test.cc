#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "run/toy_model.h"
#include "text/run_recast.h"

namespace recast {
namespace {
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ReportCommand, WritesOnePageOnceUnlessForced) {
  TemporaryFolder folder, output;
  write_toy_model(folder / "model");
  const std::string model = (folder / "model").string(), page = (folder / "report.html").string();
  auto recast = [&](std::vector<std::string> words) { return RunningRecast(output.path(), std::move(words)).wait(); };
  const Answer first = recast({"report", model, "--out", page, "--json"});
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.json()["file"], page);
  EXPECT_THAT(text_of(page), StartsWith("<!DOCTYPE html>"));
  const Answer again = recast({"report", model, "--out", page});
  EXPECT_EQ(again.status, 2);
  EXPECT_THAT(again.err, HasSubstr("--force"));
  EXPECT_EQ(recast({"report", model, "--out", page, "--force"}).status, 0);
}

TEST(ReportCommand, OfAMissingDirectoryEndsWithStatus4) {
  TemporaryFolder folder, output;
  const std::string page = (folder / "report.html").string();
  const Answer answer = RunningRecast(output.path(), {"report", (folder / "no").string(), "--out", page}).wait();
  EXPECT_EQ(answer.status, 4);
  EXPECT_THAT(answer.err, StartsWith("recast: ["));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace recast
