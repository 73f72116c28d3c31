#pragma once
// A toy model directory, and what to ask `recast serve` of it.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <fstream>

#include "http_client.h"
#include "serve/inference.grpc.pb.h"
#include "served_tasks.h"
#include "serving_program.h"

namespace recast {

using namespace std::chrono_literals;

/// A model directory with version 1 of the task "flowers", which other processes can be given more versions of.
class ToyDirectory {
 public:
  ToyDirectory() {
    write_toy_model(path());
    write_toy_images(data(), {"blue", "green", "red"}, 12);
    flowers_ = learned_record(path(), data(), "flowers", {"recast"});
  }

  std::filesystem::path path() const { return folder_ / "model"; }
  std::filesystem::path data() const { return folder_ / "data"; }
  /// Commits the next version of a task to a copy of it; other numbers for each seed.
  std::int64_t commit(const std::filesystem::path& model, const std::string& name, std::uint64_t seed) const {
    return ModelDirectory::open(model, false).store().commit(varied(flowers_, name, 3, seed));
  }
  std::filesystem::path copy_to(const std::filesystem::path& model) const {
    std::filesystem::copy(path(), model, std::filesystem::copy_options::recursive);
    return model;
  }

 private:
  TemporaryFolder folder_;
  TaskRecord flowers_;
};

/// The bytes of an inference of image files, which lie behind the JSON.
inline std::string ask_for(const std::string& model, const std::vector<std::string>& images,
                           const std::string& fields = "") {
  std::string rows;
  for (const std::string& image : images) append_bytes(rows, image);
  const std::string json = nlohmann::json{
      {"inputs",
       {{{"name", "image"},
         {"datatype", "BYTES"},
         {"shape", {images.size()}},
         {"parameters", {{"binary_data_size", rows.size()}}}}}},
      {"outputs",
       {{{"name", "logits"}}}}}.dump();
  return post("/v2/models/" + model + "/infer", json + rows,
              fmt::format("Inference-Header-Content-Length: {}\r\n{}", json.size(), fields));
}
inline std::string ask_for(const std::string& model) { return ask_for(model, {image_file(1)}); }

/// The version that answered; 0: none did.
inline std::int64_t version_of(const HttpReply& reply) {
  if (reply.status != 200) return 0;
  return std::stoll(nlohmann::json::parse(reply.body).at("model_version").get<std::string>());
}

/// The same over gRPC.
inline inference::ModelInferRequest message_for(const std::string& model, const std::vector<std::string>& images) {
  inference::ModelInferRequest request;
  request.set_model_name(model);
  auto& input = *request.add_inputs();
  input.set_name("image");
  input.set_datatype("BYTES");
  input.add_shape(static_cast<std::int64_t>(images.size()));
  std::string rows;
  for (const std::string& image : images) append_bytes(rows, image);
  request.add_raw_input_contents(std::move(rows));
  request.add_outputs()->set_name("logits");
  return request;
}

/// A server of the toy, and how to talk to it.
class ToyServer {
 public:
  explicit ToyServer(const std::filesystem::path& model, std::vector<std::string> words = {},
                     std::vector<std::string> runner = {})
      : program_(output_.path(), with(model, std::move(words)), std::move(runner)) {}

  ServingProgram& program() { return program_; }
  std::uint16_t http() const { return static_cast<std::uint16_t>(program_.http_port()); }
  HttpReply ask(const std::string& request) const { return recast::ask(http(), request); }
  /// By a connection of its own. The context, if one is given, has what came with the status.
  grpc::Status call(const inference::ModelInferRequest& request, grpc::ClientContext* context = nullptr) const {
    grpc::ClientContext usual;
    if (context == nullptr) context = &usual;
    context->set_deadline(std::chrono::system_clock::now() + 60s);
    inference::ModelInferResponse answer;
    return grpc_stub()->ModelInfer(context, request, &answer);
  }
  std::unique_ptr<inference::GRPCInferenceService::Stub> grpc_stub() const {
    grpc::ChannelArguments own;
    own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return inference::GRPCInferenceService::NewStub(grpc::CreateCustomChannel(
        fmt::format("127.0.0.1:{}", program_.grpc_port()), grpc::InsecureChannelCredentials(), own));
  }
  /// A series of /metrics, by the text in front of its value; 0: there is none.
  double metric(const std::string& series) const {
    const std::string text = recast::ask(static_cast<std::uint16_t>(program_.metrics_port()), get("/metrics")).body;
    const std::size_t at = text.find("\n" + series + " ");
    return at == text.npos ? 0 : std::stod(text.substr(at + series.size() + 2));
  }
  /// Resident now.
  std::int64_t memory_bytes() const {
    std::ifstream file(fmt::format("/proc/{}/statm", program_.pid()));
    std::int64_t all = 0, resident = 0;
    file >> all >> resident;
    return resident * ::sysconf(_SC_PAGESIZE);
  }

 private:
  static std::vector<std::string> with(const std::filesystem::path& model, std::vector<std::string> words) {
    words.insert(words.begin(), model.string());
    return words;
  }

  TemporaryFolder output_;
  ServingProgram program_;
};

}  // namespace recast
