#include <future>

#include "grpc_fixture.h"

namespace recast {
namespace {

using grpc::StatusCode;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using testing::ElementsAre;
using testing::HasSubstr;

// ---- answers --------------------------------------------------------------------------------------------------------

TEST(GrpcServer, AnswersRawAndTypedRequestsInKind) {
  GrpcTestServer at;
  ModelInferResponse answer;
  ASSERT_TRUE(call(*at.stub, &Stub::ModelInfer, call_for("pair", {1, 2, 3}), answer).ok());
  EXPECT_EQ(answer.model_name() + answer.model_version() + answer.id(), "pair17");
  ASSERT_EQ(answer.raw_output_contents_size(), 1);
  EXPECT_EQ(answer.outputs(0).name(), "logits");
  EXPECT_THAT(answer.outputs(0).shape(), ElementsAre(1, 2));
  EXPECT_THAT(floats_of(answer.raw_output_contents(0)), ElementsAre(6, 12));
  ASSERT_TRUE(call(*at.stub, &Stub::ModelInfer, call_for("pair", {1, 2, 3}, false), answer).ok());
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
  ASSERT_TRUE(call(*at.stub, &Stub::ModelInfer, call_for("five", {1}), answer).ok());
  inference::ModelStatisticsResponse statistics;
  ASSERT_TRUE(call(*at.stub, &Stub::ModelStatistics, inference::ModelStatisticsRequest(), statistics).ok());
  ASSERT_EQ(statistics.model_stats_size(), 1);
  EXPECT_EQ(statistics.model_stats(0).name(), "five");
  EXPECT_EQ(statistics.model_stats(0).inference_count(), 1u);
}

TEST(GrpcServer, ErrorsHaveStatusAndMessage) {
  GrpcTestServer at;
  ModelInferResponse answer;
  const grpc::Status unknown = call(*at.stub, &Stub::ModelInfer, call_for("pear", {1}), answer);
  EXPECT_EQ(unknown.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("did you mean 'pair'"));
  ModelInferRequest wrong = call_for("pair", {1, 2});
  wrong.mutable_inputs(0)->set_shape(1, 3);
  const grpc::Status mismatch = call(*at.stub, &Stub::ModelInfer, wrong, answer);
  EXPECT_EQ(mismatch.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(mismatch.error_message(), HasSubstr("inputs[0]"));
  EXPECT_EQ(call(*at.stub, &Stub::ModelInfer, call_for("../pair", {1}), answer).error_code(),
            StatusCode::INVALID_ARGUMENT);
  at.service.break_with(Code::kInternal, "[model] /home/someone/secret.cc:12: impossible");
  const grpc::Status fault = call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer);
  EXPECT_EQ(fault.error_code(), StatusCode::INTERNAL);
  EXPECT_THAT(fault.error_message(), testing::Not(HasSubstr("secret")));
  at.service.break_with(Code::kUnavailable, "[serve] the queue is full\n" + std::string(50'000, 'x') + "\xff");
  const grpc::Status full = call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer);
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
      const auto status = call(*at.stub, &Stub::ModelInfer, call_for("pair", {static_cast<float>(i)}), answer);
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

TEST(GrpcServer, CountsItsCalls) {
  GrpcTestServer at;
  ModelInferResponse answer;
  const auto request = call_for("pair", {1, 2, 3});
  EXPECT_TRUE(call(*at.stub, &Stub::ModelInfer, request, answer).ok());
  EXPECT_FALSE(call(*at.stub, &Stub::ModelInfer, call_for("absent", {1}), answer).ok());
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

// ---- streams --------------------------------------------------------------------------------------------------------

TEST(GrpcServer, AStreamAnswersEachRequestInTurn) {
  GrpcTestServer at;
  StreamCall call(at);
  for (int i = 0; i < 20; ++i) {
    ModelInferRequest request = call_for(i % 5 == 3 ? "pear" : "pair", {static_cast<float>(i)});
    request.set_id(std::to_string(i));
    ASSERT_TRUE(call.stream->Write(request));
  }
  call.stream->WritesDone();
  inference::ModelStreamInferResponse answer;
  int i = 0;
  for (; call.stream->Read(&answer); ++i) {
    EXPECT_EQ(answer.infer_response().id(), std::to_string(i));
    if (i % 5 == 3) {
      EXPECT_THAT(answer.error_message(), HasSubstr("did you mean 'pair'"));
    } else {
      EXPECT_EQ(answer.error_message(), "");
      EXPECT_THAT(floats_of(answer.infer_response().raw_output_contents(0)), ElementsAre(i, 2 * i));
    }
  }
  EXPECT_EQ(i, 20);
  EXPECT_TRUE(call.stream->Finish().ok());
}

// ---- the end --------------------------------------------------------------------------------------------------------

TEST(GrpcServer, DrainAnswersWhatIsUnderWay) {
  GrpcTestServer at;
  at.service.hold();
  auto answer = std::async(std::launch::async, [&] {
    ModelInferResponse answer;
    return call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer).error_code();
  });
  StreamCall streamed_call(at);
  inference::ModelStreamInferResponse streamed;
  ASSERT_TRUE(streamed_call.stream->Write(call_for("pair", {1})));
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
  EXPECT_TRUE(streamed_call.stream->Read(&streamed));
  EXPECT_FALSE(streamed_call.stream->Read(&streamed));
  EXPECT_EQ(streamed_call.stream->Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(drained.get());
}

TEST(GrpcServer, DrainCancelsWhatIsNotAnsweredInTime) {
  GrpcTestServer at;
  at.service.hold();
  auto answer = std::async(std::launch::async, [&] {
    ModelInferResponse answer;
    return call(*at.stub, &Stub::ModelInfer, call_for("pair", {1}), answer).error_code();
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
      return call(stub, &Stub::ModelInfer, call_for("pair", {1}), answer).error_code();
    });
    ASSERT_TRUE(service.wait_for(1));
  }
  EXPECT_NE(answer.get(), StatusCode::OK);
  EXPECT_TRUE(service.wait_for_cancelled());
  service.release();
}

}  // namespace
}  // namespace recast
