#include "recast/serve/http_server.h"

#include <thread>

#include "base/log_capture.h"
#include "format/python_tool.h"
#include "http_fixture.h"
#include "served_tasks.h"

namespace recast {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// ---- what the paths answer -----------------------------------------------------------------------------------------

TEST(HttpServer, SaysWhetherItIsLiveAndReady) {
  TestServer at;
  EXPECT_EQ(at.json(get("/v2/health/live")), nlohmann::json({{"live", true}}));
  EXPECT_EQ(at.json(get("/v2/health/ready")), nlohmann::json({{"ready", true}}));
  at.server.not_ready();
  EXPECT_EQ(at.ask(get("/v2/health/ready")).status, 503);
  EXPECT_EQ(at.ask(get("/v2/health/live")).status, 200);
  EXPECT_EQ(at.ask(infer_pair()).status, 200) << "all else goes on";
}

TEST(HttpServer, DescribesServerAndModels) {
  TestServer at;
  EXPECT_EQ(at.json(get("/v2"))["name"], "recast");
  EXPECT_EQ(at.json(get("/v2/models/five"))["outputs"][0]["shape"], nlohmann::json({-1, 5}));
  EXPECT_EQ(at.json(get("/v2/models/five/versions/1"))["name"], "five");
  EXPECT_EQ(at.json(get("/v2/models/pair/ready")), nlohmann::json({{"name", "pair"}, {"ready", true}}));
  EXPECT_EQ(at.json(get("/v2/models/pair/versions/1/ready"))["ready"], true);
  const HttpReply unknown = at.ask(get("/v2/models/fve"));
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(nlohmann::json::parse(unknown.body)["error"], "[serve] no model 'fve', did you mean 'five'?");
}

TEST(HttpServer, InfersFromJson) {
  TestServer at;
  const HttpReply reply = at.ask(infer_pair());
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.field("content-type"), "application/json");
  EXPECT_THAT(logits_of(reply), ElementsAre(6, 12));
  const auto body = nlohmann::json::parse(reply.body);
  EXPECT_EQ(body["id"], "7");
  EXPECT_EQ(body["model_name"], "pair");
  EXPECT_THAT(logits_of(at.ask(post("/v2/models/five/versions/1/infer", kBody))), ElementsAre(6, 12, 18, 24, 30));
}

TEST(HttpServer, InfersFromBinaryTensorsAndAnswersInThem) {
  TestServer at;
  const std::string json = R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":)"
                           R"({"binary_data_size":8}}],"parameters":{"binary_data_output":true}})";
  const float x[] = {2, 3};
  const std::string body = json + std::string(reinterpret_cast<const char*>(x), 8);
  const HttpReply reply = at.ask(post("/v2/models/pair/infer", body,
                                      fmt::format("Content-Type: application/octet-stream\r\n"
                                                  "Inference-Header-Content-Length: {}\r\n",
                                                  json.size())));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.field("content-type"), "application/octet-stream");
  const std::size_t length = std::stoul(reply.field("inference-header-content-length"));
  ASSERT_EQ(reply.body.size(), length + 8);
  float logits[2];
  std::memcpy(logits, reply.body.data() + length, 8);
  EXPECT_THAT(logits, ElementsAre(5, 10));
  EXPECT_EQ(at.ask(post("/v2/models/pair/infer", body, "Inference-Header-Content-Length: 1x\r\n")).status, 400);
  EXPECT_EQ(at.ask(post("/v2/models/pair/infer", body, "Inference-Header-Content-Length: 99999\r\n")).status, 400);
}

TEST(HttpServer, TellsWhatIsWrongWithARequest) {
  TestServer at;
  const HttpReply reply = at.ask(post("/v2/models/pair/infer", R"({"inputs":[{"name":"x"}]})"));
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(nlohmann::json::parse(reply.body)["error"].get<std::string>(), HasSubstr("inputs[0].datatype"));
  EXPECT_EQ(at.ask(post("/v2/models/pair/infer", "{")).status, 400);
  EXPECT_EQ(at.ask(post("/v2/models/pair/infer", "")).status, 400);
  EXPECT_EQ(at.ask(post("/v2/models/paar/infer", kBody)).status, 404);
}

TEST(HttpServer, KeepsStatisticsAndTheIndex) {
  TestServer at;
  at.ask(infer_pair());
  EXPECT_EQ(at.json(get("/v2/models/stats"))["model_stats"][0]["inference_count"], 1);
  EXPECT_EQ(at.json(get("/v2/models/pair/stats"))["model_stats"].size(), 1);
  EXPECT_EQ(at.json(get("/v2/models/pair/versions/1/stats"))["model_stats"][0]["name"], "pair");
  EXPECT_EQ(at.json(post("/v2/repository/index", "")).size(), 2);
  EXPECT_EQ(at.json("POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\n\r\n").size(), 2) << "curl -X POST";
  EXPECT_EQ(at.json(post("/v2/repository/index", R"({"ready":true})"))[0]["state"], "READY");
  for (const char* bad : {"[]", "{", R"({"ready":1})", R"({"ready":true,"ready":false})", "nul"})
    EXPECT_EQ(at.ask(post("/v2/repository/index", bad)).status, 400) << bad;
}

TEST(HttpServer, LoadsAndUnloadsOnlyWhereThatIsAllowed) {
  TestServer closed;
  EXPECT_EQ(closed.ask(post("/v2/repository/models/pair/load", "")).status, 403);
  EXPECT_EQ(closed.ask(post("/v2/repository/models/pair/unload", "")).status, 403);
  HttpOptions options = quick_options();
  options.management = true;
  TestServer at(options);
  const HttpReply loaded = at.ask(post("/v2/repository/models/pair/load", R"({"parameters":{}})"));
  EXPECT_EQ(loaded.status, 200);
  EXPECT_EQ(loaded.body, "");
  EXPECT_THAT(at.service.loaded(), ElementsAre("pair"));
  EXPECT_EQ(at.ask(post("/v2/repository/models/pair/unload", R"({"parameters":{"unload_dependents":false}})")).status,
            200);
  EXPECT_THAT(at.service.loaded(), ElementsAre());
  EXPECT_EQ(at.json(post("/v2/repository/index", R"({"ready":true})")).size(), 1);
  EXPECT_EQ(at.ask(post("/v2/repository/models/paar/load", "")).status, 404);
  for (const char* bad : {R"({"parameters":{"config":"{}"}})", R"({"parameters":{"file:1/model":"x"}})",
                          R"({"parameters":[]})", R"({"parameters":{"a":{}}})"})
    EXPECT_EQ(at.ask(post("/v2/repository/models/pair/load", bad)).status, 400) << bad;
  EXPECT_EQ(at.ask(post("/v2/repository/models/pair/load", "", "Origin: http://evil\r\n")).status, 403)
      << "a page in a browser on this machine";
  EXPECT_THAT(at.service.loaded(), ElementsAre());
}

TEST(HttpServer, CountsItselfInPrometheusText) {
  TestServer at;
  at.ask(infer_pair());
  at.ask(get("/v2/models/secret-name"));
  at.ask(get("/etc/passwd"));
  at.ask("BREW /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(at.becomes("recast_http_requests_total", 4));
  const HttpReply reply = at.ask(get("/metrics"));
  EXPECT_EQ(reply.field("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(
      reply.body,
      AllOf(HasSubstr(R"(recast_http_requests_total{method="POST",path="/v2/models/{model}/infer",status="200"} 1)"),
            HasSubstr(R"(path="other",status="404")"), HasSubstr(R"(method="other")"),
            HasSubstr("recast_http_request_seconds_bucket"), HasSubstr("recast_http_connections_open "),
            Not(HasSubstr("secret-name")), Not(HasSubstr("passwd")), Not(HasSubstr("BREW"))));
  EXPECT_GT(at.metric("recast_http_received_bytes_total"), 100);
  EXPECT_GT(at.metric("recast_http_sent_bytes_total"), 100);
}

TEST(HttpServer, OffersMetricsOnAPortOfTheirOwn) {
  HttpOptions options = quick_options();
  options.metrics_only = true;
  TestServer at(options);
  EXPECT_EQ(at.ask(get("/metrics")).status, 200);
  EXPECT_EQ(at.ask(get("/v2/health/ready")).status, 200);
  EXPECT_EQ(at.ask(get("/v2")).status, 404);
  EXPECT_EQ(at.ask(infer_pair()).status, 404);
}

// ---- OpenAPI -------------------------------------------------------------------------------------------------------

/// Follows the references of one document, all of which must lead somewhere.
void check_references(const nlohmann::json& document, const nlohmann::json& at) {
  if (at.is_object() && at.contains("$ref")) {
    const std::string reference = at["$ref"];
    ASSERT_EQ(reference.substr(0, 1), "#");
    EXPECT_TRUE(document.contains(nlohmann::json::json_pointer(reference.substr(1)))) << reference;
  }
  if (at.is_structured())
    for (const auto& value : at) check_references(document, value);
}

TEST(HttpServer, DescribesItselfInOpenApi) {
  const TemporaryFolder folder;
  write_text(folder / "a.png", image_file(1));
  HttpOptions options = quick_options();
  options.examples = folder.path();
  TestServer at(options);
  const auto document = at.json(get("/v2/openapi.json"));
  EXPECT_EQ(document["openapi"], "3.1.0");
  check_references(document, document);
  std::set<std::string> ids;
  std::size_t operations = 0;
  for (const auto& [path, item] : document["paths"].items())
    for (const auto& [method, operation] : item.items()) {
      if (method == "parameters") continue;
      ++operations;
      ids.insert(operation["operationId"].get<std::string>());
      EXPECT_FALSE(operation.contains("security"));
      std::string concrete = path;
      for (const auto& [name, value] :
           {std::pair<std::string, std::string>{"{model}", "pair"}, {"{version}", "1"}, {"{example}", "a.png"}})
        if (const auto found = concrete.find(name); found != concrete.npos) concrete.replace(found, name.size(), value);
      const std::string request = method == "post"   ? post(concrete, "{}")
                                  : method == "head" ? "HEAD" + get(concrete).substr(3)
                                                     : get(concrete);
      const HttpReply reply = at.ask(request);
      ASSERT_TRUE(operation["responses"].contains(std::to_string(reply.status)))
          << method << " " << path << reply.status;
      if (method == "get") {
        const auto& content = operation["responses"]["200"]["content"];
        const std::string type = reply.field("content-type");
        EXPECT_TRUE(content.contains(type.substr(0, type.find(';')))) << path;
      }
    }
  EXPECT_EQ(ids.size(), operations);
  EXPECT_EQ(document["paths"].size(), 25);
}

// ---- HTTP ----------------------------------------------------------------------------------------------------------

TEST(HttpServer, AnswersHeadAsGetWithoutTheBody) {
  TestServer at;
  HttpClient client(at.server.port());
  const HttpReply got = client.ask(get("/v2"));
  const HttpReply head = client.ask("HEAD /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.field("content-length"), std::to_string(got.body.size()));
  EXPECT_EQ(client.ask(get("/v2")).body, got.body) << "no byte of a body came in between";
}

TEST(HttpServer, TellsWhichMethodsAPathTakes) {
  TestServer at;
  for (const auto& [method, path, allow] :
       std::vector<std::tuple<std::string, std::string, std::string>>{{"DELETE", "/v2", "GET, HEAD, OPTIONS"},
                                                                      {"PUT", "/v2/models/pair", "GET, HEAD, OPTIONS"},
                                                                      {"GET", "/v2/models/pair/infer", "POST, OPTIONS"},
                                                                      {"HEAD", "/v2/repository/index", "POST, OPTIONS"},
                                                                      {"TRACE", "/v2", "GET, HEAD, OPTIONS"},
                                                                      {"FOO", "/metrics", "GET, HEAD, OPTIONS"}}) {
    HttpReply reply = at.ask(fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n\r\n", method, path));
    EXPECT_EQ(reply.status, 405) << method << path;
    EXPECT_EQ(reply.field("allow"), allow);
    reply = at.ask(fmt::format("OPTIONS {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path));
    EXPECT_EQ(reply.status, 204);
    EXPECT_EQ(reply.field("allow"), allow);
  }
  EXPECT_EQ(at.ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 204);
  EXPECT_EQ(at.ask("CONNECT h:1 HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 404);
}

TEST(HttpServer, RefusesPathsThatLeadOut) {
  TestServer at;
  for (const char* path :
       {"/v2/models/..%2fx", "/v2/models/%2e%2e", "/v2/models/%252e%252e%252f", "/v2/models/a%00b", "/v2/models/a%0ab",
        "/v2/models/a%5cb", "/v2/models/%", "/v2/models/%zz", "/v2/models/a%20b", "/v2/models/%e2%80%aea",
        "/v2/models/C%3A%5cx", "/v2/models/pair/versions/0", "/v2/models/pair/versions/99999999999999999999"})
    EXPECT_EQ(at.ask(get(path)).status, 400) << path;
  for (const char* path :
       {"/..", "/v2/models/../../etc/passwd", "/v2/models/%2e%2e/infer/x", "/v1/models/pair", "/v2/"})
    EXPECT_EQ(at.ask(get(path)).status, 404) << path;
  EXPECT_EQ(at.ask(get("/v2/models/pa%69r")).status, 200);
  EXPECT_EQ(at.ask(get("/v2/models/pair?query=means+nothing")).status, 200);
}

TEST(HttpServer, TakesJsonAndBinaryBodiesAndNoOthers) {
  TestServer at;
  const auto status = [&](std::string_view field) {
    return at.ask(post("/v2/models/pair/infer", kBody, field)).status;
  };
  EXPECT_EQ(status("Content-Type: application/json\r\n"), 200);
  EXPECT_EQ(status("Content-Type: Application/JSON; charset=\"UTF-8\"\r\n"), 200);
  EXPECT_EQ(status("Content-Type: application/octet-stream\r\n"), 200);
  EXPECT_EQ(status("Content-Encoding: identity\r\n"), 200);
  EXPECT_EQ(status("Content-Type: application/x-www-form-urlencoded\r\n"), 200) << "as curl says unasked";
  EXPECT_EQ(status("Content-Type: image/jpeg\r\n"), 415);
  EXPECT_EQ(status("Content-Type: multipart/form-data; boundary=x\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/json; charset=utf-16\r\n"), 415);
  for (const char* coding : {"gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity"})
    EXPECT_EQ(status(fmt::format("Content-Encoding: {}\r\n", coding)), 415) << coding;
  EXPECT_EQ(at.ask(post("/v2/repository/index", "{}", "Content-Type: text/plain; charset=utf-8\r\n")).status, 200)
      << "as the asyncio client of Triton says";
}

TEST(HttpServer, KeepsAConnectionForTheNextRequest) {
  TestServer at;
  HttpClient client(at.server.port());
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(logits_of(client.ask(infer_pair())), ElementsAre(6, 12));
    EXPECT_EQ(client.ask(get("/nothing")).status, 404);
    EXPECT_EQ(client.ask(post("/nothing", "a small body that is read all the same")).status, 404);
    EXPECT_EQ(client.ask(post("/v2/models/pair/infer", "{")).status, 400);
  }
  EXPECT_EQ(at.metric("recast_http_connections_total"), 1);
  const HttpReply last = client.ask(get("/v2", "Connection: close\r\n"));
  EXPECT_EQ(last.field("connection"), "close");
  EXPECT_TRUE(client.ends());
}

TEST(HttpServer, SpeaksToOldClients) {
  TestServer at;
  HttpClient client(at.server.port());
  const HttpReply kept = client.ask("GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(kept.status, 200);
  EXPECT_EQ(kept.field("connection"), "keep-alive");
  EXPECT_EQ(client.ask("GET /v2 HTTP/1.0\r\n\r\n").field("connection"), "close");
  EXPECT_TRUE(client.ends());
}

TEST(HttpServer, AnswersPipelinedRequestsInOrder) {
  TestServer at;
  HttpClient client(at.server.port());
  std::string all;
  for (int i = 0; i < 50; ++i)
    all += infer_pair() + get("/v2/health/live") + get("/nothing") +
           post("/v2/models/five/infer", kBody, "Expect: 100-continue\r\n");
  client.send(all);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(logits_of(client.read()).size(), 2);
    EXPECT_EQ(client.read().body, R"({"live":true})");
    EXPECT_EQ(client.read().status, 404);
    EXPECT_EQ(logits_of(client.read()).size(), 5);
  }
}

TEST(HttpServer, InvitesABodyThatWaitsForIt) {
  TestServer at;
  HttpClient client(at.server.port());
  const std::string request = post("/v2/models/pair/infer", kBody, "Expect: 100-continue\r\n");
  client.send(request.substr(0, request.size() - kBody.size()));
  EXPECT_THAT(client.read_until("\r\n\r\n", 10s), HasSubstr("100 Continue"));
  client.send(kBody);
  const HttpReply reply = client.read();
  EXPECT_EQ(reply.interim, 0) << "once is enough";
  EXPECT_THAT(logits_of(reply), ElementsAre(6, 12));
  // One that is refused is not asked for.
  client.send(
      "POST /v2/models/pair/infer HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Encoding: gzip\r\n"
      "Content-Length: 9\r\n\r\n");
  const HttpReply refused = client.read();
  EXPECT_EQ(refused.interim, 0);
  EXPECT_EQ(refused.status, 415);
  EXPECT_EQ(refused.field("connection"), "close");
}

TEST(HttpServer, TakesChunkedBodies) {
  TestServer at;
  std::string chunked = "POST /v2/models/pair/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char c : kBody) chunked += fmt::format("1\r\n{}\r\n", c);
  EXPECT_THAT(logits_of(at.ask(chunked + "0\r\n\r\n")), ElementsAre(6, 12));
}

TEST(HttpServer, AnswersAClientThatFinishedSending) {
  TestServer at;
  HttpClient client(at.server.port());
  at.service.hold();
  client.send(infer_pair() + get("/v2"));
  client.finish_sending();
  ASSERT_TRUE(at.service.wait_for(1));
  std::this_thread::sleep_for(100ms);
  at.service.release();
  EXPECT_THAT(logits_of(client.read()), ElementsAre(6, 12));
  EXPECT_EQ(client.read().status, 200) << "what was pipelined before";
  EXPECT_TRUE(client.ends());
}

TEST(HttpServer, TellsTheServiceThatAClientHasGone) {
  TestServer at;
  at.service.hold();
  for (const bool reset : {false, true}) {
    HttpClient client(at.server.port());
    client.send(infer_pair());
    ASSERT_TRUE(at.service.wait_for(reset ? 2 : 1));
    if (reset)
      client.reset();
    else
      client.close();
    EXPECT_TRUE(at.service.wait_for_cancelled()) << reset;
  }
  EXPECT_TRUE(at.becomes("recast_http_refusals_total", 2, "gone"));
  at.service.release();
  EXPECT_EQ(at.ask(infer_pair()).status, 200);
  EXPECT_EQ(at.service.computed(), 1) << "nothing was computed for those who went";
}

TEST(HttpServer, AnswersManyConnectionsAtOnce) {
  TestServer at;
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(std::make_unique<HttpClient>(at.server.port()));
  for (int round = 0; round < 3; ++round) {
    for (const auto& client : clients) client->send(infer_pair());
    for (const auto& client : clients) EXPECT_THAT(logits_of(client->read()), ElementsAre(6, 12));
  }
  EXPECT_EQ(at.metric("recast_http_connections_open"), 200);
  clients.clear();
  EXPECT_TRUE(at.becomes("recast_http_connections_open", 0));
}

TEST(HttpServer, CarriesLargeBodiesBothWays) {
  TestServer at;
  const int columns = 3, rows = 1000;
  std::string json =
      fmt::format(R"({{"inputs":[{{"name":"x","shape":[{},{}],"datatype":"FP32","data":[)", rows, columns);
  for (int i = 0; i < rows * columns; ++i) json += i == 0 ? "0.123456789" : ",0.123456789";
  json += "]}]}";
  EXPECT_EQ(logits_of(at.ask(post("/v2/models/five/infer", json))).size(), 5000);
  const std::string head = fmt::format(R"({{"inputs":[{{"name":"x","shape":[1,{0}],"datatype":"FP32","parameters":{{)"
                                       R"("binary_data_size":{1}}}}}]}})",
                                       5 << 20, 20 << 20);
  const HttpReply reply = at.ask(post("/v2/models/pair/infer", head + std::string(20 << 20, '\0'),
                                      fmt::format("Inference-Header-Content-Length: {}\r\n", head.size())));
  EXPECT_THAT(logits_of(reply), ElementsAre(0, 0)) << reply.body;
}

TEST(HttpServer, KeepsTheNamesOfThisMachineToItself) {
  TestServer at;
  const LogCapture log(LogLevel::kWarn);
  for (const auto& [code, text, status] : std::vector<std::tuple<Code, std::string, int>>{
           {Code::kInternal, "batch.cc:12: rows > 0", 500},
           {Code::kDataCorruption, "[task] cars: checksum differs", 500},
           {Code::kUnavailable, "[store] cannot open '/srv/models/tasks.db'", 503}}) {
    at.service.break_with(code, text);
    const HttpReply reply = at.ask(infer_pair());
    EXPECT_EQ(reply.status, status);
    EXPECT_THAT(reply.body, AllOf(Not(HasSubstr("batch.cc")), Not(HasSubstr("srv")), Not(HasSubstr("checksum")),
                                  HasSubstr("server's log has the details")));
    EXPECT_EQ(reply.field("retry-after"), status == 503 ? "1" : "");
  }
  EXPECT_THAT(log.lines(), Contains(HasSubstr("batch.cc:12")));
  EXPECT_THAT(log.lines(), Contains(HasSubstr("/srv/models/tasks.db")));
  at.service.break_with(Code::kUnavailable, "[serve] 4096 rows wait already: try again later");
  EXPECT_THAT(at.ask(infer_pair()).body, HasSubstr("4096 rows wait"));
}

TEST(HttpServer, LogsRequestsWithoutWhatTheyAskedFor) {
  const LogCapture log(LogLevel::kDebug);
  {
    TestServer at;
    at.ask(get("/v2/models/pair?token=secret", "Authorization: Bearer secret\r\n"));
    at.becomes("recast_http_connections_open", 0);
  }
  const std::vector<std::string> events = log.lines();
  EXPECT_THAT(events, Contains(AllOf(HasSubstr("debug http.request"), HasSubstr("method=GET"), HasSubstr("{model}"),
                                     HasSubstr("status=200"))));
  EXPECT_THAT(events, Contains(HasSubstr("info http.listening address=127.0.0.1")));
  EXPECT_THAT(events, Contains(HasSubstr("info http.stopped")));
  for (const std::string& event : events) EXPECT_THAT(event, Not(HasSubstr("secret")));
}

// ---- start and stop ------------------------------------------------------------------------------------------------

TEST(HttpServer, RefusesOptionsThatCannotBe) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  const auto error = [&](const auto& change) {
    HttpOptions options = quick_options();
    change(options);
    return error_of(Code::kInvalidArgument, [&] { HttpServer(service, options, registry); });
  };
  EXPECT_THAT(error([](HttpOptions& o) { o.address = "0.0.0.0"; }), AllOf(HasSubstr("token"), HasSubstr("--insecure")));
  EXPECT_THAT(error([](HttpOptions& o) { o.address = "::"; }), HasSubstr("--insecure"));
  EXPECT_THAT(error([](HttpOptions& o) { o.address = "localhost"; }), HasSubstr("numbers"));
  EXPECT_THAT(error([](HttpOptions& o) { o.certificate = "c.pem"; }), HasSubstr("key belong together"));
  EXPECT_THAT(error([](HttpOptions& o) { o.client_ca = "c.pem"; }), HasSubstr("need TLS"));
  EXPECT_THAT(error([](HttpOptions& o) { o.allowed_hosts = {"http://recast.example"}; }), HasSubstr("a name alone"));
  EXPECT_THAT(error([](HttpOptions& o) { o.body_bytes = 0; }), HasSubstr("body_bytes must lie in 1.."));
  EXPECT_THAT(error([](HttpOptions& o) { o.correction_limits.bytes = 0; }), HasSubstr("corrections.bytes must lie"));
  EXPECT_THAT(error([](HttpOptions& o) { o.workers = 0; }), HasSubstr("workers must lie in 1.."));
  EXPECT_THAT(error([](HttpOptions& o) { o.idle_timeout = 0ms; }), HasSubstr("idle_timeout must lie in 1.."));
  HttpOptions open = quick_options();
  open.address = "0.0.0.0";
  open.insecure = true;
  HttpServer(service, open, registry).start();
}

TEST(HttpServer, SaysThatItsPortIsTaken) {
  TestServer at;
  HttpOptions options = quick_options();
  options.port = at.server.port();
  HttpServer second(at.service, options, at.registry);
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { second.start(); }), HasSubstr("another port"));
}

TEST(HttpServer, DrainsWithoutLosingWhatItTook) {
  TestServer at;
  HttpClient waiting(at.server.port()), idle(at.server.port()), receiving(at.server.port());
  at.service.hold();
  EXPECT_EQ(idle.ask(get("/v2")).status, 200);
  waiting.send(infer_pair());
  receiving.send(infer_pair().substr(0, 100));
  ASSERT_TRUE(at.service.wait_for(1));
  bool all = false;
  std::thread drain([&] { all = at.server.drain(std::chrono::steady_clock::now() + 20s); });
  EXPECT_TRUE(idle.ends()) << "who asked for nothing is not waited for";
  const auto refuses = [&] {
    try {
      HttpClient late(at.server.port());
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  EXPECT_TRUE(becomes_true(refuses)) << "the listener closes a moment later";
  receiving.send(infer_pair().substr(100));
  ASSERT_TRUE(at.service.wait_for(2));
  at.service.release();
  for (HttpClient* client : {&waiting, &receiving}) {
    const HttpReply reply = client->read();
    EXPECT_THAT(logits_of(reply), ElementsAre(6, 12));
    EXPECT_EQ(reply.field("connection"), "close");
    EXPECT_TRUE(client->ends());
    client->close();
  }
  drain.join();
  EXPECT_TRUE(all);
}

TEST(HttpServer, SaysWhatADrainLeftBehind) {
  TestServer at;
  HttpClient client(at.server.port());
  at.service.hold();
  client.send(infer_pair());
  ASSERT_TRUE(at.service.wait_for(1));
  EXPECT_FALSE(at.server.drain(std::chrono::steady_clock::now() + 100ms));
  at.server.stop_now();
  EXPECT_TRUE(at.service.wait_for_cancelled());
  EXPECT_EQ(client.read().status, 0);
  EXPECT_EQ(at.metric("recast_http_connections_open"), 0);
}

TEST(HttpServer, MayGoBeforeTheServiceAnswers) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  service.hold();
  {
    HttpServer server(service, quick_options(), registry);
    server.start();
    HttpClient client(server.port());
    client.send(infer_pair());
    ASSERT_TRUE(service.wait_for(1));
  }
  service.release();
  EXPECT_TRUE(service.drain(std::chrono::steady_clock::now() + 10s));
}

}  // namespace
}  // namespace recast
