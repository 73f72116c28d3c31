// Body of POST /v2/models/NAME/infer: two bytes that say how much of the rest is JSON (0xffff: no header says it), and
// the body. What is accepted can be answered with, and an answer whose outputs are the inputs reads back the same.
#include "recast/serve/infer_body.h"

#include "target.h"

using namespace recast;

namespace {

std::optional<std::size_t> take_length(std::string_view& bytes) {
  if (bytes.size() < 2) return std::nullopt;
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
  const std::size_t length = byte(0) << 8 | byte(1);
  bytes.remove_prefix(2);
  return length == 0xffff ? std::nullopt : std::optional(length);
}

/// The inputs as a request of their own, all in JSON or all binary.
InferBody as_request(const InferenceRequest& request, bool binary) {
  InferenceRequest choice;
  choice.binary_outputs = binary;
  InferenceResponse response;
  response.outputs = request.inputs;
  InferBody body = write_infer_body(response, BinaryOutputs(choice));
  const std::string begin = R"({"model_name":"","outputs":)", instead = R"({"inputs":)";
  RECAST_FUZZ_CHECK(body.bytes.starts_with(begin));
  body.bytes.replace(0, begin.size(), instead);
  if (body.json_bytes) *body.json_bytes -= begin.size() - instead.size();
  return body;
}

void check_same(const InferenceRequest& request, const InferBody& body) {
  InferBodyLimits limits;
  limits.values *= 2;  // binary_data_size comes on top
  const InferenceRequest again = parse_infer_body(body.bytes, body.json_bytes, limits);
  RECAST_FUZZ_CHECK(again.inputs.size() == request.inputs.size());
  for (std::size_t i = 0; i < again.inputs.size(); ++i) {
    const WireTensor &one = again.inputs[i], &other = request.inputs[i];
    RECAST_FUZZ_CHECK(one.name == other.name && one.datatype == other.datatype && one.shape == other.shape);
    RECAST_FUZZ_CHECK(one.bytes == other.bytes && one.parameters == other.parameters);
  }
}

/// The elements of a BYTES tensor, as images and tasks' names are taken out of it, are all of it.
void check_elements(const InferenceRequest& request) {
  for (const WireTensor& input : request.inputs) {
    if (input.datatype != "BYTES") continue;
    std::string again;
    for (const std::string_view element : split_bytes(input.bytes, element_count(input.shape, "input"), "input"))
      append_bytes(again, element);
    RECAST_FUZZ_CHECK(again == input.bytes);
  }
}

}  // namespace

RECAST_FUZZ_TARGET(infer_body) {
  std::string_view body = bytes;
  const std::optional<std::size_t> length = take_length(body);
  const auto request = fuzz::accepted([&] { return parse_infer_body(body, length); });
  if (!request) return;
  check_request(*request);
  check_elements(*request);
  check_same(*request, as_request(*request, true));
  // JSON carries neither halves, nor bytes that are no text, nor NaN: what only binary data bring.
  const auto in_json = [&]() -> std::optional<InferBody> {
    try {
      return as_request(*request, false);
    } catch (const Error&) {
      return std::nullopt;
    }
  }();
  if (in_json) check_same(*request, *in_json);
}
