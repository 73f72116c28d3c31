// Who may call what.
#include "format/temporary_folder.h"
#include "grpc_fixture.h"
#include "token_entry.h"

namespace recast {
namespace {

using grpc::StatusCode;
using inference::ModelInferResponse;
using testing::ElementsAre;
using testing::IsEmpty;

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
  of("infer", &Stub::ModelInfer, call_for("pair", {1}), ModelInferResponse());
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
    tokens[std::string(name(role))] = add_token(file, entry_of(std::string(name(role)), {role}));
  }
  tokens["few"] = add_token(file, entry_of("few", {Role::kInfer, Role::kManage}, {"fi*"}));
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
  const std::string token = add_token(folder / "t", entry_of("a", {Role::kInfer}));
  TokenTable table(folder / "t");
  GrpcTestServer at(any_port(), &table);
  GrpcContext context(token);
  context.AddMetadata("authorization", "Bearer " + token);
  ModelInferResponse answer;
  EXPECT_EQ(at.stub->ModelInfer(&context, call_for("pair", {1}), &answer).error_code(), StatusCode::UNAUTHENTICATED);
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
  GrpcTestServer at(options_with([](GrpcOptions& o) { o.management = true; }));
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

}  // namespace
}  // namespace recast
