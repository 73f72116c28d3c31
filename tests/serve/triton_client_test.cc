// Bodies that NVIDIA's Python client makes and reads, without a server between.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "client_programs.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"
#include "recast/serve/infer_body.h"

namespace recast {
namespace {

using nlohmann::json;

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

json described(const WireTensor& tensor) {
  return {{"name", tensor.name}, {"datatype", tensor.datatype}, {"shape", tensor.shape}, {"bytes", hex(tensor.bytes)}};
}

json read_json(const std::filesystem::path& file) { return json::parse(read_file(file, 1 << 24)); }

std::optional<std::size_t> length_of(const json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<std::size_t>());
}

InferenceRequest request_of(const TemporaryFolder& folder, const json& written) {
  const std::string body = read_file(folder / written["body"].get<std::string>(), 1 << 24);
  return parse_infer_body(body, length_of(written["json_bytes"]));
}

class TritonClient : public testing::Test {
 protected:
  void SetUp() override {
    RECAST_NEED_CLIENTS();
    expect_client_passes("clients/triton_bodies.py", {"write", folder_.path().string()});
    ASSERT_TRUE(std::filesystem::exists(folder_ / "cases.json"));
    written_ = read_json(folder_ / "cases.json");
    ASSERT_EQ(written_.size(), 5u);
  }

  TemporaryFolder folder_;
  json written_;
};

TEST_F(TritonClient, WritesRequestsThatAreReadAsMeant) {
  for (const json& written : written_) {
    SCOPED_TRACE(written["body"]);
    const InferenceRequest request = request_of(folder_, written);
    EXPECT_EQ(request.id, written["id"]);
    EXPECT_EQ(request.parameters, written["parameters"]);
    EXPECT_EQ(request.binary_outputs, written["binary_outputs"]);
    ASSERT_EQ(request.inputs.size(), written["inputs"].size());
    for (std::size_t i = 0; i < request.inputs.size(); ++i)
      EXPECT_EQ(described(request.inputs[i]), written["inputs"][i]);
    json outputs = json::array();
    for (const WireOutput& output : request.outputs)
      outputs.push_back({output.name, output.binary, output.parameters.value("classification", 0)});
    EXPECT_EQ(outputs, written["outputs"]);
  }
}

TEST_F(TritonClient, ReadsAnswersAsTheyWereMeant) {
  json answers = json::array();
  for (std::size_t i = 0; i < written_.size(); ++i) {
    // What a request brought is sent back: all in the way in which the client sent it, and all binary.
    for (const bool all_binary : {false, true}) {
      if (i == 3 && !all_binary) continue;  // bytes of an image are no text
      InferenceRequest request = request_of(folder_, written_[i]);
      InferenceResponse response;
      response.model = "echo";
      response.version = "1";
      response.id = request.id;
      response.outputs = request.inputs;
      request.outputs.clear();
      request.binary_outputs = all_binary || i == 0;  // the first holds what JSON cannot carry
      const InferBody body = write_infer_body(response, BinaryOutputs(request));
      const std::string name = fmt::format("answer-{}-{}", i, all_binary);
      write_file_atomically(folder_ / name, body.bytes);
      json outputs = json::array();
      for (const WireTensor& output : response.outputs) outputs.push_back(described(output));
      answers.push_back({{"body", name},
                         {"json_bytes", body.json_bytes ? json(*body.json_bytes) : json()},
                         {"id", response.id},
                         {"outputs", outputs}});
    }
  }
  write_file_atomically(folder_ / "answers.json", answers.dump());
  expect_client_passes("clients/triton_bodies.py", {"check", folder_.path().string()});
}

}  // namespace
}  // namespace recast
