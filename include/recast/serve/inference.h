#pragma once
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

// Requests and answers of the Open Inference Protocol v2, the same for HTTP and gRPC. Knows nothing of torch, so that a
// fuzz target of the parsers links little.

/// A tensor on the wire, row-major. Whoever makes one has checked that shape, datatype and bytes agree.
struct WireTensor {
  std::string name;
  std::string datatype;                                  ///< "FP32", "INT64", "BYTES", ... as the protocol has them
  std::vector<std::int64_t> shape;                       ///< no dimension negative
  std::string bytes;                                     ///< elements, little endian; of BYTES each as 4 bytes of
                                                         ///< length (unsigned) and its content
  nlohmann::json parameters = nlohmann::json::object();  ///< values are strings, whole numbers, numbers, booleans
};

/// An output that a request asks for.
struct WireOutput {
  std::string name;
  bool binary = false;  ///< HTTP: behind the JSON, not in it
  nlohmann::json parameters = nlohmann::json::object();
};

struct InferenceRequest {
  std::string model, version, id;  ///< version and id: empty where none was given
  nlohmann::json parameters = nlohmann::json::object();
  std::vector<WireTensor> inputs;
  std::vector<WireOutput> outputs;  ///< empty: all that the model gives unasked
  bool binary_outputs = false;      ///< HTTP: those not listed come binary
};

struct InferenceResponse {
  std::string model, version, id;
  nlohmann::json parameters = nlohmann::json::object();
  std::vector<WireTensor> outputs;
};

/// Of an encoded image in a request.
inline constexpr std::size_t kMostImageBytes = std::size_t{16} << 20;

/// What no request may go beyond, whichever way it comes.
struct RequestLimits {
  std::size_t tensors = 64;            ///< inputs, and as many outputs
  std::int64_t rows = 1024;            ///< first dimension of an input
  std::size_t rank = 8;                ///< dimensions of an input
  std::size_t parameters = 64;         ///< of the request, of an input, of an output
  std::size_t name_bytes = 512;        ///< names, ids, keys of parameters
  std::size_t parameter_bytes = 4096;  ///< a text as the value of a parameter
};

/// What every transport insists on before a request goes to the Service: names are visible UTF-8 text and given once,
/// parameters are texts, numbers or booleans, each input's datatype, shape and bytes agree, and nothing is beyond
/// `limits`. `model` and `version` are not looked at.
/// Throws  kInvalidArgument, kExhausted (beyond a limit): "[infer] inputs[1].shape: what was got, what was expected".
void check_request(const InferenceRequest& request, const RequestLimits& limits = {});

/// Bytes of one element, or 0: BYTES, whose elements have lengths of their own, and datatypes that there are not
/// (known_datatype() tells them apart).
std::int64_t datatype_bytes(std::string_view datatype);
bool known_datatype(std::string_view datatype);
/// Throws kInvalidArgument with the nearest datatype that there is.
void check_datatype(std::string_view datatype, std::string_view origin);
/// Throws kInvalidArgument unless the bytes are as many as shape and datatype say, and each BOOL 0 or 1.
void check_tensor(const WireTensor& tensor, std::string_view origin);
/// Product of the dimensions. Throws kInvalidArgument: a negative one, or a product beyond 2^53 (dimensions of 0 left
/// out of it, since they would hide the others).
std::int64_t element_count(const std::vector<std::int64_t>& shape, std::string_view origin);
/// The elements of a BYTES tensor, views into `bytes`. Throws kInvalidArgument, `origin` named: a length beyond the
/// end, bytes left over, or another number of elements than `count`.
std::vector<std::string_view> split_bytes(std::string_view bytes, std::int64_t count, std::string_view origin);
/// The reverse, for one more element.
void append_bytes(std::string& bytes, std::string_view element);

}  // namespace recast
