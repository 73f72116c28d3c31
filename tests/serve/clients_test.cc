// Clients that we did not write, unchanged, against the real program with a real model.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <regex>
#include <set>

#include "client_programs.h"
#include "data/jpeg_files.h"
#include "fenced_blocks.h"
#include "http_client.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/task_commands.h"
#include "served_tasks.h"
#include "serving_program.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

constexpr const char* kPeftModules = "torch,safetensors,transformers,timm,torchvision,peft";
constexpr const char* kPeftCase = "vit";
constexpr const char* kAdapter = "adapter";

/// `toy`, a mimicked network with tasks of several plug-ins, class counts and versions.
void write_toy(const fs::path& folder) {
  write_toy_model(folder / "toy");
  write_toy_images(folder / "data", {"blue", "green", "red"}, 12);
  const auto learned = [&](const std::string& name, const std::string& plug) {
    return learned_record(folder / "toy", folder / "data", name, {plug});
  };
  const TaskRecord flowers = learned("flowers", "recast"), birds = learned("birds", "lora:rank=2,targets=qkv");
  learned("leaves", "adaptformer");
  const TaskRecord probe = learned("probe", "linear-probe");
  const ModelDirectory directory = ModelDirectory::open(folder / "toy", false);
  directory.store().commit(varied(flowers, "cars", 2, 1));
  directory.store().commit(varied(flowers, "cars", 4, 2));
  directory.store().commit(varied(birds, "fungi", 17, 3));
  directory.store().commit(varied(probe, "digits", 10, 4));
}

/// `vit`, a network of transformers with a LoRA that PEFT itself wrote.
void write_adapted(const fs::path& folder) {
  const Outcome made = run_program(
      {python_path(), RECAST_SOURCE_DIR "/tests/run/peft_cases.py", "make", (folder / "peft").string(), kPeftCase});
  if (made.status != 0) fail(Code::kInternal, "[test] PEFT makes no adapter: {}", made.text);
  const fs::path made_here = folder / "peft" / kPeftCase;
  const NamedTensors base = read_tensor_file(made_here / "base.safetensors").tensors;
  write_model_files(folder / "vit", import_checkpoint(base, toy_vit().config, "base.safetensors").files, false);
  import_task_file(ModelDirectory::open(folder / "vit", false), made_here / "adapter", kAdapter);
}

template <class Value>
std::vector<std::vector<Value>> rows_of(const at::Tensor& values) {
  const at::Tensor matrix = values.contiguous();
  const Value* const data = matrix.const_data_ptr<Value>();
  std::vector<std::vector<Value>> rows;
  for (std::int64_t row = 0; row < matrix.size(0); ++row)
    rows.emplace_back(data + row * matrix.size(1), data + (row + 1) * matrix.size(1));
  return rows;
}

/// What the wire must carry, to the bit.
json answer_of(Service& engine, InferenceRequest request) {
  for (const char* name : {"logits", "probabilities", "num_classes", "label", "features"})
    request.outputs.push_back({name});
  const InferenceResponse answer = send(engine, std::move(request)).get();
  json out = {{"num_classes", integers(answer, "num_classes")}, {"label", texts(answer, "label")}};
  for (const char* name : {"logits", "probabilities", "features"}) out[name] = rows_of<float>(floats(answer, name));
  return out;
}

InferenceRequest pixel_request(const std::string& model, const at::Tensor& pixels) {
  InferenceRequest request;
  request.model = model;
  request.inputs.push_back({"image", "FP32", pixels.sizes().vec(),
                            std::string(static_cast<const char*>(pixels.const_data_ptr()), pixels.nbytes())});
  return request;
}

/// One server for all: `toy`, and `vit` where PEFT is installed.
class Clients : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_toy(*folder_ / "");
    directories_ = {*folder_ / "toy"};
    no_peft_ = missing_python(kPeftModules);
    if (no_peft_.empty()) {
      write_adapted(*folder_ / "");
      directories_.push_back(*folder_ / "vit");
    }
    std::vector<std::string> words = {"--management", "--mixing", "grouped", "--corrections",
                                      (*folder_ / "corrections").string()};
    for (const fs::path& directory : directories_) words.push_back(directory.string());
    server_ = new ServingProgram(folder_->path(), words);
    write_expected();
  }
  static void TearDownTestSuite() {
    if (server_) {
      const Answer end = server_->stop();
      EXPECT_EQ(end.status, 0) << end.err;
    }
    delete std::exchange(server_, nullptr);
    delete std::exchange(folder_, nullptr);
  }
  void SetUp() override { ASSERT_TRUE(server_) << "the server did not start"; }

  static fs::path expected_file() { return *folder_ / "expected.json"; }
  static std::string http() { return fmt::format("127.0.0.1:{}", server_->http_port()); }

  /// The engine's answers in this process, for expected.py.
  static void write_expected() {
    EngineOptions options;
    options.directories = directories_;
    options.mixing = Mixing::kGrouped;
    options.workers = 2;
    const auto engine = make_engine(options, nullptr);
    std::vector<std::string> files, images;
    for (std::uint64_t i = 0; i < 8; ++i) {
      images.push_back(i < 6 ? image_file(i) : encode_jpeg(40, 30 + static_cast<int>(i)));
      files.push_back((*folder_ / fmt::format("image{}", i)).string());
      write_text(files.back(), images.back());
    }
    // More than the 4 MiB that gRPC takes unless it is told otherwise.
    const std::string large = encode_png((Key(9).uniform({3, 1300, 1200}) * 255).to(at::kByte));
    write_text(*folder_ / "large.png", large);
    const at::Tensor pixels = Key(1).normal({3, 3, 16, 16});
    write_text(*folder_ / "pixels", pixel_request("", pixels).inputs[0].bytes);
    json expected = {{"http", http()},
                     {"grpc", fmt::format("127.0.0.1:{}", server_->grpc_port())},
                     {"sources",
                      {{"images", files},
                       {"large", {(*folder_ / "large.png").string()}},
                       {"pixels", {{"file", (*folder_ / "pixels").string()}, {"shape", pixels.sizes().vec()}}}}}};
    for (const json& entry : engine->repository_index(false)) expected["index"].push_back(entry["name"]);
    std::vector<std::string> names = {"birds", "cars", "cars:1", "digits", "flowers", "fungi", "leaves", "toy@cars"};
    if (no_peft_.empty()) names.emplace_back(kAdapter);
    for (const std::string& name : names) {
      const fs::path& directory = name == kAdapter ? directories_.back() : directories_.front();
      const TaskRecord task = ModelDirectory::open(directory, true).record(name.substr(name.find('@') + 1));
      expected["models"][name] = {{"version", std::to_string(task.version)},
                                  {"labels", task.labels},
                                  {"images", answer_of(*engine, request_for(name, images))},
                                  {"pixels", answer_of(*engine, pixel_request(name, pixels))}};
      if (name == "flowers") expected["models"][name]["large"] = answer_of(*engine, request_for(name, {large}));
    }
    write_text(expected_file(), expected.dump());
  }

  static inline TemporaryFolder* folder_ = nullptr;
  static inline ServingProgram* server_ = nullptr;
  static inline std::vector<fs::path> directories_;
  static inline std::string no_peft_;
};

#define RECAST_CLIENT(name, script, kind)                                      \
  TEST_F(Clients, name) {                                                      \
    RECAST_NEED_CLIENTS();                                                     \
    expect_client_passes("clients/" script, {kind, expected_file().string()}); \
  }
RECAST_CLIENT(TritonOverHttp, "triton_clients.py", "http")
RECAST_CLIENT(TritonOverHttpAsynchronous, "triton_clients.py", "http_aio")
RECAST_CLIENT(TritonOverGrpc, "triton_clients.py", "grpc")
RECAST_CLIENT(TritonOverGrpcAsynchronous, "triton_clients.py", "grpc_aio")
RECAST_CLIENT(TritonByStream, "triton_clients.py", "grpc_stream")
RECAST_CLIENT(TritonByStreamAsynchronous, "triton_clients.py", "grpc_aio_stream")
RECAST_CLIENT(KServeOverHttp, "kserve_clients.py", "rest")
RECAST_CLIENT(KServeOverGrpc, "kserve_clients.py", "grpc")
#undef RECAST_CLIENT

/// PEFT's folder, PEFT's numbers.
TEST_F(Clients, GetTheLogitsOfPeftFromAnAdapterThatPeftWrote) {
  RECAST_NEED_PYTHON(kPeftModules);
  const NamedTensors io = read_tensor_file(*folder_ / "peft" / kPeftCase / "io.safetensors").tensors;
  const at::Tensor images = io.at("images").contiguous(), theirs = io.at("logits");
  const json input = {{"name", "image"},
                      {"datatype", "FP32"},
                      {"shape", images.sizes().vec()},
                      {"data", rows_of<float>(images.view({1, -1})).front()}};
  const json body = {{"inputs", {input}}, {"outputs", {{{"name", "logits"}}}}};
  const HttpReply reply = ask(static_cast<std::uint16_t>(server_->http_port()),
                              post(fmt::format("/v2/models/{}/infer", kAdapter), body.dump()));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const at::Tensor ours = at::tensor(json::parse(reply.body)["outputs"][0]["data"].get<std::vector<float>>());
  EXPECT_LE((ours.view(theirs.sizes()) - theirs).abs().max().item<double>(), 1e-4 * theirs.abs().max().item<double>());
}

// ---- what the documents show ---------------------------------------------------------------------------------------

/// The same text with the ports of this server in place of the usual ones.
std::string with_ports(const std::string& text, const ServingProgram& server) {
  static const std::regex kAddress(R"((localhost|127\.0\.0\.1):800([012])\b)");
  const std::array ports = {server.http_port(), server.grpc_port(), server.metrics_port()};
  std::string out;
  auto from = text.cbegin();
  for (std::sregex_iterator at(text.begin(), text.end(), kAddress), end; at != end; ++at) {
    const std::smatch& match = *at;
    out.append(from, match[0].first);
    out += fmt::format("127.0.0.1:{}", ports.at(static_cast<std::size_t>(match[2].str()[0] - '0')));
    from = match[0].second;
  }
  return out.append(from, text.cend());
}

/// README.md and docs/*.md.
std::vector<fs::path> documents() {
  std::vector<fs::path> found = {RECAST_SOURCE_DIR "/README.md"};
  for (const auto& entry : fs::directory_iterator(RECAST_SOURCE_DIR "/docs"))
    if (entry.path().extension() == ".md") found.push_back(entry.path());
  std::ranges::sort(found);
  return found;
}

/// In a folder that holds the images it names. A status that means an error fails it.
Answer run_block(const FencedBlock& block, const fs::path& folder, const std::vector<std::string>& interpreter,
                 const std::string& typed) {
  for (const std::string& image : block.images())
    write_text(folder / image, image.ends_with("png") ? image_file(1) : encode_jpeg(40, 30));
  std::vector<std::string> words = {"env", "-C", folder.string()};
  words.insert(words.end(), interpreter.begin(), interpreter.end());
  words.push_back(typed);
  const TemporaryFolder output;
  return RunningProgram(output.path(), words).wait();
}

/// Every block with curl and one of the usual ports. Tasks are called flowers, cars or digits there.
TEST_F(Clients, CurlIsAnsweredAsTheDocumentsSay) {
  const std::string strict =
      "set -euo pipefail\ncurl() { command curl --silent --show-error --fail-with-body --max-time 60 \"$@\"; }\n";
  const std::regex curl(R"(\bcurl\b)");
  std::set<std::string> ran;
  for (const fs::path& document : documents())
    for (const FencedBlock& block : fenced_blocks(document)) {
      if (!std::regex_search(block.text, curl) || with_ports(block.text, *server_) == block.text) continue;
      SCOPED_TRACE(fmt::format("{}:{}\n{}", document.string(), block.line, block.text));
      const TemporaryFolder folder;
      const Answer answer =
          run_block(block, folder.path(), {"bash", "-c"}, strict + with_ports(block.typed(), *server_));
      EXPECT_EQ(answer.status, 0) << answer.out << answer.err;
      EXPECT_NE(answer.out, "");
      ran.insert(document.filename());
    }
  EXPECT_THAT(ran, IsSupersetOf({"README.md", "serving.md"})) << "these show how to ask with curl";
}

TEST_F(Clients, PythonIsAnsweredAsTheDocumentsSay) {
  RECAST_NEED_CLIENTS();
  int blocks = 0;
  for (const fs::path& document : documents())
    for (const FencedBlock& block : fenced_blocks(document)) {
      if (!block.shows("tritonclient") || block.language != "python") continue;
      SCOPED_TRACE(fmt::format("{}:{}\n{}", document.string(), block.line, block.text));
      const TemporaryFolder folder;
      const Answer answer =
          run_block(block, folder.path(), {clients_python(), "-c"}, with_ports(block.typed(), *server_));
      EXPECT_EQ(answer.status, 0) << answer.out << answer.err;
      EXPECT_THAT(answer.out, HasSubstr("class "));
      ++blocks;
    }
  EXPECT_GE(blocks, 1) << "the documents show no Python";
}

// ---- OpenAPI -------------------------------------------------------------------------------------------------------

/// Requests that Schemathesis draws from /v2/openapi.json, good and bad ones, against a server that asks for tokens.
/// $RECAST_SCHEMATHESIS_SECONDS: for longer than the seconds that a test may take; $RECAST_SCHEMATHESIS_SEED.
TEST_F(Clients, OpenapiSaysWhatTheServerDoes) {
  RECAST_NEED_CLIENTS();
  const auto chosen = [](const char* name, const char* otherwise) {
    const char* text = std::getenv(name);
    return std::string(text ? text : otherwise);
  };
  const std::string schemathesis = fs::path(clients_python()).replace_filename("schemathesis").string();
  const TemporaryFolder folder, output;
  const std::string tokens = (folder / "tokens.yaml").string();
  const Answer token =
      RunningRecast(folder.path(), {"token", tokens, "everything", "--role", "infer", "--role", "manage"}).wait();
  ASSERT_EQ(token.status, 0) << token.err;
  write_text(folder / "examples/cat.jpg", encode_jpeg(40, 30));  // as the document says
  ServingProgram server(folder.path(),
                        {(*folder_ / "toy").string(), "--tokens", tokens, "--corrections",
                         (folder / "corrections").string(), "--examples", (folder / "examples").string()});
  const std::string authorization = "Authorization: Bearer " + token.out.substr(0, token.out.find('\n'));
  const Answer answer =
      RunningProgram(output.path(),
                     {"env", "-C", folder.path().string(), schemathesis, "--config-file",
                      RECAST_SOURCE_DIR "/tests/serve/clients/schemathesis.toml", "run",
                      fmt::format("http://127.0.0.1:{}/v2/openapi.json", server.http_port()), "--header", authorization,
                      "--checks", "all", "--seed", chosen("RECAST_SCHEMATHESIS_SEED", "7"), "--max-time",
                      chosen("RECAST_SCHEMATHESIS_SECONDS", "15"), "--no-color"})
          .wait();
  EXPECT_EQ(answer.status, 0) << answer.out << answer.err;
  EXPECT_EQ(server.stop().status, 0);
}

}  // namespace
}  // namespace recast
