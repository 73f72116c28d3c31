#pragma once
#include <google/protobuf/io/zero_copy_stream.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "recast/serve/inference.h"
#include "serve/inference.pb.h"

namespace recast {

// Messages of the gRPC form of the protocol <-> the requests and answers that all transports share. Knows neither torch
// nor gRPC, so that a fuzz target of the parser links little.

/// The same bytes from their beginning, as often as it is called.
using OpenStream = std::function<std::unique_ptr<google::protobuf::io::ZeroCopyInputStream>()>;

/// Parses bytes from outside. A message of few bytes can unpack to many (an empty element takes two): what it would
/// take is counted first, and nothing is built of one that takes more than `most_bytes` and a little. Throws
/// kInvalidArgument: no such message; kExhausted: it unpacks to too much.
void parse_message(const OpenStream& open, google::protobuf::Message& message, std::int64_t most_bytes);
/// The same of bytes in memory.
void parse_message(std::string_view bytes, google::protobuf::Message& message, std::int64_t most_bytes);

/// Takes the tensors out of `message`, and checks them with check_request().
/// Throws kInvalidArgument naming input and field: raw and typed inputs mixed, another number of raw inputs than of
/// inputs, a datatype that the typed form does not have, elements in the list of another datatype or out of its range,
/// or more or fewer than the shape asks for; and as check_request().
InferenceRequest read_request(inference::ModelInferRequest&& message, const RequestLimits& limits = {});
/// Whether the answer to `message` is to be raw: it is as the request was, and raw where that had no inputs.
bool wants_raw_answer(const inference::ModelInferRequest& message);
/// Takes the tensors out of `answer`. What the typed form does not have (FP16, BF16) makes the whole answer raw: a
/// client may rely on all of it being one or the other.
inference::ModelInferResponse write_response(InferenceResponse&& answer, bool raw);

/// Fills a message from the JSON object with the same fields; those that the message does not have are left out.
/// Throws kInternal: a field of another type.
void fill_message(const nlohmann::json& json, google::protobuf::Message& message);

}  // namespace recast
