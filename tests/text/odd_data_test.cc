// Data as it comes from people, through the real program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "run/toy_model.h"
#include "text/run_recast.h"

namespace recast {
namespace {
using ::testing::HasSubstr;

TEST(OddData, NamesOfAllKindsAreLearntFromAndEvaluated) {
  const TemporaryFolder folder, output;
  write_toy_model(folder / "model");
  const std::vector<std::string> classes = {"-dash", "\xf0\x9f\x90\xb1 \"cat\"", "line\nbreak"};
  write_toy_images(folder / "odd 'data'\n", classes, 8);
  const std::string model = (folder / "model").string(), data = (folder / "odd 'data'\n").string();
  const auto recast = [&](std::vector<std::string> words) {
    return RunningRecast(output.path(), std::move(words), {{"RECAST_CACHE", (folder / "cache").string()}}).wait();
  };
  const Answer learnt = recast({"learn", model, "--task", "odd", "--data", data, "--recipe", "fast", "--json"});
  ASSERT_EQ(learnt.status, 0) << learnt.err;
  auto sorted = classes;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(learnt.json()["labels"].get<std::vector<std::string>>(), sorted);
  const Answer measured = recast({"eval", model, "--task", "odd", "--json"});
  EXPECT_EQ(measured.status, 0) << measured.err;
  const Answer guessed = recast({"predict", model, "--task", "odd", data + "/" + classes[1] + "/0.png"});
  EXPECT_EQ(guessed.status, 0) << guessed.err;
  EXPECT_THAT(guessed.out, HasSubstr("0.png"));
}

}  // namespace
}  // namespace recast
