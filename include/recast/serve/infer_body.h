#pragma once
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "recast/serve/inference.h"

namespace recast {

// Bodies of POST /v2/models/NAME/infer: a JSON object and, behind it, the bytes of those tensors that are not in it
// (the binary tensor data extension). docs/serving.md, "Requests and answers". All functions are pure.

struct InferBodyLimits {
  RequestLimits request;
  std::size_t depth = 32;              ///< nested arrays and objects
  std::size_t values = 10'000;         ///< keys and values, those of `data` left out
  std::size_t text_bytes = 24u << 20;  ///< a text as it stands there: an image of 16 MiB in base64 has 22.4 million
};

/// Reads the body of a request. `json_bytes`: the header Inference-Header-Content-Length, where there was one; without
/// it the whole body is JSON. The request's `model` and `version` are what the body itself says ("model_name",
/// "model_version", which some clients send), mostly nothing: see name_model() in model_name.h.
/// Of the parameters are taken out, since they are about the body alone: binary_data_size, binary_data,
/// binary_data_output, and content_type where it is "base64".
/// Memory   beside `body`: 8 bytes for each value of a `data` array (a value is 2 bytes of JSON or more, so 4 times
///          the body at the most), 10 times the longest text, and 4 MB. No tree is built of `data`.
/// Throws   kInvalidArgument; kExhausted: beyond a limit. In both "[infer] inputs[1].data[3]: what was got, what was
///          expected", one line.
InferenceRequest parse_infer_body(std::string_view body, std::optional<std::size_t> json_bytes = {},
                                  const InferBodyLimits& limits = {});

/// Which outputs a request wants behind the JSON. A small value that a transport keeps while the request is away.
class BinaryOutputs {
 public:
  BinaryOutputs() = default;  ///< none
  explicit BinaryOutputs(const InferenceRequest& request);
  bool wants(const std::string& output) const;

 private:
  std::map<std::string, bool> listed_;
  bool others_ = false;
};

struct InferBody {
  std::string bytes;
  std::optional<std::size_t> json_bytes;  ///< for the header Inference-Header-Content-Length; nothing: all is JSON
};

/// Writes an answer. Numbers in JSON read back to the same float or double; -0 stays negative.
/// Throws  kInvalidArgument: an output whose values JSON cannot carry (FP16, BF16, BYTES that are not UTF-8) and that
///         was not asked for as binary;  kInternal: NaN or infinite values in JSON.
InferBody write_infer_body(const InferenceResponse& response, const BinaryOutputs& binary = {});

/// {"error": MESSAGE}, in ASCII: what is not becomes \uXXXX, what is not UTF-8 becomes U+FFFD.
std::string write_error_body(std::string_view message);

}  // namespace recast
