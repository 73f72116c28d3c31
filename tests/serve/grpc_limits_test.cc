// Large, slow and bad clients, and those that go.
#include <grpcpp/generic/generic_stub.h>

#include <future>

#include "grpc_fixture.h"
#include "http2_frames.h"
#include "http_client.h"
#include "recast/base/log.h"

namespace recast {
namespace {

using grpc::StatusCode;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using testing::HasSubstr;

// ---- those who do not wait ------------------------------------------------------------------------------------------

TEST(GrpcServer, ACancelledCallIsDropped) {
  GrpcTestServer at;
  at.service.hold();
  GrpcContext context;
  auto call = std::async(std::launch::async, [&] {
    ModelInferResponse answer;
    return at.stub->ModelInfer(&context, call_for("pair", {1}), &answer).error_code();
  });
  ASSERT_TRUE(at.service.wait_for(1));
  context.TryCancel();
  EXPECT_EQ(call.get(), StatusCode::CANCELLED);
  EXPECT_TRUE(at.service.wait_for_cancelled());
  at.service.release();
  ModelInferResponse answer;
  EXPECT_TRUE(recast::call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer).ok());
  EXPECT_EQ(at.service.computed(), 1u);
}

TEST(GrpcServer, TheClientsDeadlineReachesTheService) {
  GrpcTestServer at;
  at.service.hold();
  ASSERT_TRUE(at.channel->WaitForConnected(std::chrono::system_clock::now() + 30s));
  GrpcContext context("", 2s);
  ModelInferResponse answer;
  EXPECT_EQ(at.stub->ModelInfer(&context, call_for("pair", {1}), &answer).error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(at.service.wait_for_cancelled());
}

TEST(GrpcServer, NoCallTakesLongerThanTheServerWaits) {
  GrpcTestServer at(options_with([](GrpcOptions& o) { o.request_timeout = 1s; }));
  at.service.hold();
  ModelInferResponse answer;
  const grpc::Status late = call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer);
  EXPECT_EQ(late.error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(late.error_message(), HasSubstr("[grpc]")) << "from the server, not from the client's own clock";
  EXPECT_TRUE(at.service.wait_for_cancelled());
  // One whose message never comes.
  GrpcContext context;
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
  GrpcTestServer at(options_with([](GrpcOptions& o) { o.response_timeout = 500ms; }));
  StreamCall call(at);
  // 40 MB of answers that nobody reads: more than the connection buffers.
  ModelInferRequest large = call_for("five", std::vector<float>(1));
  large.mutable_inputs(0)->set_shape(0, 1024);
  large.mutable_inputs(0)->set_shape(1, 1);
  large.set_raw_input_contents(0, std::string(4096, '\0'));
  bool written = true;
  const Stopwatch watch;
  for (int i = 0; i < 20'000 && written; ++i) written = call.stream->Write(large);
  EXPECT_FALSE(written);
  EXPECT_LT(watch.ms(), 45'000) << "by the server's clock, not by the client's";
  call.context.TryCancel();  // or it would wait for its reader, too
  call.stream->Finish();
}

TEST(GrpcServer, ASilentStreamEnds) {
  GrpcTestServer at(options_with([](GrpcOptions& o) { o.stream_timeout = 200ms; }));
  StreamCall call(at);
  inference::ModelStreamInferResponse answer;
  EXPECT_FALSE(call.stream->Read(&answer));
  EXPECT_EQ(call.stream->Finish().error_code(), StatusCode::DEADLINE_EXCEEDED);
}

// ---- limits ---------------------------------------------------------------------------------------------------------

TEST(GrpcServer, MessagesBeyondTheLimitAreRefused) {
  GrpcTestServer at(options_with([](GrpcOptions& o) { o.message_bytes = 1 << 20; }));
  ModelInferResponse answer;
  const grpc::Status in = call(*at.stub, &Stub::ModelInfer, call_for("pair", std::vector<float>(1 << 19)), answer);
  EXPECT_EQ(in.error_code(), StatusCode::RESOURCE_EXHAUSTED) << in.error_message();
  EXPECT_TRUE(call(*at.stub, &Stub::ModelInfer, call_for("pair", std::vector<float>(1 << 17)), answer).ok());
  GrpcTestServer narrow(options_with([](GrpcOptions& o) { o.message_bytes = 16 << 10; }));
  ModelInferRequest rows = call_for("five", std::vector<float>(1024));  // an answer five times as large
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
  GrpcContext context;
  context.AddMetadata("x", std::string(40'000, 'a'));
  inference::ServerLiveResponse answer;
  const grpc::Status status = at.stub->ServerLive(&context, {}, &answer);
  EXPECT_FALSE(status.ok());
  Stub another(connect(at.server.port()));  // gRPC 1.51 closes the connection, too
  EXPECT_TRUE(call(another, &Stub::ServerLive, inference::ServerLiveRequest(), answer).ok());
}

TEST(GrpcServer, CompressedMessagesAreRefusedBeforeTheyAreUnpacked) {
  GrpcTestServer at;
  GrpcContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  ModelInferResponse answer;
  const grpc::Status status = at.stub->ModelInfer(&context, call_for("pair", std::vector<float>(8 << 20)), &answer);
  EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED) << status.error_message();
  EXPECT_EQ(at.service.computed(), 0u);
}

TEST(GrpcServer, CallsBeyondTheLimitAndBeyondAClientsShareAreRefused) {
  GrpcTestServer at(options_with([](GrpcOptions& o) { o.calls = 4; }));
  at.service.hold();
  std::vector<std::future<StatusCode>> calls;
  for (int i = 0; i < 3; ++i) {
    calls.push_back(std::async(std::launch::async, [&] {
      ModelInferResponse answer;
      return call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer).error_code();
    }));
  }
  ASSERT_TRUE(at.service.wait_for(3));
  ModelInferResponse answer;
  const grpc::Status status = call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer);
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE) << "three quarters are for one client";
  EXPECT_THAT(status.error_message(), HasSubstr("too many calls"));
  HttpClient other(at.server.port(), "127.0.0.2");
  other.send(kHttp2Preface +
             http2_frame(Http2Frame::kHeaders, kEndHeaders, 1,
                         grpc_headers("/inference.GRPCInferenceService/ServerLive") + http2_header("te", "trailers")) +
             http2_frame(Http2Frame::kData, kEndStream, 1, std::string(5, '\0')));
  other.read_until("grpc-status", 10s);
  EXPECT_TRUE(metric_becomes(at.registry, "recast_grpc_requests_total", 1, "OK"));
  at.service.release();
  for (auto& call : calls) EXPECT_EQ(call.get(), StatusCode::OK);
}

TEST(GrpcServer, BytesThatAreNoMessageAreRefused) {
  GrpcTestServer at;
  const std::string infer = "/inference.GRPCInferenceService/ModelInfer";
  const std::string good = call_for("pair", {1, 2, 3}).SerializeAsString();
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
  EXPECT_TRUE(call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer).ok());
}

// ---- connections ----------------------------------------------------------------------------------------------------

/// Whether the server ends the connection within ten seconds, whatever it sends before.
bool is_closed_after(std::uint16_t port, const std::string& bytes) {
  HttpClient client(port);
  client.send(bytes);
  client.read_until("", 10s);
  return client.ended();
}

/// A call of ServerLive with so many headers of 3,000 bytes more, each in a frame of its own.
std::string call_with_frames(int frames, const std::string& scheme = "http", const std::string& more = "") {
  const std::string call = grpc_headers("/inference.GRPCInferenceService/ServerLive", scheme) + more;
  std::string bytes = http2_frame(Http2Frame::kHeaders, 0, 1, call);
  for (int i = 0; i < frames; ++i)
    bytes += http2_frame(Http2Frame::kContinuation, i + 1 < frames ? 0 : kEndHeaders, 1,
                         http2_header("x-" + std::to_string(i), std::string(3'000, 'a')));
  return kHttp2Preface + bytes + http2_frame(Http2Frame::kData, kEndStream, 1, std::string(5, '\0'));
}

TEST(GrpcServer, HeadersBeyondTheLimitAreRefusedHoweverManyFramesTheyComeIn) {
  GrpcTestServer at;
  HttpClient good(at.server.port());
  good.send(call_with_frames(4, "http", http2_header("te", "trailers")));
  good.read_until("grpc-status", 10s);
  EXPECT_TRUE(metric_becomes(at.registry, "recast_grpc_requests_total", 1, "OK"));
  HttpClient bad(at.server.port());
  bad.send(call_with_frames(7, "http", http2_header("te", "trailers")));  // no frame has a fifth of the limit of 16 KiB
  bad.read_until("grpc-status", 10s);
  EXPECT_TRUE(metric_becomes(at.registry, "recast_grpc_calls_open", 0));
  EXPECT_EQ(metric_of(at.registry, "recast_grpc_requests_total", "OK"), 1);
}

/// CVE-2023-1428: gRPC's own check of sizes aborted where one of these stood in front of too many.
TEST(GrpcServer, OutlivesHeadersThatAborted) {
  GrpcTestServer at;
  for (const int frames : {3, 7})
    for (const std::string& bytes :
         {call_with_frames(frames, "http", http2_header("te", "x")), call_with_frames(frames, "x"),
          call_with_frames(frames, "http", http2_header("grpclb_client_stats", "x")),
          call_with_frames(1, "x", http2_header("te", "x") + http2_header("y", std::string(14'000, 'a'))),
          call_with_frames(1, "x", http2_header("te", "x") + http2_header("y", std::string(20'000, 'a')))}) {
      HttpClient client(at.server.port());
      client.send(bytes);
      client.read_until("grpc-status", 500ms);
    }
  inference::ServerLiveResponse answer;
  EXPECT_TRUE(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).ok());
}

TEST(GrpcServer, ClosesConnectionsThatDoNotSpeakHttp2) {
  GrpcTestServer at;
  EXPECT_TRUE(is_closed_after(at.server.port(), "GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(is_closed_after(at.server.port(), std::string(10'000, '\x16')));
  EXPECT_TRUE(is_closed_after(at.server.port(), kHttp2Preface + std::string("\xff\xff\xff\0\0\0\0\0\1", 9)));
  EXPECT_TRUE(is_closed_after(at.server.port(), kHttp2Preface + std::string("\0\0\1\1\4\0\0\0\2\x80", 10)));
  inference::ServerLiveResponse answer;
  EXPECT_TRUE(call(*at.stub, &Stub::ServerLive, inference::ServerLiveRequest(), answer).ok());
}

TEST(GrpcServer, ClosesConnectionsThatPingTooOften) {
  GrpcTestServer at;
  std::string pings;
  for (int i = 0; i < 1000; ++i) pings += std::string("\0\0\x8\6\0\0\0\0\0pingping", 17);
  EXPECT_TRUE(is_closed_after(at.server.port(), kHttp2Preface + pings));
}

TEST(GrpcServer, ClosesConnectionsThatSayNothing) {
  GrpcTestServer at(options_with([](GrpcOptions& o) {
    o.handshake_timeout = 300ms;
    o.idle_timeout = 500ms;
  }));
  EXPECT_TRUE(is_closed_after(at.server.port(), "")) << "none of the handshake";
  EXPECT_TRUE(is_closed_after(at.server.port(), kHttp2Preface.substr(0, 10))) << "half of it";
  EXPECT_TRUE(is_closed_after(at.server.port(), kHttp2Preface)) << "and no call";
}

}  // namespace
}  // namespace recast
