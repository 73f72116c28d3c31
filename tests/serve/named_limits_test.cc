#include "named_limits.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <prometheus/registry.h>

#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "format/expect_error.h"
#include "linear_service.h"

namespace recast {
namespace {

using testing::HasSubstr;

TEST(Limits, AreSetByName) {
  std::set<std::string_view> names;
  for (const Limit& limit : all_limits()) {
    EXPECT_TRUE(names.insert(limit.name).second) << limit.name;
    ServerOptions options;
    const std::int64_t before = limit.get(options);
    EXPECT_GT(before, 0) << limit.name << " is no limit";
    set_limit(options, fmt::format("{}={}", limit.name, before + 1));
    EXPECT_EQ(limit.get(options), before + 1) << limit.name;
    for (const Limit& other : all_limits())
      EXPECT_TRUE(other.name == limit.name || other.get(options) == other.get(ServerOptions())) << other.name;
  }
}

TEST(Limits, OfBothPortsAreSetOnBoth) {
  ServerOptions options;
  set_limit(options, "request_ms=1234");
  set_limit(options, "rows=7");
  EXPECT_EQ(options.http->request_timeout.count(), 1234);
  EXPECT_EQ(options.grpc->request_timeout.count(), 1234);
  EXPECT_EQ(options.metrics->request_timeout.count(), 1234);
  EXPECT_EQ(options.engine.max_rows, 7);
  EXPECT_EQ(options.http->inference.request.rows, 7);
  EXPECT_EQ(options.grpc->request.rows, 7);
  options.http.reset();
  options.grpc.reset();
  EXPECT_NO_THROW(set_limit(options, "request_ms=1"));
}

TEST(Limits, RefuseWhatIsNoLimitOrNoNumber) {
  ServerOptions options;
  const auto said = [&](const std::string& text) {
    return error_of(Code::kInvalidArgument, [&] { set_limit(options, text); });
  };
  EXPECT_THAT(said("http.body_bytes"), HasSubstr("must be NAME=VALUE"));
  EXPECT_THAT(said("http.bodybytes=1"), HasSubstr("did you mean 'http.body_bytes'"));
  for (const char* value : {"", "-1", "1e3", "64M", "0x10", " 1", "1 ", "99999999999999999999"})
    EXPECT_THAT(said(fmt::format("rows={}", value)), HasSubstr("whole number")) << value;
}

/// What a server with such a limit says before it begins.
std::string said_of(const std::string& assignment) {
  ServerOptions options;
  set_limit(options, assignment);
  options.engine.directories = {"/nowhere"};
  LinearService service({});
  prometheus::Registry registry;
  try {
    HttpServer(service, *options.http, registry);
    GrpcServer(service, *options.grpc, registry);
    make_engine(options.engine, nullptr);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Limits, HaveBoundsOfTheirOwn) {
  for (const Limit& limit : all_limits()) {
    EXPECT_THAT(said_of(fmt::format("{}={}", limit.name, std::numeric_limits<std::int64_t>::max())),
                HasSubstr("must lie in"))
        << limit.name;
    if (limit.name != "store_grace_ms") {
      EXPECT_THAT(said_of(fmt::format("{}=0", limit.name)), HasSubstr("must lie in")) << limit.name;
    }
  }
}

TEST(Limits, OfWhichNoneIsMissingInTheDocument) {
  std::ostringstream document;
  document << std::ifstream(RECAST_SOURCE_DIR "/docs/serving.md").rdbuf();
  for (const Limit& limit : all_limits())
    EXPECT_NE(document.str().find(fmt::format("`{}`", limit.name)), std::string::npos) << limit.name;
}

}  // namespace
}  // namespace recast
