#include <grpcpp/generic/generic_stub.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "grpc_fixture.h"
#include "recast/base/log.h"
#include "recast/format/files.h"
#include "recast/serve/token_table.h"

namespace recast {
namespace {

using grpc::StatusCode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using inference::ModelInferRequest;
using inference::ModelInferResponse;

// ---- answers --------------------------------------------------------------------------------------------------------

TEST(GrpcServer, AnswersRawAndTypedRequestsInKind) {
  GrpcTestServer at;
  ModelInferResponse answer;
  ASSERT_TRUE(call(*at.stub, &Stub::ModelInfer, request_for("pair", {1, 2, 3}), answer).ok());
  EXPECT_EQ(answer.model_name() + answer.model_version() + answer.id(), "pair17");
  ASSERT_EQ(answer.raw_output_contents_size(), 1);
  EXPECT_EQ(answer.outputs(0).name(), "logits");
  EXPECT_THAT(answer.outputs(0).shape(), ElementsAre(1, 2));
  EXPECT_THAT(floats_of(answer.raw_output_contents(0)), ElementsAre(6, 12));
  ASSERT_TRUE(call(*at.stub, &Stub::ModelInfer, request_for("pair", {1, 2, 3}, false), answer).ok());
  EXPECT_EQ(answer.raw_output_contents_size(), 0);
  EXPECT_THAT(answer.outputs(0).contents().fp32_contents(), ElementsAre(6, 12));
}

TEST(GrpcServer, TellsOfItselfAndItsModels) {
  GrpcTestServer at;
  inference::ServerLiveResponse live;
  ASSERT_TRUE(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), live).ok());
  EXPECT_TRUE(live.live());
  inference::ServerReadyResponse ready;
  ASSERT_TRUE(call(*at.stub, &Stub::ServerReady, inference::ServerReadyRequest(), ready).ok());
  EXPECT_TRUE(ready.ready());
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(call(*at.stub, &Stub::ServerMetadata, inference::ServerMetadataRequest(), server).ok());
  EXPECT_EQ(server.name(), "recast");
  EXPECT_THAT(server.extensions(), testing::Contains("statistics"));
  inference::ModelReadyRequest which;
  inference::ModelReadyResponse model_ready;
  which.set_name("five");
  ASSERT_TRUE(call(*at.stub, &Stub::ModelReady, which, model_ready).ok());
  EXPECT_TRUE(model_ready.ready());
  inference::ModelMetadataRequest asked;
  inference::ModelMetadataResponse model;
  asked.set_name("five");
  ASSERT_TRUE(call(*at.stub, &Stub::ModelMetadata, asked, model).ok());
  EXPECT_EQ(model.name(), "five");
  EXPECT_THAT(model.versions(), ElementsAre("1"));
  EXPECT_THAT(model.outputs(0).shape(), ElementsAre(-1, 5));
  ModelInferResponse answer;
  ASSERT_TRUE(call(*at.stub, &Stub::ModelInfer, request_for("five", {1}), answer).ok());
  inference::ModelStatisticsResponse statistics;
  ASSERT_TRUE(call(*at.stub, &Stub::ModelStatistics, inference::ModelStatisticsRequest(), statistics).ok());
  ASSERT_EQ(statistics.model_stats_size(), 1);
  EXPECT_EQ(statistics.model_stats(0).name(), "five");
  EXPECT_EQ(statistics.model_stats(0).inference_count(), 1u);
}

TEST(GrpcServer, ErrorsHaveStatusAndMessage) {
  GrpcTestServer at;
  ModelInferResponse answer;
  const grpc::Status unknown = call(*at.stub, &Stub::ModelInfer, request_for("pear", {1}), answer);
  EXPECT_EQ(unknown.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("did you mean 'pair'"));
  ModelInferRequest wrong = request_for("pair", {1, 2});
  wrong.mutable_inputs(0)->set_shape(1, 3);
  const grpc::Status mismatch = call(*at.stub, &Stub::ModelInfer, wrong, answer);
  EXPECT_EQ(mismatch.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(mismatch.error_message(), HasSubstr("inputs[0]"));
  EXPECT_EQ(call(*at.stub, &Stub::ModelInfer, request_for("../pair", {1}), answer).error_code(),
            StatusCode::INVALID_ARGUMENT);
  at.service.break_with(Code::kInternal, "[model] /home/someone/secret.cc:12: impossible");
  const grpc::Status fault = call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer);
  EXPECT_EQ(fault.error_code(), StatusCode::INTERNAL);
  EXPECT_THAT(fault.error_message(), testing::Not(HasSubstr("secret")));
  at.service.break_with(Code::kUnavailable, "[serve] the queue is full\n" + std::string(50'000, 'x') + "\xff");
  const grpc::Status full = call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer);
  EXPECT_EQ(full.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_LT(full.error_message().size(), 2100u);
  EXPECT_EQ(full.error_message().find('\n'), std::string::npos);
}

TEST(GrpcServer, HoldsManyCallsAtOnce) {
  GrpcTestServer at;
  at.service.hold();
  std::vector<std::future<float>> answers;
  for (int i = 0; i < 64; ++i) {
    answers.push_back(std::async(std::launch::async, [&at, i] {
      ModelInferResponse answer;
      const auto status = call(*at.stub, &Stub::ModelInfer, request_for("pair", {static_cast<float>(i)}), answer);
      return status.ok() ? floats_of(answer.raw_output_contents(0)).at(0) : -1;
    }));
  }
  ASSERT_TRUE(at.service.wait_for(64)) << "no call waits for another one's thread";
  inference::ServerLiveResponse live;
  EXPECT_TRUE(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), live).ok());
  at.service.release();
  for (int i = 0; i < 64; ++i) EXPECT_EQ(answers[i].get(), static_cast<float>(i));
}

// ---- health ---------------------------------------------------------------------------------------------------------

/// Bytes over a channel, whatever they are: what comes back, or the status.
grpc::Status send_bytes(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                        const std::string& bytes, std::string* answer = nullptr) {
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub(channel);
  Context context;
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, {}, &request, &response, [&](grpc::Status status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  std::vector<grpc::Slice> slices;
  if (status.ok() && answer != nullptr && response.Dump(&slices).ok()) {
    for (const grpc::Slice& part : slices) answer->append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return status;
}

TEST(GrpcServer, TellsProbesOfItsHealth) {
  GrpcTestServer at;
  const std::string check = "/grpc.health.v1.Health/Check";
  std::string answer;
  ASSERT_TRUE(send_bytes(at.channel, check, "", &answer).ok());
  EXPECT_EQ(answer, "\x08\x01") << "SERVING";
  const std::string service = "inference.GRPCInferenceService";
  answer.clear();
  ASSERT_TRUE(
      send_bytes(at.channel, check, "\x0a" + std::string(1, static_cast<char>(service.size())) + service, &answer)
          .ok());
  EXPECT_EQ(answer, "\x08\x01");
  EXPECT_EQ(send_bytes(at.channel, check, "\x0a\x01x").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(send_bytes(at.channel, "/grpc.health.v1.Health/Watch", "").error_code(), StatusCode::UNIMPLEMENTED);
  at.server.not_ready();
  answer.clear();
  ASSERT_TRUE(send_bytes(at.channel, check, "", &answer).ok());
  EXPECT_EQ(answer, "\x08\x02") << "NOT_SERVING";
  inference::ServerReadyResponse ready;
  ASSERT_TRUE(call(*at.stub, &Stub::ServerReady, inference::ServerReadyRequest(), ready).ok());
  EXPECT_FALSE(ready.ready());
}

// ---- who may call what ----------------------------------------------------------------------------------------------

TokenEntry entry(const std::string& name, const std::set<Role>& roles, const std::string& tasks = "*") {
  TokenEntry entry;
  entry.name = name;
  entry.roles = roles;
  entry.tasks = {tasks};
  return entry;
}

/// The status of every method, called with a token.
std::map<std::string, StatusCode> statuses(Stub& stub, const std::string& token) {
  std::map<std::string, StatusCode> codes;
  const auto of = [&](const std::string& name, auto method, const auto& request, auto response) {
    codes[name] = call(stub, method, request, response, token).error_code();
  };
  using namespace inference;
  ModelReadyRequest ready;
  ModelMetadataRequest metadata;
  RepositoryModelLoadRequest load;
  RepositoryModelUnloadRequest unload;
  ready.set_name("pair");
  metadata.set_name("pair");
  load.set_model_name("pair");
  unload.set_model_name("pair");
  of("live", &Stub::ServerLive, ServerLiveRequest(), ServerLiveResponse());
  of("ready", &Stub::ServerReady, ServerReadyRequest(), ServerReadyResponse());
  of("server", &Stub::ServerMetadata, ServerMetadataRequest(), ServerMetadataResponse());
  of("model_ready", &Stub::ModelReady, ready, ModelReadyResponse());
  of("model", &Stub::ModelMetadata, metadata, ModelMetadataResponse());
  of("infer", &Stub::ModelInfer, request_for("pair", {1}), ModelInferResponse());
  of("index", &Stub::RepositoryIndex, RepositoryIndexRequest(), RepositoryIndexResponse());
  of("statistics", &Stub::ModelStatistics, ModelStatisticsRequest(), ModelStatisticsResponse());
  of("unload", &Stub::RepositoryModelUnload, unload, RepositoryModelUnloadResponse());
  of("load", &Stub::RepositoryModelLoad, load, RepositoryModelLoadResponse());
  return codes;
}

TEST(GrpcServer, EveryMethodAsksForItsRole) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "tokens.yaml";
  std::map<std::string, std::string> tokens;
  for (const Role role : {Role::kInfer, Role::kRead, Role::kManage}) {
    tokens[std::string(name(role))] = add_token(file, entry(std::string(name(role)), {role}));
  }
  tokens["few"] = add_token(file, entry("few", {Role::kInfer, Role::kManage}, "fi*"));
  TokenTable table(file);
  GrpcTestServer at(any_port(), &table);
  const std::map<std::string, std::optional<Right>> needs = {
      {"live", std::nullopt},       {"ready", std::nullopt},
      {"server", Right::kDescribe}, {"model_ready", Right::kDescribe},
      {"model", Right::kDescribe},  {"infer", Right::kInfer},
      {"index", Right::kRead},      {"statistics", Right::kRead},
      {"unload", Right::kManage},   {"load", Right::kManage},
  };
  for (const Role role : {Role::kInfer, Role::kRead, Role::kManage}) {
    for (const auto& [method, status] : statuses(*at.stub, tokens.at(std::string(name(role))))) {
      const auto right = needs.at(method);
      EXPECT_EQ(status, !right || grants(role, *right) ? StatusCode::OK : StatusCode::PERMISSION_DENIED)
          << name(role) << " " << method;
    }
  }
  for (const std::string token : {"", "wrong"}) {
    for (const auto& [method, status] : statuses(*at.stub, token)) {
      EXPECT_EQ(status, needs.at(method) ? StatusCode::UNAUTHENTICATED : StatusCode::OK) << token << " " << method;
    }
  }
  for (const auto& [method, status] : statuses(*at.stub, tokens.at("few"))) {
    const bool names_a_model =
        method == "model_ready" || method == "model" || method == "infer" || method == "load" || method == "unload";
    EXPECT_EQ(status, names_a_model ? StatusCode::PERMISSION_DENIED : StatusCode::OK) << method;
  }
  inference::RepositoryIndexResponse index;
  ASSERT_TRUE(call(*at.stub, &Stub::RepositoryIndex, inference::RepositoryIndexRequest(), index, tokens["few"]).ok());
  ASSERT_EQ(index.models_size(), 1);
  EXPECT_EQ(index.models(0).name(), "five");
}

TEST(GrpcServer, OfTwoTokensNeitherCounts) {
  const TemporaryFolder folder;
  const std::string token = add_token(folder / "t", entry("a", {Role::kInfer}));
  TokenTable table(folder / "t");
  GrpcTestServer at(any_port(), &table);
  Context context(token);
  context.AddMetadata("authorization", "Bearer " + token);
  ModelInferResponse answer;
  EXPECT_EQ(at.stub->ModelInfer(&context, request_for("pair", {1}), &answer).error_code(), StatusCode::UNAUTHENTICATED);
}

TEST(GrpcServer, ManagementIsOffUnlessAskedFor) {
  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  load.set_model_name("pair");
  {
    GrpcTestServer at;
    EXPECT_EQ(call(*at.stub, &Stub::RepositoryModelLoad, load, loaded).error_code(), StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(at.service.loaded(), IsEmpty());
  }
  GrpcOptions options = any_port();
  options.management = true;
  GrpcTestServer at(options);
  ASSERT_TRUE(call(*at.stub, &Stub::RepositoryModelLoad, load, loaded).ok());
  EXPECT_THAT(at.service.loaded(), ElementsAre("pair"));
  EXPECT_EQ(loaded.model_name(), "pair");
  EXPECT_TRUE(loaded.isloaded());
  load.clear_model_name();
  load.set_repository_name("five");  // KServe's model_name
  ASSERT_TRUE(call(*at.stub, &Stub::RepositoryModelLoad, load, loaded).ok());
  EXPECT_THAT(at.service.loaded(), ElementsAre("five", "pair"));
  inference::RepositoryModelUnloadRequest unload;
  inference::RepositoryModelUnloadResponse unloaded;
  unload.set_model_name("pair");
  ASSERT_TRUE(call(*at.stub, &Stub::RepositoryModelUnload, unload, unloaded).ok());
  inference::RepositoryIndexRequest which;
  inference::RepositoryIndexResponse index;
  which.set_ready(true);
  ASSERT_TRUE(call(*at.stub, &Stub::RepositoryIndex, which, index).ok());
  ASSERT_EQ(index.models_size(), 1);
  EXPECT_EQ(index.models(0).state(), "READY");
  (*load.mutable_parameters())["file:1/model.py"].set_bytes_param("code");
  const grpc::Status refused = call(*at.stub, &Stub::RepositoryModelLoad, load, loaded);
  EXPECT_EQ(refused.error_code(), StatusCode::INVALID_ARGUMENT);
  load.clear_parameters();
  load.set_model_name("five");
  load.set_repository_name("elsewhere");
  EXPECT_EQ(call(*at.stub, &Stub::RepositoryModelLoad, load, loaded).error_code(), StatusCode::NOT_FOUND);
}

// ---- those who do not wait ------------------------------------------------------------------------------------------

TEST(GrpcServer, CountsItsCalls) {
  GrpcTestServer at;
  ModelInferResponse answer;
  const auto request = request_for("pair", {1, 2, 3});
  EXPECT_TRUE(call(*at.stub, &Stub::ModelInfer, request, answer).ok());
  EXPECT_FALSE(call(*at.stub, &Stub::ModelInfer, request_for("absent", {1}), answer).ok());
  EXPECT_TRUE(metric_becomes(at.registry, "recast_grpc_calls_open", 0));
  const std::string count = "recast_grpc_requests_total";
  EXPECT_EQ(metric_of(at.registry, count, "/inference.GRPCInferenceService/ModelInfer"), 2);
  EXPECT_EQ(metric_of(at.registry, count, "OK"), 1);
  EXPECT_EQ(metric_of(at.registry, count, "NOT_FOUND"), 1);
  EXPECT_GE(metric_of(at.registry, "recast_grpc_received_bytes_total"), 2 * 12);
  EXPECT_GE(metric_of(at.registry, "recast_grpc_sent_bytes_total"), 2 * 4);

  at.service.hold();
  auto waiting = std::async(std::launch::async, [&] { return call(*at.stub, &Stub::ModelInfer, request, answer); });
  ASSERT_TRUE(at.service.wait_for(1));
  EXPECT_EQ(metric_of(at.registry, "recast_grpc_calls_open"), 1);
  at.service.release();
  EXPECT_TRUE(waiting.get().ok());
}

TEST(GrpcServer, ACancelledCallIsDropped) {
  GrpcTestServer at;
  at.service.hold();
  Context context;
  auto call = std::async(std::launch::async, [&] {
    ModelInferResponse answer;
    return at.stub->ModelInfer(&context, request_for("pair", {1}), &answer).error_code();
  });
  ASSERT_TRUE(at.service.wait_for(1));
  context.TryCancel();
  EXPECT_EQ(call.get(), StatusCode::CANCELLED);
  EXPECT_TRUE(at.service.wait_for_cancelled());
  at.service.release();
  ModelInferResponse answer;
  EXPECT_TRUE(recast::call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer).ok());
  EXPECT_EQ(at.service.computed(), 1u);
}

TEST(GrpcServer, TheClientsDeadlineReachesTheService) {
  GrpcTestServer at;
  at.service.hold();
  Context context("", 300ms);
  ModelInferResponse answer;
  EXPECT_EQ(at.stub->ModelInfer(&context, request_for("pair", {1}), &answer).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(at.service.wait_for_cancelled());
}

TEST(GrpcServer, NoCallTakesLongerThanTheServerWaits) {
  GrpcOptions options = any_port();
  options.request_timeout = 300ms;
  GrpcTestServer at(options);
  at.service.hold();
  ModelInferResponse answer;
  const grpc::Status late = call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer);
  EXPECT_EQ(late.error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(late.error_message(), HasSubstr("[grpc]")) << "from the server, not from the client's own clock";
  EXPECT_TRUE(at.service.wait_for_cancelled());
  // One whose message never comes.
  Context context;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub(at.channel);
  grpc::CompletionQueue queue;
  auto silent = stub.PrepareCall(&context, "/inference.GRPCInferenceService/ModelInfer", &queue);
  void* tag;
  bool ok;
  silent->StartCall(nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  grpc::Status status;
  silent->Finish(&status, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), StatusCode::DEADLINE_EXCEEDED);
}

TEST(GrpcServer, AClientThatDoesNotTakeItsAnswerIsLeft) {
  GrpcOptions options = any_port();
  options.response_timeout = 500ms;
  GrpcTestServer at(options);
  Context context;
  auto stream = at.stub->ModelStreamInfer(&context);
  // 40 MB of answers that nobody reads: more than the connection buffers.
  ModelInferRequest large = request_for("five", std::vector<float>(1));
  large.mutable_inputs(0)->set_shape(0, 1024);
  large.mutable_inputs(0)->set_shape(1, 1);
  large.set_raw_input_contents(0, std::string(4096, '\0'));
  bool written = true;
  const Stopwatch watch;
  for (int i = 0; i < 20'000 && written; ++i) written = stream->Write(large);
  EXPECT_FALSE(written);
  EXPECT_LT(watch.ms(), 15'000) << "by the server's clock, not by the client's";
  context.TryCancel();  // or it would wait for its reader, too
  stream->Finish();
}

// ---- limits ---------------------------------------------------------------------------------------------------------

TEST(GrpcServer, MessagesBeyondTheLimitAreRefused) {
  GrpcOptions options = any_port();
  options.message_bytes = 1 << 20;
  GrpcTestServer at(options);
  ModelInferResponse answer;
  const grpc::Status in = call(*at.stub, &Stub::ModelInfer, request_for("pair", std::vector<float>(1 << 19)), answer);
  EXPECT_EQ(in.error_code(), StatusCode::RESOURCE_EXHAUSTED) << in.error_message();
  EXPECT_TRUE(call(*at.stub, &Stub::ModelInfer, request_for("pair", std::vector<float>(1 << 17)), answer).ok());
  GrpcOptions smaller = any_port();
  smaller.message_bytes = 16 << 10;
  GrpcTestServer narrow(smaller);
  ModelInferRequest rows = request_for("five", std::vector<float>(1024));  // an answer five times as large
  rows.mutable_inputs(0)->set_shape(0, 1024);
  rows.mutable_inputs(0)->set_shape(1, 1);
  const grpc::Status out = call(*narrow.stub, &Stub::ModelInfer, rows, answer);
  EXPECT_EQ(out.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(out.error_message(), HasSubstr("the answer has"));
}

TEST(GrpcServer, OnlyInferencesMayBeLarge) {
  GrpcTestServer at;
  inference::ModelReadyRequest request;
  inference::ModelReadyResponse answer;
  request.set_name(std::string(100'000, 'a'));
  const grpc::Status status = call(*at.stub, &Stub::ModelReady, request, answer);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("65536"));
}

TEST(GrpcServer, HeadersBeyondTheLimitAreRefused) {
  GrpcTestServer at;
  Context context;
  context.AddMetadata("x", std::string(40'000, 'a'));
  inference::ServerLiveResponse answer;
  const grpc::Status status = at.stub->ServerLive(&context, {}, &answer);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).ok());
}

TEST(GrpcServer, CompressedMessagesAreRefusedBeforeTheyAreUnpacked) {
  GrpcTestServer at;
  Context context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  ModelInferResponse answer;
  const grpc::Status status = at.stub->ModelInfer(&context, request_for("pair", std::vector<float>(8 << 20)), &answer);
  EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED) << status.error_message();
  EXPECT_EQ(at.service.computed(), 0u);
}

TEST(GrpcServer, CallsBeyondTheLimitAreRefused) {
  GrpcOptions options = any_port();
  options.calls = 2;
  GrpcTestServer at(options);
  at.service.hold();
  std::vector<std::future<StatusCode>> calls;
  for (int i = 0; i < 2; ++i) {
    calls.push_back(std::async(std::launch::async, [&] {
      ModelInferResponse answer;
      return call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer).error_code();
    }));
  }
  ASSERT_TRUE(at.service.wait_for(2));
  ModelInferResponse answer;
  const grpc::Status status = call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer);
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("2 calls"));
  at.service.release();
  for (auto& call : calls) EXPECT_EQ(call.get(), StatusCode::OK);
}

TEST(GrpcServer, BytesThatAreNoMessageAreRefused) {
  GrpcTestServer at;
  const std::string infer = "/inference.GRPCInferenceService/ModelInfer";
  const std::string good = request_for("pair", {1, 2, 3}).SerializeAsString();
  EXPECT_EQ(send_bytes(at.channel, infer, good.substr(0, good.size() - 1)).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(send_bytes(at.channel, infer, "{\"inputs\":[]}").error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(send_bytes(at.channel, infer, "").error_code(), StatusCode::INVALID_ARGUMENT) << "no inputs";
  std::string tensors;
  for (int i = 0; i < (1 << 20); ++i) tensors += std::string("\x2a\0", 2);
  EXPECT_EQ(send_bytes(at.channel, infer, tensors).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(send_bytes(at.channel, "/inference.GRPCInferenceService/ModelConfig", "").error_code(),
            StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(send_bytes(at.channel, "/", "").error_code(), StatusCode::UNIMPLEMENTED);
  ModelInferResponse answer;
  EXPECT_TRUE(call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer).ok());
}

// ---- connections ----------------------------------------------------------------------------------------------------

/// Sends bytes and reads whatever comes: whether the server ends the connection within ten seconds.
bool is_closed_after(int port, const std::string& bytes) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval ten{10, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &ten, sizeof ten);
  EXPECT_EQ(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  char piece[4096];
  ssize_t got;
  do got = ::recv(socket, piece, sizeof piece, 0);
  while (got > 0);
  const bool closed = got == 0 || errno == ECONNRESET;
  ::close(socket);
  return closed;
}

const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string("\0\0\0\4\0\0\0\0\0", 9);

TEST(GrpcServer, ClosesConnectionsThatDoNotSpeakHttp2) {
  GrpcTestServer at;
  EXPECT_TRUE(is_closed_after(at.server.port(), "GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(is_closed_after(at.server.port(), std::string(10'000, '\x16')));
  EXPECT_TRUE(is_closed_after(at.server.port(), kPreface + std::string("\xff\xff\xff\0\0\0\0\0\1", 9)));
  EXPECT_TRUE(is_closed_after(at.server.port(), kPreface + std::string("\0\0\1\1\4\0\0\0\2\x80", 10)));
  inference::ServerLiveResponse answer;
  EXPECT_TRUE(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).ok());
}

TEST(GrpcServer, ClosesConnectionsThatPingTooOften) {
  GrpcTestServer at;
  std::string pings;
  for (int i = 0; i < 1000; ++i) pings += std::string("\0\0\x8\6\0\0\0\0\0pingping", 17);
  EXPECT_TRUE(is_closed_after(at.server.port(), kPreface + pings));
}

TEST(GrpcServer, ClosesConnectionsThatSayNothing) {
  GrpcOptions options = any_port();
  options.handshake_timeout = 300ms;
  options.idle_timeout = 500ms;
  GrpcTestServer at(options);
  EXPECT_TRUE(is_closed_after(at.server.port(), "")) << "none of the handshake";
  EXPECT_TRUE(is_closed_after(at.server.port(), kPreface.substr(0, 10))) << "half of it";
  EXPECT_TRUE(is_closed_after(at.server.port(), kPreface)) << "and no call";
}

// ---- streams --------------------------------------------------------------------------------------------------------

TEST(GrpcServer, AStreamAnswersEachRequestInTurn) {
  GrpcTestServer at;
  Context context;
  auto stream = at.stub->ModelStreamInfer(&context);
  for (int i = 0; i < 20; ++i) {
    ModelInferRequest request = request_for(i % 5 == 3 ? "pear" : "pair", {static_cast<float>(i)});
    request.set_id(std::to_string(i));
    ASSERT_TRUE(stream->Write(request));
  }
  stream->WritesDone();
  inference::ModelStreamInferResponse answer;
  int i = 0;
  for (; stream->Read(&answer); ++i) {
    EXPECT_EQ(answer.infer_response().id(), std::to_string(i));
    if (i % 5 == 3) {
      EXPECT_THAT(answer.error_message(), HasSubstr("did you mean 'pair'"));
    } else {
      EXPECT_EQ(answer.error_message(), "");
      EXPECT_THAT(floats_of(answer.infer_response().raw_output_contents(0)), ElementsAre(i, 2 * i));
    }
  }
  EXPECT_EQ(i, 20);
  EXPECT_TRUE(stream->Finish().ok());
}

TEST(GrpcServer, ASilentStreamEnds) {
  GrpcOptions options = any_port();
  options.stream_timeout = 200ms;
  GrpcTestServer at(options);
  Context context;
  auto stream = at.stub->ModelStreamInfer(&context);
  inference::ModelStreamInferResponse answer;
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::DEADLINE_EXCEEDED);
}

// ---- the end --------------------------------------------------------------------------------------------------------

TEST(GrpcServer, DrainAnswersWhatIsUnderWay) {
  GrpcTestServer at;
  at.service.hold();
  auto answer = std::async(std::launch::async, [&] {
    ModelInferResponse answer;
    return call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer).error_code();
  });
  Context context;
  auto stream = at.stub->ModelStreamInfer(&context);
  inference::ModelStreamInferResponse streamed;
  ASSERT_TRUE(stream->Write(request_for("pair", {1})));
  ASSERT_TRUE(at.service.wait_for(2));
  auto drained =
      std::async(std::launch::async, [&] { return at.server.drain(std::chrono::steady_clock::now() + 20s); });
  // New connections are not taken any more.
  for (int i = 0; i < 500; ++i) {
    const auto late = connect(at.server.port());
    if (!late->WaitForConnected(std::chrono::system_clock::now() + 20ms)) break;
    ASSERT_LT(i, 499);
  }
  EXPECT_EQ(drained.wait_for(100ms), std::future_status::timeout);
  at.service.release();
  EXPECT_EQ(answer.get(), StatusCode::OK);
  EXPECT_TRUE(stream->Read(&streamed));
  EXPECT_FALSE(stream->Read(&streamed));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(drained.get());
}

TEST(GrpcServer, DrainCancelsWhatIsNotAnsweredInTime) {
  GrpcTestServer at;
  at.service.hold();
  auto answer = std::async(std::launch::async, [&] {
    ModelInferResponse answer;
    return call(*at.stub, &Stub::ModelInfer, request_for("pair", {1}), answer).error_code();
  });
  ASSERT_TRUE(at.service.wait_for(1));
  EXPECT_FALSE(at.server.drain(std::chrono::steady_clock::now() + 200ms));
  EXPECT_NE(answer.get(), StatusCode::OK);
  EXPECT_TRUE(at.service.wait_for_cancelled());
  at.server.stop_now();
}

TEST(GrpcServer, AnswersThatComeAfterItsEndAreDropped) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  service.hold();
  std::future<StatusCode> answer;
  {
    GrpcServer server(service, any_port(), registry);
    server.start();
    const auto channel = connect(server.port());
    answer = std::async(std::launch::async, [channel] {
      Stub stub(channel);
      ModelInferResponse answer;
      return call(stub, &Stub::ModelInfer, request_for("pair", {1}), answer).error_code();
    });
    ASSERT_TRUE(service.wait_for(1));
  }
  EXPECT_NE(answer.get(), StatusCode::OK);
  EXPECT_TRUE(service.wait_for_cancelled());
  service.release();
}

// ---- addresses ------------------------------------------------------------------------------------------------------

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
    add_token(folder / "t", entry("a", {Role::kInfer}));
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

// ---- TLS ------------------------------------------------------------------------------------------------------------

class GrpcTls : public testing::Test {
 protected:
  void SetUp() override {
    if (run_program({"sh", "-c", "command -v openssl"}).status != 0) {
      if (on_ci()) FAIL() << "openssl is missing";
      GTEST_SKIP() << "openssl is missing";
    }
    make("server", "subjectAltName=IP:127.0.0.1");
    make("client", "basicConstraints=critical,CA:TRUE");
    options_ = any_port();
    options_.certificate = folder_ / "server.pem";
    options_.key = folder_ / "server.key";
  }
  void make(const std::string& name, const std::string& extension) {
    const Outcome made =
        run_program({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                     "-days", "2", "-subj", "/CN=" + name, "-addext", extension, "-keyout",
                     (folder_ / (name + ".key")).string(), "-out", (folder_ / (name + ".pem")).string()});
    ASSERT_EQ(made.status, 0) << made.text;
  }
  std::string pem(const std::string& name) const { return read_file(folder_ / name, 1 << 20); }
  grpc::SslCredentialsOptions tls(const std::string& root, const std::string& key = "",
                                  const std::string& chain = "") const {
    return {pem(root), key, chain};
  }
  static StatusCode live(const GrpcTestServer& at, const grpc::SslCredentialsOptions& options) {
    Stub stub(connect(at.server.port(), grpc::SslCredentials(options)));
    inference::ServerLiveResponse answer;
    return call(stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).error_code();
  }

  TemporaryFolder folder_;
  GrpcOptions options_;
};

TEST_F(GrpcTls, ServesClientsThatTrustTheCertificate) {
  GrpcTestServer at(options_);
  EXPECT_EQ(live(at, tls("server.pem")), StatusCode::OK);
  EXPECT_EQ(live(at, tls("client.pem")), StatusCode::UNAVAILABLE);
  inference::ServerLiveResponse answer;
  EXPECT_EQ(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).error_code(),
            StatusCode::UNAVAILABLE)
      << "without TLS";
}

TEST_F(GrpcTls, AsksClientsForACertificateWhereThatIsSaid) {
  options_.client_ca = folder_ / "client.pem";
  GrpcTestServer at(options_);
  EXPECT_EQ(live(at, tls("server.pem")), StatusCode::UNAVAILABLE);
  EXPECT_EQ(live(at, tls("server.pem", pem("client.key"), pem("client.pem"))), StatusCode::OK);
}

TEST_F(GrpcTls, NamesTheFileThatIsWrong) {
  LinearService service({{"pair", 2}});
  prometheus::Registry registry;
  GrpcOptions wrong = options_;
  wrong.key = folder_ / "client.key";
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { GrpcServer(service, wrong, registry); }), HasSubstr("client.key"));
  wrong.key = folder_ / "none.key";
  EXPECT_THAT(error_of(Code::kNotFound, [&] { GrpcServer(service, wrong, registry); }), HasSubstr("none.key"));
}

}  // namespace
}  // namespace recast
