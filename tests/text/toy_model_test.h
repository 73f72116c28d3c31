#pragma once
// The real program, a toy model directory and a folder of images that it can learn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "run/toy_model.h"
#include "text/run_recast.h"

namespace recast {

class ToyModelTest : public ::testing::Test {
 protected:
  ToyModelTest() {
    write_toy_model(path("model"));
    write_toy_images(path("data"), {"blue", "green", "red"}, 12);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Answer recast(std::vector<std::string> words, const RunningProgram::Environment& more = {}) const {
    return RunningRecast(output_.path(), std::move(words), more).wait();
  }
  /// Fails with this status and one line on standard error, and leaves the disk as it was.
  std::string refused(int status, const std::vector<std::string>& words) const {
    const auto before = paths_below(folder_.path());
    const Answer answer = recast(words);
    EXPECT_EQ(answer.status, status) << answer.err;
    EXPECT_THAT(answer.out, ::testing::IsEmpty());
    EXPECT_THAT(answer.err, ::testing::StartsWith("recast: ["));
    EXPECT_EQ(std::count(answer.err.begin(), answer.err.end(), '\n'), 1) << answer.err;
    EXPECT_EQ(paths_below(folder_.path()), before);
    return answer.err;
  }

  TemporaryFolder folder_, output_;
};

}  // namespace recast
