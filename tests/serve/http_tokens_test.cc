// Who may do what over HTTP.
#include "base/log_capture.h"
#include "format/temporary_folder.h"
#include "http_fixture.h"
#include "token_entry.h"

namespace recast {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class HttpTokens : public testing::Test {
 protected:
  std::string token(const std::string& name, std::set<Role> roles, std::vector<std::string> tasks = {"*"}) {
    return add_token(folder_ / "tokens.yaml", entry_of(name, std::move(roles), std::move(tasks)));
  }
  static std::string bearer(const std::string& token) { return "Authorization: Bearer " + token + "\r\n"; }

  TemporaryFolder folder_;
};

TEST_F(HttpTokens, OpenEachPathToItsRoles) {
  const std::string infer = token("infer", {Role::kInfer}), read = token("read", {Role::kRead}),
                    manage = token("manage", {Role::kManage});
  TokenTable table(folder_ / "tokens.yaml");
  TestServer at(quick_options(), &table);
  struct Case {
    std::string request;
    bool infer, read, manage;
  };
  const auto with_field = [](std::string request, const std::string& field) {
    return request.insert(request.find("\r\n") + 2, field);
  };
  for (const Case& c :
       {Case{get("/v2"), true, true, true}, Case{get("/v2/models/pair"), true, true, true},
        Case{get("/v2/models/pair/ready"), true, true, true}, Case{infer_pair(), true, false, false},
        Case{get("/v2/models/pair/stats"), false, true, true}, Case{get("/v2/models/stats"), false, true, true},
        Case{get("/metrics"), false, true, true}, Case{post("/v2/repository/index", ""), false, true, true},
        Case{post("/v2/repository/models/pair/load", ""), false, false, true},
        Case{post("/v2/repository/models/pair/unload", ""), false, false, true}}) {
    EXPECT_EQ(at.ask(with_field(c.request, bearer(infer))).status, c.infer ? 200 : 403) << c.request;
    EXPECT_EQ(at.ask(with_field(c.request, bearer(read))).status, c.read ? 200 : 403) << c.request;
    EXPECT_EQ(at.ask(with_field(c.request, bearer(manage))).status, c.manage ? 200 : 403) << c.request;
    const HttpReply nobody = at.ask(c.request);
    EXPECT_EQ(nobody.status, 401) << c.request;
    EXPECT_EQ(nobody.field("www-authenticate"), "Bearer");
    EXPECT_EQ(at.ask(with_field(c.request, bearer("wrong"))).status, 401) << c.request;
  }
  for (const char* path : {"/v2/health/live", "/v2/health/ready", "/v2/openapi.json"})
    EXPECT_EQ(at.ask(get(path)).status, 200) << path;
  EXPECT_EQ(at.ask(get("/v2?token=" + infer)).status, 401) << "a token in the URL is none";
  EXPECT_EQ(at.json(get("/v2/openapi.json"))["paths"]["/v2"]["get"]["security"][0].count("token"), 1);
}

TEST_F(HttpTokens, ReachTheirTasksOnly) {
  const std::string one = token("one", {Role::kInfer, Role::kRead}, {"pair"});
  TokenTable table(folder_ / "tokens.yaml");
  TestServer at(quick_options(), &table);
  EXPECT_EQ(at.ask(post("/v2/models/pair/infer", kBody, bearer(one))).status, 200);
  EXPECT_EQ(at.ask(post("/v2/models/five/infer", kBody, bearer(one))).status, 403);
  EXPECT_EQ(at.ask(get("/v2/models/five", bearer(one))).status, 403);
  EXPECT_EQ(at.ask(get("/v2/models/never", bearer(one))).status, 403) << "nor do they learn what there is";
  const auto index = at.json(post("/v2/repository/index", "", bearer(one)));
  ASSERT_EQ(index.size(), 1);
  EXPECT_EQ(index[0]["name"], "pair");
}

TEST_F(HttpTokens, ThatAreRefusedLeaveALineWithoutTheToken) {
  const std::string right = token("reader", {Role::kRead});
  TokenTable table(folder_ / "tokens.yaml");
  TestServer at(quick_options(), &table);
  const LogCapture log(LogLevel::kWarn);
  at.ask(post("/v2/models/pair/infer", kBody, bearer(right)));
  at.ask(post("/v2/models/pair/infer", kBody, bearer("guessed-secret")));
  const std::vector<std::string> events = log.lines();
  EXPECT_THAT(events, Contains(AllOf(HasSubstr("warn http.token_refused"), HasSubstr("identity=reader"))));
  ASSERT_EQ(events.size(), 2);
  for (const std::string& event : events)
    EXPECT_THAT(event, AllOf(Not(HasSubstr("guessed-secret")), Not(HasSubstr(right)), HasSubstr("peer=127.0.0.1")));
  EXPECT_EQ(at.metric("recast_http_refusals_total", "token"), 2);
}

TEST_F(HttpTokens, AreNotGuessedByTheThousand) {
  token("one", {Role::kInfer});
  TokenTable table(folder_ / "tokens.yaml", {.unknown_burst = 5, .unknown_per_second = 0.001});
  TestServer at(quick_options(), &table);
  int refused = 0;
  for (int i = 0; i < 20; ++i) {
    const HttpReply reply = at.ask(get("/v2", bearer(fmt::format("guess-{}", i))));
    refused += reply.status == 429;
    EXPECT_EQ(reply.field("retry-after"), reply.status == 429 ? "1" : "");
  }
  EXPECT_GE(refused, 10);
}

}  // namespace
}  // namespace recast
