#include "grpc_messages.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>

#include <cstring>
#include <limits>

#if GOOGLE_PROTOBUF_VERSION < 4022000
#include <google/protobuf/stubs/logging.h>
#endif

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "wire_cost.h"

namespace recast {
namespace {

using google::protobuf::RepeatedField;
using google::protobuf::RepeatedPtrField;
using inference::InferParameter;
using inference::InferTensorContents;
using inference::ModelInferRequest;
using Input = ModelInferRequest::InferInputTensor;
using Parameters = google::protobuf::Map<std::string, InferParameter>;

/// By itself protobuf before 22 would write on standard error what it dislikes in a request.
void keep_protobuf_quiet() {
#if GOOGLE_PROTOBUF_VERSION < 4022000
  static const auto before =
      google::protobuf::SetLogHandler([](google::protobuf::LogLevel, const char*, int, const std::string& message) {
        log_event(LogLevel::kDebug, "grpc.message", {{"note", message}});
      });
  static_cast<void>(before);
#endif
}

nlohmann::json read_parameter(const InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return parameter.bool_param();
    case InferParameter::kInt64Param:
      return parameter.int64_param();
    case InferParameter::kStringParam:
      return parameter.string_param();
    case InferParameter::kDoubleParam:
      return parameter.double_param();
    case InferParameter::kUint64Param:
      return parameter.uint64_param();
    case InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return nullptr;  // no value, or one of a kind to come: check_request() refuses it by its name
}

nlohmann::json read_parameters(const Parameters& parameters) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [key, value] : parameters) object[key] = read_parameter(value);
  return object;
}

void write_parameters(const nlohmann::json& object, Parameters& parameters) {
  for (const auto& [key, value] : object.items()) {
    InferParameter& parameter = parameters[key];
    switch (value.type()) {
      case nlohmann::json::value_t::boolean:
        parameter.set_bool_param(value.get<bool>());
        break;
      case nlohmann::json::value_t::string:
        parameter.set_string_param(value.get<std::string>());
        break;
      case nlohmann::json::value_t::number_float:
        parameter.set_double_param(value.get<double>());
        break;
      case nlohmann::json::value_t::number_integer:
        parameter.set_int64_param(value.get<std::int64_t>());
        break;
      case nlohmann::json::value_t::number_unsigned: {
        const auto number = value.get<std::uint64_t>();
        // As clients know it that are older than uint64_param, wherever it fits.
        if (number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
          parameter.set_int64_param(static_cast<std::int64_t>(number));
        } else {
          parameter.set_uint64_param(number);
        }
        break;
      }
      default:
        fail(Code::kInternal, "[grpc] parameter '{}' of an answer is no scalar", printable(key));
    }
  }
}

/// Which list of InferTensorContents holds the elements of a datatype, and whether there is one.
enum class List { kBool, kInt, kInt64, kUint, kUint64, kFp32, kFp64, kBytes, kNone };

struct ListOfDatatype {
  std::string_view datatype;
  List list;
};
constexpr ListOfDatatype kLists[] = {
    {"BOOL", List::kBool},     {"INT8", List::kInt},   {"INT16", List::kInt},   {"INT32", List::kInt},
    {"INT64", List::kInt64},   {"UINT8", List::kUint}, {"UINT16", List::kUint}, {"UINT32", List::kUint},
    {"UINT64", List::kUint64}, {"FP32", List::kFp32},  {"FP64", List::kFp64},   {"BYTES", List::kBytes},
};

List list_of(std::string_view datatype) {
  for (const ListOfDatatype& entry : kLists) {
    if (entry.datatype == datatype) return entry.list;
  }
  return List::kNone;
}

std::string_view field_of(List list) {
  switch (list) {
    case List::kBool:
      return "bool_contents";
    case List::kInt:
      return "int_contents";
    case List::kInt64:
      return "int64_contents";
    case List::kUint:
      return "uint_contents";
    case List::kUint64:
      return "uint64_contents";
    case List::kFp32:
      return "fp32_contents";
    case List::kFp64:
      return "fp64_contents";
    case List::kBytes:
      return "bytes_contents";
    case List::kNone:
      break;
  }
  return "";
}

std::int64_t length_of(const InferTensorContents& contents, List list) {
  switch (list) {
    case List::kBool:
      return contents.bool_contents_size();
    case List::kInt:
      return contents.int_contents_size();
    case List::kInt64:
      return contents.int64_contents_size();
    case List::kUint:
      return contents.uint_contents_size();
    case List::kUint64:
      return contents.uint64_contents_size();
    case List::kFp32:
      return contents.fp32_contents_size();
    case List::kFp64:
      return contents.fp64_contents_size();
    case List::kBytes:
      return contents.bytes_contents_size();
    case List::kNone:
      break;
  }
  return 0;
}

template <class Element, class Value>
std::string narrowed(const RepeatedField<Value>& values, std::string_view datatype, std::string_view origin) {
  std::string bytes(static_cast<std::size_t>(values.size()) * sizeof(Element), '\0');
  for (int i = 0; i < values.size(); ++i) {
    const auto element = static_cast<Element>(values[i]);
    if constexpr (!std::is_same_v<Element, Value>) {
      if (static_cast<Value>(element) != values[i]) {
        fail(Code::kInvalidArgument, "[infer] {}[{}]: is {}, which is no {}", origin, i, values[i], datatype);
      }
    }
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * sizeof(Element), &element, sizeof(Element));
  }
  return bytes;
}

std::string typed_bytes(const InferTensorContents& contents, std::string_view datatype, std::string_view origin) {
  if (datatype == "BOOL") return narrowed<bool>(contents.bool_contents(), datatype, origin);
  if (datatype == "INT8") return narrowed<std::int8_t>(contents.int_contents(), datatype, origin);
  if (datatype == "INT16") return narrowed<std::int16_t>(contents.int_contents(), datatype, origin);
  if (datatype == "INT32") return narrowed<std::int32_t>(contents.int_contents(), datatype, origin);
  if (datatype == "INT64") return narrowed<std::int64_t>(contents.int64_contents(), datatype, origin);
  if (datatype == "UINT8") return narrowed<std::uint8_t>(contents.uint_contents(), datatype, origin);
  if (datatype == "UINT16") return narrowed<std::uint16_t>(contents.uint_contents(), datatype, origin);
  if (datatype == "UINT32") return narrowed<std::uint32_t>(contents.uint_contents(), datatype, origin);
  if (datatype == "UINT64") return narrowed<std::uint64_t>(contents.uint64_contents(), datatype, origin);
  if (datatype == "FP32") return narrowed<float>(contents.fp32_contents(), datatype, origin);
  if (datatype == "FP64") return narrowed<double>(contents.fp64_contents(), datatype, origin);
  std::string bytes;
  for (const std::string& element : contents.bytes_contents()) append_bytes(bytes, element);
  return bytes;
}

std::string read_typed(const Input& input, const std::string& origin) {
  const InferTensorContents& contents = input.contents();
  check_datatype(input.datatype(), origin + ".datatype");
  const List list = list_of(input.datatype());
  if (list == List::kNone) {
    fail(Code::kInvalidArgument, "[infer] {}.contents: {} has no typed form; send it in raw_input_contents", origin,
         input.datatype());
  }
  for (int other = 0; other < static_cast<int>(List::kNone); ++other) {
    if (other == static_cast<int>(list) || length_of(contents, static_cast<List>(other)) == 0) continue;
    fail(Code::kInvalidArgument, "[infer] {}.contents: has {}; elements of {} belong in {}", origin,
         field_of(static_cast<List>(other)), input.datatype(), field_of(list));
  }
  const std::int64_t count = element_count({input.shape().begin(), input.shape().end()}, origin + ".shape");
  if (const std::int64_t got = length_of(contents, list); got != count) {
    fail(Code::kInvalidArgument, "[infer] {}.contents.{}: holds {} elements; the shape makes {}", origin,
         field_of(list), got, count);
  }
  return typed_bytes(contents, input.datatype(), fmt::format("{}.contents.{}", origin, field_of(list)));
}

void check_forms(const ModelInferRequest& message) {
  if (message.raw_input_contents_size() == 0) return;
  if (message.raw_input_contents_size() != message.inputs_size()) {
    fail(Code::kInvalidArgument, "[infer] raw_input_contents: {} of them for {} inputs; all inputs are raw or none",
         message.raw_input_contents_size(), message.inputs_size());
  }
  for (int i = 0; i < message.inputs_size(); ++i) {
    if (!message.inputs(i).has_contents()) continue;
    fail(Code::kInvalidArgument,
         "[infer] inputs[{}].contents: given beside raw_input_contents; all inputs are raw or "
         "none",
         i);
  }
}

template <class Element, class Value>
void append_elements(std::string_view bytes, RepeatedField<Value>& values) {
  const std::size_t count = bytes.size() / sizeof(Element);
  values.Reserve(static_cast<int>(count));
  for (std::size_t i = 0; i < count; ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    values.AddAlreadyReserved(static_cast<Value>(element));
  }
}

void write_typed(const WireTensor& tensor, InferTensorContents& contents) {
  const std::string& type = tensor.datatype;
  const std::string& bytes = tensor.bytes;
  if (type == "BOOL") return append_elements<std::uint8_t>(bytes, *contents.mutable_bool_contents());
  if (type == "INT8") return append_elements<std::int8_t>(bytes, *contents.mutable_int_contents());
  if (type == "INT16") return append_elements<std::int16_t>(bytes, *contents.mutable_int_contents());
  if (type == "INT32") return append_elements<std::int32_t>(bytes, *contents.mutable_int_contents());
  if (type == "INT64") return append_elements<std::int64_t>(bytes, *contents.mutable_int64_contents());
  if (type == "UINT8") return append_elements<std::uint8_t>(bytes, *contents.mutable_uint_contents());
  if (type == "UINT16") return append_elements<std::uint16_t>(bytes, *contents.mutable_uint_contents());
  if (type == "UINT32") return append_elements<std::uint32_t>(bytes, *contents.mutable_uint_contents());
  if (type == "UINT64") return append_elements<std::uint64_t>(bytes, *contents.mutable_uint64_contents());
  if (type == "FP32") return append_elements<float>(bytes, *contents.mutable_fp32_contents());
  if (type == "FP64") return append_elements<double>(bytes, *contents.mutable_fp64_contents());
  for (const std::string_view element : split_bytes(bytes, element_count(tensor.shape, tensor.name), tensor.name)) {
    contents.add_bytes_contents(std::string(element));
  }
}

}  // namespace

void parse_message(const OpenStream& open, google::protobuf::Message& message, std::int64_t most_bytes) {
  keep_protobuf_quiet();
  // Beside what the fields hold, room for their objects: those of a request within its limits take 2 MB at the most.
  constexpr std::int64_t kObjects = 16 << 20;
  check_wire_cost(*open(), *message.GetDescriptor(), most_bytes + kObjects);
  if (!message.ParseFromZeroCopyStream(open().get())) {
    fail(Code::kInvalidArgument, "[grpc] the message is no {}: cut off, or a text in it is not UTF-8",
         message.GetDescriptor()->name());
  }
}

void parse_message(std::string_view bytes, google::protobuf::Message& message, std::int64_t most_bytes) {
  const OpenStream open = [bytes] {
    return std::make_unique<google::protobuf::io::ArrayInputStream>(bytes.data(), static_cast<int>(bytes.size()));
  };
  parse_message(open, message, most_bytes);
}

InferenceRequest read_request(ModelInferRequest&& message, const RequestLimits& limits) {
  check_forms(message);
  InferenceRequest request;
  request.model = std::move(*message.mutable_model_name());
  request.version = std::move(*message.mutable_model_version());
  request.id = std::move(*message.mutable_id());
  request.parameters = read_parameters(message.parameters());
  const bool raw = message.raw_input_contents_size() > 0;
  for (int i = 0; i < message.inputs_size(); ++i) {
    Input& input = *message.mutable_inputs(i);
    std::string bytes =
        raw ? std::move(*message.mutable_raw_input_contents(i)) : read_typed(input, fmt::format("inputs[{}]", i));
    request.inputs.push_back({std::move(*input.mutable_name()),
                              std::move(*input.mutable_datatype()),
                              {input.shape().begin(), input.shape().end()},
                              std::move(bytes),
                              read_parameters(input.parameters())});
  }
  for (auto& output : *message.mutable_outputs()) {
    request.outputs.push_back({std::move(*output.mutable_name()), false, read_parameters(output.parameters())});
  }
  check_request(request, limits);
  return request;
}

bool wants_raw_answer(const ModelInferRequest& message) {
  return message.raw_input_contents_size() > 0 || message.inputs_size() == 0;
}

inference::ModelInferResponse write_response(InferenceResponse&& answer, bool raw) {
  for (const WireTensor& tensor : answer.outputs) raw = raw || list_of(tensor.datatype) == List::kNone;
  inference::ModelInferResponse message;
  message.set_model_name(std::move(answer.model));
  message.set_model_version(std::move(answer.version));
  message.set_id(std::move(answer.id));
  write_parameters(answer.parameters, *message.mutable_parameters());
  for (WireTensor& tensor : answer.outputs) {
    auto& output = *message.add_outputs();
    output.mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
    write_parameters(tensor.parameters, *output.mutable_parameters());
    if (raw) {
      message.add_raw_output_contents(std::move(tensor.bytes));
    } else {
      write_typed(tensor, *output.mutable_contents());
    }
    output.set_name(std::move(tensor.name));
    output.set_datatype(std::move(tensor.datatype));
  }
  return message;
}

void fill_message(const nlohmann::json& json, google::protobuf::Message& message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const auto status = google::protobuf::util::JsonStringToMessage(text, &message, options);
  if (!status.ok()) {
    fail(Code::kInternal, "[grpc] the answer does not fit {}: {}", message.GetDescriptor()->name(),
         printable(std::string(status.message()), 200));
  }
}

}  // namespace recast
