#include "format/temporary_folder.h"
#include "grpc_fixture.h"
#include "token_entry.h"

namespace recast {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(GrpcOptions, OtherMachinesNeedTokensAndASaferLibrary) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  const auto refusal = [&](const std::string& address, TokenTable* tokens) {
    GrpcOptions options = any_port();
    options.address = address;
    return error_of(Code::kInvalidArgument, [&] { GrpcServer(service, options, registry, tokens); });
  };
  EXPECT_THAT(refusal("0.0.0.0", nullptr), HasSubstr("token file"));
  EXPECT_THAT(refusal("::", nullptr), HasSubstr("token file"));
  EXPECT_THAT(refusal("localhost", nullptr), HasSubstr("numbers"));
  if (!withstands_floods(grpc::Version())) {
    const TemporaryFolder folder;
    add_token(folder / "t", entry_of("a", {Role::kInfer}));
    TokenTable table(folder / "t");
    EXPECT_THAT(refusal("0.0.0.0", &table), AllOf(HasSubstr("floods"), HasSubstr(grpc::Version()), HasSubstr("proxy")));
  }
  for (const char* address : {"127.0.0.1", "127.9.9.9"}) {
    GrpcOptions options = any_port();
    options.address = address;
    GrpcServer(service, options, registry).start();
  }
  GrpcOptions options = any_port();
  options.address = "0.0.0.0";
  options.insecure = true;
  GrpcServer anywhere(service, options, registry);
  anywhere.start();
  EXPECT_GT(anywhere.port(), 0);
}

TEST(GrpcOptions, KnowWhichLibrariesWithstandFloods) {
  for (const char* version : {"1.51.1", "1.65.9", "", "1", "1.", "x.70", "0.99.0", "1.x"})
    EXPECT_FALSE(withstands_floods(version)) << version;
  for (const char* version : {"1.66.0", "1.70.1", "1.100.0", "2.0.0", "1.66.0-dev"})
    EXPECT_TRUE(withstands_floods(version)) << version;
}

TEST(GrpcOptions, AreChecked) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  const auto refusal = [&](auto change) {
    GrpcOptions options = any_port();
    change(options);
    return error_of(Code::kInvalidArgument, [&] { GrpcServer(service, options, registry); });
  };
  EXPECT_THAT(refusal([](GrpcOptions& o) { o.message_bytes = 0; }), HasSubstr("message_bytes"));
  EXPECT_THAT(refusal([](GrpcOptions& o) { o.message_bytes = std::size_t{1} << 31; }), HasSubstr("message_bytes"));
  EXPECT_THAT(refusal([](GrpcOptions& o) { o.streams = 0; }), HasSubstr("streams"));
  EXPECT_THAT(refusal([](GrpcOptions& o) { o.idle_timeout = 0ms; }), HasSubstr("idle_timeout"));
  EXPECT_THAT(refusal([](GrpcOptions& o) { o.key = "k"; }), HasSubstr("belong together"));
  EXPECT_THAT(refusal([](GrpcOptions& o) { o.client_ca = "k"; }), HasSubstr("need TLS"));
}

TEST(GrpcServer, APortBelongsToOneServer) {
  GrpcTestServer at;
  GrpcOptions options;
  options.port = at.server.port();
  GrpcServer second(at.service, options, at.registry);
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { second.start(); }), HasSubstr(std::to_string(options.port)));
}

}  // namespace
}  // namespace recast
