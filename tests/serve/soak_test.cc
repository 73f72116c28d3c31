// The short form of bench/soak.
#include <gtest/gtest.h>

#include "format/python_tool.h"
#include "run/toy_model.h"
#include "text/run_recast.h"

namespace recast {
namespace {

/// $RECAST_SOAK_SECONDS: for longer than a test may take. Memory is judged by the long form: in a few seconds it grows
/// to what the caches hold.
TEST(Soak, EveryAnswerIsThatOfAVersionWhileTasksChange) {
  RECAST_NEED_PYTHON("grpc,numpy,PIL,psutil,torch");
  const TemporaryFolder folder;
  write_toy_model(folder / "model");
  const char* seconds = std::getenv("RECAST_SOAK_SECONDS");
  const Outcome outcome =
      run_program({python_path(), RECAST_SOURCE_DIR "/bench/serving/soak.py", "--seconds", seconds ? seconds : "5",
                   "--model", (folder / "model").string(), "--image-size", "16", "--pause", "0.1", "--learn-every", "5",
                   "--growth", "100", "--recast", RECAST_PROGRAM, "--json", (folder / "soak.json").string()});
  ASSERT_EQ(outcome.status, 0) << outcome.text;
  const auto result = nlohmann::json::parse(text_of(folder / "soak.json"));
  EXPECT_EQ(result["verdict"], "passed");
  EXPECT_EQ(result["errors"]["server"], 0);
  EXPECT_GT(result["answers"]["right"], 100);
  EXPECT_GT(result["changes"]["import"], 0);
}

}  // namespace
}  // namespace recast
