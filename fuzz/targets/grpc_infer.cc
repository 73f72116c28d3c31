// A message over gRPC as ModelInferRequest, then as a request: what is accepted has a typed or raw form that reads
// back.
#include "serve/grpc_messages.h"
#include "target.h"

using namespace recast;

namespace {

/// The tensors of a request as outputs of an answer, and those as inputs of a request again.
InferenceRequest through_an_answer(const InferenceRequest& request, bool raw) {
  inference::ModelInferResponse answer =
      write_response({request.model, request.version, request.id, request.parameters, request.inputs}, raw);
  inference::ModelInferRequest again;
  again.set_id(answer.id());
  *again.mutable_parameters() = answer.parameters();
  *again.mutable_raw_input_contents() = answer.raw_output_contents();
  for (const auto& output : answer.outputs()) {
    auto& input = *again.add_inputs();
    input.set_name(output.name());
    input.set_datatype(output.datatype());
    *input.mutable_shape() = output.shape();
    *input.mutable_parameters() = output.parameters();
    if (output.has_contents()) *input.mutable_contents() = output.contents();
  }
  return read_request(std::move(again));
}

}  // namespace

RECAST_FUZZ_TARGET(grpc_infer) {
  constexpr std::int64_t kMostBytes = 64 << 10;
  inference::ModelInferRequest message;
  const auto parsed = fuzz::accepted([&] {
    parse_message(bytes, message, kMostBytes);
    return true;
  });
  if (!parsed) return;
  const bool raw = wants_raw_answer(message);
  const auto request = fuzz::accepted([&] { return read_request(std::move(message)); });
  if (!request) return;
  std::size_t total = 0;
  for (const WireTensor& input : request->inputs) {
    check_tensor(input, "input");
    total += input.bytes.size();
  }
  RECAST_FUZZ_CHECK(total <= bytes.size() * 8 + 64);  // no element grows to more than its eight bytes
  for (const bool form : {raw, true, false}) {
    const InferenceRequest again = through_an_answer(*request, form);
    RECAST_FUZZ_CHECK(again.id == request->id && again.inputs.size() == request->inputs.size());
    RECAST_FUZZ_CHECK(again.parameters.size() == request->parameters.size());
    for (std::size_t i = 0; i < again.inputs.size(); ++i) {
      const WireTensor &one = request->inputs[i], &other = again.inputs[i];
      RECAST_FUZZ_CHECK(one.name == other.name && one.datatype == other.datatype && one.shape == other.shape);
      RECAST_FUZZ_CHECK(one.bytes == other.bytes);
    }
  }
}
