// What the ports and the engine write into the access log.
#include "access_lines.h"

#include "format/temporary_folder.h"
#include "grpc_fixture.h"
#include "http_fixture.h"
#include "recast/serve/access_log.h"
#include "recast/serve/token_table.h"
#include "token_entry.h"

namespace recast {
namespace {

using nlohmann::json;

const std::string kTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

class AccessLines : public testing::Test {
 protected:
  /// The first `count` lines, in the order in which they were written: a line may stand behind that of a later request,
  /// whose answer was sent sooner, so who relies on the order asks after each request.
  std::vector<json> lines(std::size_t count) const {
    const std::vector<json> all = wait_for_lines(file_, count);
    EXPECT_EQ(all.size(), count);
    return all.size() == count ? all : std::vector<json>(count, json::object());
  }
  json line() const { return lines(1).front(); }

  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "access.log";
  prometheus::Registry registry_;
  AccessLog log_{file_.string(), registry_};
};

TEST_F(AccessLines, TellOfARequestOverHttp) {
  const std::string token = add_token(folder_ / "t", entry_of("shop", {Role::kInfer}));
  TokenTable table(folder_ / "t");
  TestServer at(quick_options(), &table, &log_);
  const HttpReply reply = at.ask(
      post("/v2/models/pair/versions/1/infer", kBody,
           "X-Request-Id: order-77\r\ntraceparent: " + kTraceparent + "\r\nAuthorization: Bearer " + token + "\r\n"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.field("x-request-id"), "order-77");
  json told = line();
  EXPECT_GT(told["received"], kBody.size());
  EXPECT_GT(told["sent"], reply.body.size());
  EXPECT_GT(told["ms"], 0);
  for (const char* varies : {"time", "received", "sent", "ms"}) told.erase(varies);
  EXPECT_EQ(told, (json{{"level", "info"},
                        {"event", "request"},
                        {"id", "order-77"},
                        {"trace", "0af7651916cd43dd8448eb211c80319c"},
                        {"span", "b7ad6b7169203331"},
                        {"protocol", "http"},
                        {"method", "POST"},
                        {"route", "/v2/models/{model}/versions/{version}/infer"},
                        {"model", "pair:1"},
                        {"status", 200},
                        {"complete", true},
                        {"caller", "shop"},
                        {"peer", "127.0.0.1"}}));
}

TEST_F(AccessLines, TellOfHttpRequestsThatFail) {
  TestServer at(quick_options(), nullptr, &log_);
  const std::vector<std::pair<std::string, int>> requests = {
      {get("/v2/models/none"), 404},
      {get("/nowhere"), 404},
      {"DELETE /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
      {post("/v2/models/pair/infer", "{"), 400},
      {post("/v2/repository/models/pair/load", ""), 403},
      {"no HTTP at all\r\n\r\n", 505},
  };
  std::set<std::string> ids;
  std::vector<json> told;
  for (const auto& [request, status] : requests) {
    const HttpReply reply = at.ask(request);
    EXPECT_EQ(reply.status, status) << request;
    ids.insert(reply.field("x-request-id"));
    told.push_back(lines(told.size() + 1).back());
    EXPECT_EQ(told.back().value("status", 0), status) << told.back();
    EXPECT_EQ(told.back().value("id", ""), reply.field("x-request-id")) << told.back();
    EXPECT_TRUE(told.back().value("complete", false)) << told.back();
  }
  EXPECT_EQ(ids.size(), requests.size()) << "every request has an id of its own";
  EXPECT_EQ(told[0].value("model", ""), "none");
  EXPECT_EQ(told[1].value("route", ""), "other");
}

TEST_F(AccessLines, TellOfEachRequestOfAConnectionOnce) {
  TestServer at(quick_options(), nullptr, &log_);
  HttpClient client(at.server.port());
  client.send(get("/v2/health/live") + infer_pair() + get("/v2"));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.read().status, 200);
  client.close();
  lines(3);
  at.ask(get("/v2/models/pair"));
  std::vector<std::string> routes;
  for (const json& told : lines(4)) routes.push_back(told.value("route", ""));
  EXPECT_THAT(routes, testing::ElementsAre("/v2/health/live", "/v2/models/{model}/infer", "/v2", "/v2/models/{model}"));
}

TEST_F(AccessLines, TellOfClientsThatGoAndOfSlowOnes) {
  HttpOptions options = quick_options();
  options.body_timeout = 100ms;
  TestServer at(options, nullptr, &log_);
  at.service.hold();
  {
    HttpClient gone(at.server.port());
    gone.send(infer_pair());
    ASSERT_TRUE(at.service.wait_for(1));
    gone.reset();
  }
  json told = line();
  EXPECT_EQ(told.value("status", 0), 499) << told;
  EXPECT_FALSE(told.value("complete", true));
  EXPECT_EQ(told.value("model", ""), "pair");
  at.service.release();
  HttpClient slow(at.server.port());
  slow.send(infer_pair().substr(0, infer_pair().size() - 5));
  EXPECT_EQ(slow.read().status, 408);
  EXPECT_EQ(lines(2).back().value("status", 0), 408);
}

TEST_F(AccessLines, TellOfRequestsThatTheEndOfTheServerCutsOff) {
  {
    TestServer at(quick_options(), nullptr, &log_);
    at.service.hold();
    HttpClient client(at.server.port());
    client.send(infer_pair());
    ASSERT_TRUE(at.service.wait_for(1));
    EXPECT_FALSE(at.server.drain(std::chrono::steady_clock::now() + 50ms));
    at.server.stop_now();
  }
  EXPECT_EQ(line().value("status", 0), 499);
}

TEST_F(AccessLines, TellOfCallsOverGrpc) {
  const std::string token = add_token(folder_ / "t", entry_of("shop", {Role::kInfer}));
  TokenTable table(folder_ / "t");
  GrpcTestServer at(any_port(), &table, &log_);
  {
    GrpcContext context(token);
    context.AddMetadata("x-request-id", "order-78");
    context.AddMetadata("traceparent", kTraceparent);
    inference::ModelInferResponse answer;
    auto request = call_for("pair", {1, 2, 3});
    request.set_model_version("1");
    ASSERT_TRUE(at.stub->ModelInfer(&context, request, &answer).ok());
    const auto id = context.GetServerInitialMetadata().find("x-request-id");
    ASSERT_NE(id, context.GetServerInitialMetadata().end());
    EXPECT_EQ(std::string(id->second.data(), id->second.size()), "order-78");
  }
  json told = line();
  EXPECT_GT(told["received"], 12);
  EXPECT_GT(told["sent"], 8);
  for (const char* varies : {"time", "received", "sent", "ms"}) told.erase(varies);
  EXPECT_EQ(told, (json{{"level", "info"},
                        {"event", "request"},
                        {"id", "order-78"},
                        {"trace", "0af7651916cd43dd8448eb211c80319c"},
                        {"span", "b7ad6b7169203331"},
                        {"protocol", "grpc"},
                        {"route", "/inference.GRPCInferenceService/ModelInfer"},
                        {"model", "pair:1"},
                        {"status", 0},
                        {"complete", true},
                        {"caller", "shop"},
                        {"peer", "127.0.0.1"}}));
  inference::ModelMetadataRequest metadata;
  inference::ModelMetadataResponse answer;
  metadata.set_name("none");
  EXPECT_FALSE(call(*at.stub, &Stub::ModelMetadata, metadata, answer, token).ok());
  lines(2);
  EXPECT_FALSE(call(*at.stub, &Stub::ModelMetadata, metadata, answer, "wrong").ok());
  lines(3);
  EXPECT_EQ(send_bytes(at.channel, "/nothing/Here", "").error_code(), grpc::StatusCode::UNIMPLEMENTED);
  const std::vector<json> failed = lines(4);
  EXPECT_EQ(failed[1].value("status", 0), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(failed[1].value("model", ""), "none");
  EXPECT_EQ(failed[2].value("status", 0), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_FALSE(failed[2].contains("caller"));
  EXPECT_EQ(failed[3].value("route", ""), "other");
}

TEST_F(AccessLines, TellOfEachRequestOfAStream) {
  GrpcTestServer at(any_port(), nullptr, &log_);
  StreamCall call(at);
  inference::ModelStreamInferResponse answer;
  for (const char* model : {"pair", "none", "five"}) {
    call.stream->Write(call_for(model, {1, 2, 3}));
    ASSERT_TRUE(call.stream->Read(&answer));
  }
  call.stream->WritesDone();
  EXPECT_TRUE(call.stream->Finish().ok());
  const std::vector<json> told = lines(3);
  const auto model_and_status = [&](std::size_t i) {
    return std::pair(told[i].value("model", ""), told[i].value("status", -1));
  };
  EXPECT_EQ(model_and_status(0), std::pair(std::string("pair"), 0));
  EXPECT_EQ(model_and_status(1), std::pair(std::string("none"), static_cast<int>(grpc::StatusCode::NOT_FOUND)));
  EXPECT_EQ(model_and_status(2), std::pair(std::string("five"), 0));
}

}  // namespace
}  // namespace recast
