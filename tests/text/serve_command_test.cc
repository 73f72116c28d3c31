// `recast serve` and `recast token` as a person meets them; what travels over the ports is tested in tests/serve.
#include <nlohmann/json.hpp>

#include "base/becomes_true.h"
#include "serve/access_lines.h"
#include "serve/http_client.h"
#include "serve/serving_program.h"
#include "text/toy_model_test.h"

namespace recast {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ServeCommandTest : public ToyModelTest {
 protected:
  static HttpReply ask(int port, const std::string& path, const std::string& more = "") {
    return HttpClient(static_cast<std::uint16_t>(port)).ask(get(path, more));
  }
};

TEST_F(ServeCommandTest, SaysWhereItListensAndEndsWhenItIsAsked) {
  ServingProgram server(output_.path(), {path("model")});
  EXPECT_EQ(server.started()["address"], "127.0.0.1");
  EXPECT_EQ(server.started()["directories"], nlohmann::json::array({path("model")}));
  EXPECT_EQ(ask(server.http_port(), "/v2/health/ready").status, 200);
  EXPECT_EQ(ask(server.metrics_port(), "/v2/health/ready").status, 200);
  EXPECT_EQ(ask(server.metrics_port(), "/metrics").status, 200);
  EXPECT_EQ(ask(server.metrics_port(), "/v2").status, 404);
  const Answer end = server.stop();
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_THAT(end.err, HasSubstr("answering what was taken"));
}

TEST_F(ServeCommandTest, ShowsPeopleATable) {
  const RunningRecast program(output_.path(),
                              {"serve", path("model"), "--http-port", "0", "--no-grpc", "--no-metrics"});
  EXPECT_TRUE(becomes_true([&] { return program.over() || !text_of(output_ / "stdout").empty(); }));
  program.interrupt();
  const Answer answer = program.wait();
  EXPECT_EQ(answer.status, 0) << answer.err;
  EXPECT_THAT(answer.out, ContainsRegex("HTTP +http://127.0.0.1:[0-9]+/v2"));
  EXPECT_THAT(answer.out, AllOf(HasSubstr(path("model")), Not(HasSubstr("gRPC"))));
}

TEST_F(ServeCommandTest, ServesWhatIsLearnedMeanwhile) {
  ServingProgram server(output_.path(), {path("model"), "--no-grpc"});
  EXPECT_TRUE(server.started()["grpc_port"].is_null());
  EXPECT_EQ(ask(server.http_port(), "/v2/models/colours").status, 404);
  const TemporaryFolder learning;
  const Answer learned = RunningRecast(learning.path(), {"learn", path("model"), "--task", "colours", "--data",
                                                         path("data"), "--epochs", "1", "--image-size", "16"})
                             .wait();
  ASSERT_EQ(learned.status, 0) << learned.err;
  const HttpReply model = ask(server.http_port(), "/v2/models/colours");
  EXPECT_EQ(model.status, 200) << model.body;
  EXPECT_EQ(nlohmann::json::parse(model.body)["versions"], nlohmann::json::array({"1"}));
}

TEST_F(ServeCommandTest, TokensOfTheTokenCommandOpenIt) {
  const Answer made = recast({"token", path("tokens"), "shop", "--role", "infer", "--role", "read", "--tasks", "cars*",
                              "--expires", "2099-01-31T00:00:00Z"});
  ASSERT_EQ(made.status, 0) << made.err;
  const std::string token = made.out.substr(0, made.out.find('\n'));
  EXPECT_THAT(token, StartsWith("recast_"));
  EXPECT_THAT(text_of(path("tokens")), AllOf(HasSubstr("shop"), HasSubstr("cars*"), Not(HasSubstr(token))));

  ServingProgram server(output_.path(), {path("model"), "--tokens", path("tokens")});
  const std::string header = "Authorization: Bearer " + token + "\r\n";
  EXPECT_EQ(ask(server.http_port(), "/v2").status, 401);
  EXPECT_EQ(ask(server.http_port(), "/v2", header).status, 200);
  EXPECT_EQ(ask(server.http_port(), "/metrics").status, 401);
  EXPECT_EQ(ask(server.metrics_port(), "/metrics").status, 200);
  const Answer end = server.stop();
  EXPECT_EQ(end.status, 0) << end.err;
}

TEST_F(ServeCommandTest, WritesAnAccessLogThatSighupOpensAnew) {
  ServingProgram server(output_.path(), {path("model"), "--access-log", path("access.log")});
  EXPECT_EQ(ask(server.http_port(), "/v2").status, 200);
  EXPECT_EQ(ask(server.metrics_port(), "/v2/health/live").status, 200);
  ASSERT_EQ(wait_for_lines(path("access.log"), 1).size(), 1u);
  std::filesystem::rename(path("access.log"), path("access.log.1"));
  server.signal(SIGHUP);
  ASSERT_TRUE(becomes_true([&] { return std::filesystem::exists(path("access.log")); }));
  EXPECT_EQ(ask(server.http_port(), "/v2/models/none").status, 404);
  const Answer end = server.stop();
  EXPECT_EQ(end.status, 0) << end.err;
  const auto old_lines = access_lines(path("access.log.1")), new_lines = access_lines(path("access.log"));
  ASSERT_EQ(old_lines.size(), 1u) << "the port for metrics has no lines";
  ASSERT_EQ(new_lines.size(), 1u);
  EXPECT_EQ(old_lines[0].value("route", ""), "/v2");
  EXPECT_EQ(new_lines[0].value("model", ""), "none");
}

TEST_F(ServeCommandTest, WritesALogThatSighupOpensAnew) {
  ServingProgram server(output_.path(), {path("model"), "--no-grpc", "--log", path("events.log")});
  EXPECT_THAT(text_of(path("events.log")), HasSubstr("http.listening"));
  std::filesystem::rename(path("events.log"), path("events.log.1"));
  server.signal(SIGHUP);
  for (int i = 0; i < 1000 && !std::filesystem::exists(path("events.log")); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const Answer end = server.stop();
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_THAT(text_of(path("events.log")), AllOf(HasSubstr("serve.drained"), Not(HasSubstr("http.listening"))));
  EXPECT_THAT(text_of(path("events.log.1")), Not(HasSubstr("serve.drained")));
}

TEST_F(ServeCommandTest, GoesOnWithALogThatCannotBeOpenedAnew) {
  std::filesystem::create_directory(path("logs"));
  ServingProgram server(output_.path(), {path("model"), "--no-grpc", "--log", path("logs/events.log")});
  std::filesystem::rename(path("logs"), path("old"));
  server.signal(SIGHUP);
  for (int i = 0; i < 1000 && text_of(path("old/events.log")).find("log.kept_old") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const Answer end = server.stop();
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_THAT(text_of(path("old/events.log")), AllOf(HasSubstr("log.kept_old"), HasSubstr("serve.drained")));
}

TEST_F(ServeCommandTest, AnswersUnderTheNamesThatItIsGiven) {
  ServingProgram server(output_.path(),
                        {path("model"), "--no-grpc", "--allowed-host", "a.example", "--allowed-host", "b.example"});
  const auto status = [](int port, const std::string& host) {
    return HttpClient(static_cast<std::uint16_t>(port))
        .ask("GET /v2/health/live HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
        .status;
  };
  for (const int port : {server.http_port(), server.metrics_port()}) {
    EXPECT_EQ(status(port, "b.example:80"), 200);
    EXPECT_EQ(status(port, "c.example"), 421);
  }
}

TEST_F(ServeCommandTest, WritesItsAccessLogToStandardErrorWhereThatIsAskedFor) {
  ServingProgram server(output_.path(), {path("model"), "--access-log", "-"});
  EXPECT_EQ(ask(server.http_port(), "/v2").status, 200);
  const Answer end = server.stop();
  EXPECT_THAT(end.err, HasSubstr("\"event\":\"request\""));
}

TEST_F(ServeCommandTest, TakesLimitsByName) {
  ServingProgram server(output_.path(), {path("model"), "--limit", "http.url_bytes=30", "--limit", "http.chunks=7"});
  EXPECT_EQ(ask(server.http_port(), "/v2/models/colours").status, 404);
  EXPECT_EQ(ask(server.http_port(), "/v2/models/" + std::string(30, 'x')).status, 414);
  const TemporaryFolder second;
  const auto said = [&](const std::string& limit) {
    const Answer answer = RunningRecast(second.path(), {"serve", path("model"), "--limit", limit}).wait();
    EXPECT_EQ(answer.status, 2);
    return answer.err;
  };
  EXPECT_THAT(said("http.url_byte=30"), HasSubstr("did you mean 'http.url_bytes'"));
  EXPECT_THAT(said("http.url_bytes=0"), HasSubstr("url_bytes must lie in 1.."));
}

TEST_F(ServeCommandTest, RefusesWhatItCannotServe) {
  EXPECT_THAT(refused(4, {"serve", path("nowhere")}), HasSubstr("nowhere"));
  EXPECT_THAT(refused(2, {"serve", path("model"), "--no-http", "--no-grpc"}), HasSubstr("nothing to serve"));
  EXPECT_THAT(refused(2, {"serve", path("model"), "--http-port", "70000"}),
              HasSubstr("--http-port must lie in 0..65535"));
  EXPECT_THAT(refused(2, {"serve", path("model"), "--address", "0.0.0.0"}), HasSubstr("--tokens"));
  EXPECT_THAT(refused(2, {"serve", path("model"), "--key", path("key.pem")}), HasSubstr("certificate"));
  EXPECT_THAT(refused(2, {"serve", path("model"), path("model")}), HasSubstr("rename one"));
  EXPECT_THAT(refused(2, {"serve", path("model"), "--workrs", "3"}), HasSubstr("unknown flag"));
  EXPECT_THAT(refused(1, {"serve", path("model"), "--access-log", path("none") + "/access.log"}),
              HasSubstr("choose another file for --access-log"));

  write_text(path("broken") + "/config.json", "{");
  EXPECT_THAT(refused(5, {"serve", path("broken")}), HasSubstr("broken"));

  ServingProgram server(output_.path(), {path("model")});
  const TemporaryFolder second;
  const Answer taken = RunningRecast(second.path(), {"serve", path("model"), "--http-port",
                                                     std::to_string(server.http_port()), "--no-grpc", "--no-metrics"})
                           .wait();
  EXPECT_EQ(taken.status, 1);
  EXPECT_THAT(taken.err, HasSubstr("choose another port"));
}

TEST_F(ServeCommandTest, RefusesTokensThatMeanNothing) {
  EXPECT_THAT(refused(2, {"token", path("tokens"), "shop", "--role", "write"}), HasSubstr("infer"));
  EXPECT_THAT(refused(2, {"token", path("tokens"), "shop", "--role", "read", "--expires", "tomorrow"}),
              HasSubstr("--expires must be a time in UTC"));
  EXPECT_THAT(refused(2, {"token", path("tokens"), "two words", "--role", "read"}), HasSubstr("its name"));
  ASSERT_EQ(recast({"token", path("tokens"), "shop", "--role", "read"}).status, 0);
  EXPECT_THAT(refused(2, {"token", path("tokens"), "shop", "--role", "read"}), HasSubstr("has a token called"));
}

}  // namespace
}  // namespace recast
