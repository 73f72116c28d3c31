// Clients that others wrote, unchanged, over real sockets.
#include <cstdlib>

#include "format/python_tool.h"
#include "grpc_fixture.h"

namespace recast {
namespace {

class TritonGrpcClient : public testing::TestWithParam<std::string> {};

TEST_P(TritonGrpcClient, Passes) {
  RECAST_NEED_PYTHON("tritonclient,grpc,numpy");
  GrpcOptions options = any_port();
  options.management = true;
  GrpcTestServer at(options);
  const Outcome outcome = run_program(
      {python_path(), RECAST_SOURCE_DIR "/tests/serve/triton_grpc.py", std::to_string(at.server.port()), GetParam()});
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  EXPECT_THAT(outcome.text, testing::HasSubstr("passed"));
}

INSTANTIATE_TEST_SUITE_P(All, TritonGrpcClient, testing::Values("sync", "stream", "aio", "aio_stream"),
                         [](const auto& info) { return info.param; });

TEST(KServeGrpcClient, Passes) {
  const char* const python = std::getenv("RECAST_KSERVE_PYTHON");  // kserve wants other versions of what we pin
  if (python == nullptr) GTEST_SKIP() << "KServe's client is absent: RECAST_KSERVE_PYTHON names none";
  GrpcTestServer at;
  const Outcome outcome =
      run_program({python, RECAST_SOURCE_DIR "/tests/serve/kserve_grpc.py", std::to_string(at.server.port())});
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  EXPECT_THAT(outcome.text, testing::HasSubstr("passed"));
}

}  // namespace
}  // namespace recast
