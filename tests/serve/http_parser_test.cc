#include "serve/http_parser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/http_route.h"

namespace recast {
namespace {

using testing::HasSubstr;

constexpr HttpParserLimits kLimits{16384, 100, 8192, 1 << 20, 1000};

/// Feeds all of it, in pieces of that size, as a connection does.
struct Fed {
  explicit Fed(std::string_view bytes, std::size_t piece = 1 << 20, HttpParserLimits limits = kLimits)
      : parser(limits) {
    std::string waiting;
    while (!parser.done() && !parser.refusal() && !(bytes.empty() && waiting.empty())) {
      waiting += bytes.substr(0, piece);
      bytes.remove_prefix(std::min(piece, bytes.size()));
      std::size_t used = 0;
      do {
        used = parser.put(waiting);
        waiting.erase(0, used);
      } while (used > 0);
      if (bytes.empty() && used == 0) break;
    }
    rest = waiting + std::string(bytes);
  }
  int status() const { return parser.refusal() ? parser.refusal()->status : 0; }

  HttpParser parser;
  std::string rest;
};

std::string with(std::string_view fields, std::string_view body = "") {
  return fmt::format("POST /v2 HTTP/1.1\r\nHost: h\r\n{}\r\n{}", fields, body);
}

TEST(HttpParser, TakesARequestInPiecesOfAnySize) {
  const std::string plain = with("Content-Length: 11\r\nContent-Type: application/json\r\n", "hello world");
  const std::string chunked =
      with("Transfer-Encoding: chunked\r\n", "6\r\nhello \r\n5;x=1\r\nworld\r\n0\r\nTrailer: 1\r\n\r\n");
  for (const std::string& text : {plain, chunked})
    for (std::size_t piece = 1; piece <= text.size(); ++piece) {
      Fed fed(text + "GET", piece);
      ASSERT_EQ(fed.status(), 0) << piece << " " << (fed.parser.refusal() ? fed.parser.refusal()->text : "");
      ASSERT_TRUE(fed.parser.done()) << piece;
      EXPECT_EQ(fed.parser.take_body(), "hello world");
      EXPECT_EQ(fed.parser.head().method, "POST");
      EXPECT_EQ(fed.rest, "GET") << piece;
    }
}

TEST(HttpParser, ReadsWhatOfAHeaderMatters) {
  Fed fed(
      with("Content-Length: 2\r\nAuthorization: Bearer x\r\nExpect: 100-continue\r\nOrigin: o\r\n"
           "Inference-Header-Content-Length: 2\r\nContent-Encoding: gzip\r\nConnection: close\r\n"));
  const HttpHead& head = fed.parser.head();
  EXPECT_EQ(head.length, 2);
  EXPECT_EQ(head.authorization, "Bearer x");
  EXPECT_TRUE(head.expects_continue);
  EXPECT_EQ(head.origin, "o");
  EXPECT_EQ(head.inference_length, "2");
  EXPECT_EQ(head.content_encoding, "gzip");
  EXPECT_FALSE(head.keep_alive);
  EXPECT_FALSE(head.chunked);
}

TEST(HttpParser, TakesTheTargetsThatProxiesSend) {
  const auto target = [](std::string_view sent) {
    return Fed(fmt::format("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", sent)).parser.head().target;
  };
  EXPECT_EQ(target("/v2?x=1"), "/v2?x=1");
  EXPECT_EQ(target("http://host:1/v2"), "/v2");
  EXPECT_EQ(target("HTTPS://host"), "/");
  EXPECT_EQ(target("http://host?q"), "/?q");
}

TEST(HttpParser, RefusesWhatTwoReadersCouldReadInTwoWays) {
  const std::vector<std::pair<std::string, int>> cases = {
      {with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"), 400},
      {with("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), 400},
      {with("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400},
      {with("Content-Length: 3, 3\r\n", "abc"), 400},
      {with("Content-Length: -3\r\n"), 400},
      {with("Content-Length: +3\r\n", "abc"), 400},
      {with("Content-Length: 0x3\r\n", "abc"), 400},
      {with("Content-Length: 3 3\r\n", "abc"), 400},
      {with("Content-Length:\r\n"), 400},
      {with("Content-Length: 99999999999999999999999\r\n"), 400},
      {with("Content-Length : 3\r\n", "abc"), 400},
      {with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501},
      {with("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), 501},
      {with("Transfer-Encoding: identity\r\n", "abc"), 501},
      {with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {with("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501},
      {"POST /v2 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {with("Host: other\r\n"), 400},
      {"GET /v2 HTTP/1.1\r\n\r\n", 400},
      {with("Expect: 200-ok\r\n"), 417},
      {"GET /v2 HTTP/2.0\r\nHost: h\r\n\r\n", 505},
      {"GET /v2\r\n\r\n", 400},
      {"GET  /v2 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"G\x01T /v2 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET /v2 HTTP/1.1\nHost: h\n\n", 505},
      {with(std::string("A: b\0c\r\n", 8)), 400},
      {with("A b: c\r\n"), 400},
      {with("no colon\r\n"), 400},
      {"\x16\x03\x01\x02" + std::string(600, '\x01'), 400},
  };
  for (const auto& [text, status] : cases) {
    const Fed fed(text);
    EXPECT_EQ(fed.status(), status) << text;
    EXPECT_FALSE(fed.parser.done() && !fed.parser.refusal()) << text;
  }
}

TEST(HttpParser, RefusesBadChunks) {
  const auto status = [](std::string_view body) { return Fed(with("Transfer-Encoding: chunked\r\n", body)).status(); };
  EXPECT_EQ(status("-2\r\nab\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("+2\r\nab\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("0x2\r\nab\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status(" 2\r\nab\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("\r\nab\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("g\r\n"), 400);
  EXPECT_EQ(status("2\r\nabc\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("2\nab\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("ffffffffffffffffffff\r\n"), 400);
  EXPECT_EQ(status("7fffffffffffffff\r\nab"), 413);
  EXPECT_EQ(status("2;" + std::string(20'000, 'x')), 400);
  EXPECT_EQ(status("0\r\n" + std::string(20'000, 'x')), 400);
  EXPECT_EQ(status("0\r\nContent-Length: 5\r\n\r\n"), 400);
  EXPECT_EQ(status("2\r\nab\r\n0\r\n\r\n"), 0);
}

TEST(HttpParser, BoundsTheNumberOfChunksAndTheirExtensions) {
  std::string many, extended;
  for (int i = 0; i < 1001; ++i) many += "1\r\nx\r\n";
  for (int i = 0; i < 200; ++i) extended += "1;" + std::string(100, 'e') + "\r\nx\r\n";
  const Fed chunks(with("Transfer-Encoding: chunked\r\n", many));
  EXPECT_EQ(chunks.status(), 400);
  EXPECT_THAT(chunks.parser.refusal()->text, HasSubstr("more than 1000 chunks"));
  EXPECT_EQ(Fed(with("Transfer-Encoding: chunked\r\n", extended)).status(), 400);
}

TEST(HttpParser, KeepsToItsLimits) {
  EXPECT_EQ(Fed(with("Content-Length: 1048577\r\n")).status(), 413);
  EXPECT_EQ(Fed(with("Content-Length: 1048576\r\n")).status(), 0);
  EXPECT_EQ(Fed(with("X: " + std::string(17'000, 'x') + "\r\n")).status(), 431);
  EXPECT_EQ(Fed(with("X: " + std::string(17'000, 'x'))).status(), 431) << "before the header ends";
  EXPECT_EQ(Fed("GET /" + std::string(9'000, 'x') + " HTTP/1.1\r\nHost: h\r\n\r\n").status(), 414);
  EXPECT_EQ(Fed("GET /" + std::string(90'000, 'x')).status(), 414);
  std::string fields;
  for (int i = 0; i < 99; ++i) fields += fmt::format("X-{}: 1\r\n", i);
  EXPECT_EQ(Fed(with(fields)).status(), 0);
  EXPECT_EQ(Fed(with(fields + "One: more\r\n")).status(), 431);
  // Both halves of a header within the limit, and more together.
  EXPECT_EQ(
      Fed("GET /" + std::string(8'000, 'x') + " HTTP/1.1\r\nHost: h\r\nX: " + std::string(9'000, 'x') + "\r\n\r\n")
          .status(),
      431);
}

TEST(HttpParser, HoldsNoMoreThanWhatArrived) {
  HttpParserLimits limits = kLimits;
  limits.body_bytes = 64 << 20;
  Fed fed(with("Content-Length: 67108864\r\n", std::string(1000, 'x')), 1 << 20, limits);
  EXPECT_FALSE(fed.parser.done());
  EXPECT_LE(fed.parser.body_bytes(), 4096);
}

TEST(HttpParser, LimitsOneBodyMoreThanOthers) {
  HttpParser parser(kLimits);
  const std::string head = with("Transfer-Encoding: chunked\r\n");
  EXPECT_EQ(parser.put(head), head.size());
  ASSERT_TRUE(parser.head_done());
  parser.limit_body(10);
  EXPECT_EQ(parser.put("b\r\nhello world\r\n"), 0);
  ASSERT_TRUE(parser.refusal());
  EXPECT_EQ(parser.refusal()->status, 413);
}

TEST(HttpRoute, FindsEveryPathOfTheProtocol) {
  const auto action = [](std::string_view path) {
    const auto route = find_route(path);
    return route ? static_cast<int>(route->action) : -1;
  };
  EXPECT_EQ(action("/v2"), static_cast<int>(HttpAction::kServerMetadata));
  EXPECT_EQ(action("/v2/models/stats"), static_cast<int>(HttpAction::kStatistics));
  EXPECT_EQ(action("/v2/models/m"), static_cast<int>(HttpAction::kModelMetadata));
  EXPECT_EQ(action("/v2/models/stats/stats"), static_cast<int>(HttpAction::kModelStatistics));
  const auto route = find_route("/v2/models/a%40b/versions/3/infer");
  ASSERT_TRUE(route);
  EXPECT_EQ(route->action, HttpAction::kInfer);
  EXPECT_EQ(route->model, "a%40b");
  EXPECT_EQ(route->version, "3");
  EXPECT_EQ(route->path_template, "/v2/models/{model}/versions/{version}/infer");
  EXPECT_EQ(action("/"), static_cast<int>(HttpAction::kPage));
  EXPECT_EQ(action("/recast/v1/tasks/t/corrections"), static_cast<int>(HttpAction::kCorrect));
  EXPECT_EQ(find_route("/recast/v1/examples/a%20b.png")->example, "a%20b.png");
  for (const std::string_view path : {"",
                                      "//",
                                      "v2",
                                      "/v2/",
                                      "//v2",
                                      "/v2//",
                                      "/v1",
                                      "/v2/models",
                                      "/v2/models/",
                                      "/v2/models//infer",
                                      "/v2/models/m/versions",
                                      "/v2/models/m/versions//infer",
                                      "/v2/models/m/infer/",
                                      "/v2/models/m/x",
                                      "/V2",
                                      "/v2/../v2",
                                      "/metrics/",
                                      "/recast",
                                      "/recast/v1/",
                                      "/recast/v1/examples",
                                      "/index.html"})
    EXPECT_FALSE(find_route(path)) << path;
  EXPECT_EQ(path_of("/v2?token=x/y"), "/v2");
}

}  // namespace
}  // namespace recast
