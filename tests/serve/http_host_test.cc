// Under which names a server answers: a page may give itself any name for this machine (DNS rebinding).
#include "format/temporary_folder.h"
#include "http_fixture.h"
#include "serve/http_content.h"
#include "token_entry.h"

namespace recast {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string to_host(std::string_view host, std::string_view path = "/v2") {
  return fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", path, host);
}

bool taken(std::string host, const std::vector<std::string>& allowed = {}) {
  HttpHead head;
  head.host = std::move(host);
  return names_this_server(head, allowed);
}

TEST(HttpHost, IsLocalhostOrANumber) {
  for (const char* host : {"localhost", "LocalHost:8000", "localhost.", "a.localhost", "127.0.0.1", "10.1.2.3:80",
                           "[::1]", "[::1]:8000", "[fe80::1:2]", "[::ffff:10.0.0.1]:1"})
    EXPECT_TRUE(taken(host)) << host;
  for (const char* host : {"", ":8000", "evil.example", "evil.example:8000", "localhost.evil.example", "notlocalhost",
                           "127.0.0.1.nip.io", "127.0.0.1:x", "127.0.0.1:80:80", "[::1", "[::1]x", "[evil]", "::1",
                           "127.0.0.1 evil.example", "1.2.3.4.5", "evil@127.0.0.1", "localhost/evil"})
    EXPECT_FALSE(taken(host)) << host;
  EXPECT_TRUE(names_this_server({}, {})) << "of HTTP/1.0";
}

TEST(HttpHost, MayHaveNamesThatItWasGiven) {
  const std::vector<std::string> names = {"recast.example"};
  EXPECT_TRUE(taken("Recast.Example:8000", names));
  EXPECT_TRUE(taken("recast.example.", names));
  EXPECT_FALSE(taken("a.recast.example", names)) << "names below it may be others'";
  EXPECT_EQ(host_name("Recast.Example."), "recast.example");
  for (const char* text : {"", ".", "*", "http://recast.example", "recast.example:8000", "a b", "[::1]"})
    EXPECT_FALSE(host_name(text)) << text;
}

TEST(HttpHost, OfAnotherIsMisdirectedWhateverIsAsked) {
  HttpOptions options = quick_options();
  options.allowed_hosts = {"Recast.example"};
  TestServer at(options);
  HttpClient client(at.server.port());
  for (const char* path : {"/v2", "/", "/metrics", "/v2/health/live", "/recast/v1/tasks", "/v2/models/pair", "/x"}) {
    const HttpReply reply = client.ask(to_host("evil.example", path));
    EXPECT_EQ(reply.status, 421) << path;
    EXPECT_THAT(reply.body, AllOf(HasSubstr("--allowed-host"), HasSubstr("evil.example"), Not(HasSubstr("pair"))));
  }
  EXPECT_EQ(client.ask(to_host("recast.example:80")).status, 200) << "the connection goes on";
  const std::string infer = infer_pair();
  EXPECT_EQ(client.ask(std::string(infer).replace(infer.find("localhost"), 9, "evil.test")).status, 421);
  EXPECT_EQ(client.ask("OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 421);
  EXPECT_EQ(at.ask("GET /v2 HTTP/1.0\r\nHost: evil.example\r\n\r\n").status, 421);
  EXPECT_EQ(at.ask("GET /v2 HTTP/1.0\r\n\r\n").status, 200);
  EXPECT_TRUE(at.becomes("recast_http_refusals_total", 10, "host"));
  EXPECT_TRUE(at.json(get("/v2/openapi.json"))["paths"]["/v2"]["get"]["responses"].contains("421"));
}

TEST(HttpHost, IsCheckedOnThePortForMetrics) {
  HttpOptions options = quick_options();
  options.metrics_only = true;
  TestServer at(options);
  EXPECT_EQ(at.ask(to_host("evil.example", "/metrics")).status, 421);
  EXPECT_EQ(at.ask(to_host("127.0.0.1", "/metrics")).status, 200);
}

TEST(HttpHost, MeansNothingWhereTokensAreAskedFor) {
  const TemporaryFolder folder;
  const std::string token = add_token(folder / "tokens.yaml", entry_of("shop", {Role::kInfer}));
  TokenTable table(folder / "tokens.yaml");
  TestServer at(quick_options(), &table);
  EXPECT_EQ(at.ask(to_host("shop.example", "/v2/health/ready")).status, 200);
  EXPECT_EQ(at.ask(to_host("shop.example")).status, 401);
  EXPECT_EQ(at.ask(to_host("shop.example\r\nAuthorization: Bearer " + token)).status, 200);
  EXPECT_FALSE(at.json(get("/v2/openapi.json"))["paths"]["/v2"]["get"]["responses"].contains("421"));
}

}  // namespace
}  // namespace recast
