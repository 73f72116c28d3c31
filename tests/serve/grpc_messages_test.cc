#include "grpc_messages.h"

#include <google/protobuf/descriptor.pb.h>

#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "client_programs.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "grpc_methods.h"
#include "grpc_status.h"
#include "recast/base/error_table.h"
#include "serve/health.pb.h"

namespace recast {
namespace {

using inference::ModelInferRequest;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

ModelInferRequest::InferInputTensor& add_input(ModelInferRequest& message, const std::string& name,
                                               const std::string& datatype, const std::vector<std::int64_t>& shape) {
  auto& input = *message.add_inputs();
  input.set_name(name);
  input.set_datatype(datatype);
  input.mutable_shape()->Assign(shape.begin(), shape.end());
  return input;
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string refusal(ModelInferRequest message, Code code = Code::kInvalidArgument) {
  return error_of(code, [&] { read_request(std::move(message)); });
}

// ---- requests -------------------------------------------------------------------------------------------------------

TEST(GrpcRequest, KeepsNamesParametersAndOutputs) {
  ModelInferRequest message;
  message.set_model_name("cars");
  message.set_model_version("3");
  message.set_id("abc");
  auto& parameters = *message.mutable_parameters();
  parameters["yes"].set_bool_param(true);
  parameters["whole"].set_int64_param(-4);
  parameters["text"].set_string_param("a b");
  parameters["half"].set_double_param(0.5);
  parameters["large"].set_uint64_param(1ull << 63);
  add_input(message, "x", "INT8", {2});
  (*message.mutable_inputs(0)->mutable_parameters())["k"].set_int64_param(1);
  message.add_raw_input_contents("ab");
  auto& output = *message.add_outputs();
  output.set_name("label");
  (*output.mutable_parameters())["classification"].set_int64_param(5);
  const InferenceRequest request = read_request(std::move(message));
  EXPECT_EQ(request.model + "|" + request.version + "|" + request.id, "cars|3|abc");
  EXPECT_EQ(request.parameters,
            nlohmann::json({{"yes", true}, {"whole", -4}, {"text", "a b"}, {"half", 0.5}, {"large", 1ull << 63}}));
  ASSERT_EQ(request.inputs.size(), 1u);
  EXPECT_EQ(request.inputs[0].name, "x");
  EXPECT_EQ(request.inputs[0].bytes, "ab");
  EXPECT_EQ(request.inputs[0].parameters, nlohmann::json({{"k", 1}}));
  ASSERT_EQ(request.outputs.size(), 1u);
  EXPECT_EQ(request.outputs[0].name, "label");
  EXPECT_EQ(request.outputs[0].parameters, nlohmann::json({{"classification", 5}}));
}

TEST(GrpcRequest, TypedInputsHaveTheBytesOfRawOnes) {
  ModelInferRequest message;
  const auto typed = [&](const std::string& datatype) -> inference::InferTensorContents& {
    return *add_input(message, datatype, datatype, {2}).mutable_contents();
  };
  auto& flags = typed("BOOL");
  flags.add_bool_contents(true);
  flags.add_bool_contents(false);
  const auto ints = [&](auto& list) { list.Add(7), list.Add(100); };
  ints(*typed("INT8").mutable_int_contents());
  ints(*typed("INT16").mutable_int_contents());
  ints(*typed("INT32").mutable_int_contents());
  ints(*typed("INT64").mutable_int64_contents());
  ints(*typed("UINT8").mutable_uint_contents());
  ints(*typed("UINT16").mutable_uint_contents());
  ints(*typed("UINT32").mutable_uint_contents());
  ints(*typed("UINT64").mutable_uint64_contents());
  ints(*typed("FP32").mutable_fp32_contents());
  ints(*typed("FP64").mutable_fp64_contents());
  auto& texts = typed("BYTES");
  texts.add_bytes_contents("");
  texts.add_bytes_contents(std::string("\0\xff", 2));
  const InferenceRequest request = read_request(std::move(message));
  std::map<std::string, std::string> bytes;
  for (const WireTensor& input : request.inputs) bytes[input.datatype] = input.bytes;
  EXPECT_EQ(bytes.at("BOOL"), std::string("\1\0", 2));
  EXPECT_EQ(bytes.at("INT8"), bytes_of<std::int8_t>({7, 100}));
  EXPECT_EQ(bytes.at("INT16"), bytes_of<std::int16_t>({7, 100}));
  EXPECT_EQ(bytes.at("INT32"), bytes_of<std::int32_t>({7, 100}));
  EXPECT_EQ(bytes.at("INT64"), bytes_of<std::int64_t>({7, 100}));
  EXPECT_EQ(bytes.at("UINT8"), bytes_of<std::uint8_t>({7, 100}));
  EXPECT_EQ(bytes.at("UINT16"), bytes_of<std::uint16_t>({7, 100}));
  EXPECT_EQ(bytes.at("UINT32"), bytes_of<std::uint32_t>({7, 100}));
  EXPECT_EQ(bytes.at("UINT64"), bytes_of<std::uint64_t>({7, 100}));
  EXPECT_EQ(bytes.at("FP32"), bytes_of<float>({7, 100}));
  EXPECT_EQ(bytes.at("FP64"), bytes_of<double>({7, 100}));
  EXPECT_EQ(bytes.at("BYTES"), std::string("\0\0\0\0\2\0\0\0\0\xff", 10));
}

TEST(GrpcRequest, RawAndTypedMayNotMeet) {
  ModelInferRequest both;
  add_input(both, "x", "FP32", {1}).mutable_contents()->add_fp32_contents(1);
  both.add_raw_input_contents(bytes_of<float>({1}));
  EXPECT_THAT(refusal(both), AllOf(HasSubstr("inputs[0].contents"), HasSubstr("raw or none")));
  ModelInferRequest some;
  add_input(some, "x", "FP32", {1});
  add_input(some, "y", "FP32", {1});
  some.add_raw_input_contents(bytes_of<float>({1}));
  EXPECT_THAT(refusal(some), HasSubstr("1 of them for 2 inputs"));
  some.add_raw_input_contents(bytes_of<float>({1}));
  some.add_raw_input_contents(bytes_of<float>({1}));
  EXPECT_THAT(refusal(some), HasSubstr("3 of them for 2 inputs"));
}

TEST(GrpcRequest, CountsAreCheckedAgainstShapes) {
  ModelInferRequest raw;
  add_input(raw, "x", "FP32", {2, 3});
  raw.add_raw_input_contents(std::string(20, '\0'));
  EXPECT_THAT(refusal(raw), AllOf(HasSubstr("inputs[0]"), HasSubstr("20 bytes"), HasSubstr("24")));
  ModelInferRequest typed;
  typed = raw;
  typed.clear_raw_input_contents();
  typed.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  EXPECT_THAT(refusal(typed), AllOf(HasSubstr("fp32_contents"), HasSubstr("1 elements"), HasSubstr("6")));
  typed.mutable_inputs(0)->clear_contents();
  EXPECT_THAT(refusal(typed), HasSubstr("0 elements"));
  typed.mutable_inputs(0)->set_shape(0, -1);
  EXPECT_THAT(refusal(typed), HasSubstr("negative"));
  typed.mutable_inputs(0)->set_shape(0, std::int64_t{1} << 62);
  EXPECT_THAT(refusal(typed), HasSubstr("2^53"));
  ModelInferRequest texts;
  add_input(texts, "t", "BYTES", {2});
  texts.add_raw_input_contents(std::string("\4\0\0\0ab", 6));
  EXPECT_THAT(refusal(texts), HasSubstr("inputs[0]"));
}

TEST(GrpcRequest, ElementsBelongInTheListOfTheirDatatype) {
  ModelInferRequest message;
  add_input(message, "x", "INT64", {1}).mutable_contents()->add_int_contents(1);
  EXPECT_THAT(refusal(message), AllOf(HasSubstr("has int_contents"), HasSubstr("int64_contents")));
  message.mutable_inputs(0)->set_datatype("FP16");
  EXPECT_THAT(refusal(message), HasSubstr("raw_input_contents"));
  message.mutable_inputs(0)->set_datatype("FP23");
  EXPECT_THAT(refusal(message), HasSubstr("did you mean"));
  message.mutable_inputs(0)->set_datatype("INT8");
  message.mutable_inputs(0)->mutable_contents()->set_int_contents(0, 128);
  EXPECT_THAT(refusal(message), AllOf(HasSubstr("int_contents[0]"), HasSubstr("128")));
  message.mutable_inputs(0)->set_datatype("UINT8");
  message.mutable_inputs(0)->clear_contents();
  message.mutable_inputs(0)->mutable_contents()->add_uint_contents(256);
  EXPECT_THAT(refusal(message), HasSubstr("256"));
}

TEST(GrpcRequest, KeepsToTheLimitsOfAllTransports) {
  ModelInferRequest message;
  for (int i = 0; i < 65; ++i) add_input(message, "x" + std::to_string(i), "INT8", {0});
  EXPECT_THAT(refusal(message, Code::kExhausted), HasSubstr("65"));
  ModelInferRequest twice;
  for (int i = 0; i < 2; ++i) add_input(twice, "x", "INT8", {0});
  EXPECT_THAT(refusal(twice), HasSubstr("twice"));
  ModelInferRequest empty;
  add_input(empty, "x", "INT8", {0});
  (*empty.mutable_parameters())["k"];
  EXPECT_THAT(refusal(empty), AllOf(HasSubstr("parameters.k"), HasSubstr("null")));
}

// ---- what messages unpack to ----------------------------------------------------------------------------------------

template <class Message>
std::string refusal_of(std::string_view bytes, Code code, std::int64_t most_bytes = 1 << 20) {
  Message message;
  return error_of(code, [&] { parse_message(bytes, message, most_bytes); });
}

TEST(GrpcParse, TakesWhatALibraryWrites) {
  ModelInferRequest message;
  message.set_model_name("cars");
  add_input(message, "x", "FP32", {2, 2}).mutable_contents()->mutable_fp32_contents()->Add(1.5f);
  message.mutable_inputs(0)->mutable_contents()->add_bool_contents(true);
  message.mutable_inputs(0)->mutable_contents()->add_int64_contents(-1);
  message.mutable_inputs(0)->mutable_contents()->add_bytes_contents("ab");
  (*message.mutable_parameters())["k"].set_double_param(2);
  message.add_raw_input_contents("xyz");
  ModelInferRequest again;
  parse_message(message.SerializeAsString(), again, 1 << 20);
  EXPECT_EQ(again.SerializeAsString(), message.SerializeAsString());
}

TEST(GrpcParse, RefusesFewBytesThatUnpackToMany) {
  std::string tensors;  // 4 MiB of empty tensors, which would take half a gigabyte
  for (int i = 0; i < (2 << 20); ++i) tensors += std::string("\x2a\0", 2);
  EXPECT_THAT(refusal_of<ModelInferRequest>(tensors, Code::kExhausted), HasSubstr("unpacks to more"));
  std::string numbers("\x12\x80\x80\x80\x08", 5);  // int64 of a byte each: eight times as much
  numbers[0] = 0x1a;
  const std::string list = numbers + std::string(16 << 20, '\1');
  const auto wrap = [](char field, const std::string& body) {
    std::string length;
    for (std::size_t left = body.size();; left >>= 7) {
      length += static_cast<char>((left & 127) | (left > 127 ? 128 : 0));
      if (left <= 127) break;
    }
    return field + length + body;
  };
  EXPECT_THAT(refusal_of<ModelInferRequest>(wrap(0x2a, wrap(0x2a, list)), Code::kExhausted, 32 << 20),
              HasSubstr("unpacks to more"));
  std::string groups;  // of unknown fields, each in the one before
  for (int i = 0; i < 1000; ++i) groups += "\x7b";
  for (int i = 0; i < 1000; ++i) groups += "\x7c";
  refusal_of<ModelInferRequest>(groups, Code::kInvalidArgument);
}

TEST(GrpcParse, RefusesWhatIsNoMessage) {
  ModelInferRequest message;
  add_input(message, "x", "FP32", {2, 2});
  message.add_raw_input_contents("some bytes");
  const std::string whole = message.SerializeAsString();
  int refused = 0;
  for (std::size_t length = 0; length < whole.size(); ++length) {
    ModelInferRequest cut;
    try {
      parse_message(std::string_view(whole).substr(0, length), cut, 1 << 20);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument) << error.what();
      ++refused;
    }
  }
  EXPECT_EQ(refused, static_cast<int>(whole.size()) - 2) << "of all beginnings only those between fields are messages";
  EXPECT_THAT(refusal_of<ModelInferRequest>("\x0a\x02\xc3\x28", Code::kInvalidArgument), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal_of<ModelInferRequest>("{\"inputs\": []}", Code::kInvalidArgument),
              HasSubstr("ModelInferRequest"));
  refusal_of<ModelInferRequest>(std::string("\0\0\0\0", 4), Code::kInvalidArgument);
}

// ---- answers --------------------------------------------------------------------------------------------------------

InferenceResponse answer_of(const std::string& datatype, const std::string& bytes) {
  return {.model = "cars",
          .version = "2",
          .id = "i",
          .parameters = {{"k", 3}},
          .outputs = {{.name = "y", .datatype = datatype, .shape = {2}, .bytes = bytes, .parameters = {{"p", true}}}}};
}

TEST(GrpcAnswer, IsRawWhereTheRequestWas) {
  ModelInferRequest request;
  EXPECT_TRUE(wants_raw_answer(request));
  add_input(request, "x", "INT8", {1});
  EXPECT_FALSE(wants_raw_answer(request));
  request.add_raw_input_contents("a");
  EXPECT_TRUE(wants_raw_answer(request));
  const auto raw = write_response(answer_of("INT8", "ab"), true);
  EXPECT_EQ(raw.model_name() + "|" + raw.model_version() + "|" + raw.id(), "cars|2|i");
  EXPECT_EQ(raw.parameters().at("k").int64_param(), 3);
  EXPECT_TRUE(raw.outputs(0).parameters().at("p").bool_param());
  EXPECT_EQ(raw.outputs(0).name() + raw.outputs(0).datatype(), "yINT8");
  EXPECT_THAT(raw.outputs(0).shape(), ElementsAre(2));
  EXPECT_FALSE(raw.outputs(0).has_contents());
  EXPECT_THAT(raw.raw_output_contents(), ElementsAre("ab"));
}

TEST(GrpcAnswer, TypedAnswersReadBackAsRequestsDo) {
  const std::map<std::string, std::string> tensors = {
      {"BOOL", std::string("\0\1", 2)},
      {"INT8", bytes_of<std::int8_t>({-128, 127})},
      {"INT16", bytes_of<std::int16_t>({-32768, 32767})},
      {"INT32", bytes_of<std::int32_t>({-1, 1 << 30})},
      {"INT64", bytes_of<std::int64_t>({-1, std::int64_t{1} << 62})},
      {"UINT8", bytes_of<std::uint8_t>({0, 255})},
      {"UINT16", bytes_of<std::uint16_t>({0, 65535})},
      {"UINT32", bytes_of<std::uint32_t>({0, ~0u})},
      {"UINT64", bytes_of<std::uint64_t>({0, ~0ull})},
      {"FP32", bytes_of<float>({-0.0f, -3.4028235e38f})},
      {"FP64", bytes_of<double>({-0.0, 1e308})},
      {"BYTES", std::string("\1\0\0\0a\0\0\0\0", 9)},
  };
  for (const auto& [datatype, bytes] : tensors) {
    const auto message = write_response(answer_of(datatype, bytes), false);
    EXPECT_EQ(message.raw_output_contents_size(), 0) << datatype;
    ModelInferRequest request;
    *add_input(request, "y", datatype, {2}).mutable_contents() = message.outputs(0).contents();
    EXPECT_EQ(read_request(std::move(request)).inputs.at(0).bytes, bytes) << datatype;
  }
}

TEST(GrpcAnswer, IsRawAsAWholeWhereOneOutputHasNoTypedForm) {
  InferenceResponse answer = answer_of("FP16", "abcd");
  answer.outputs.push_back({.name = "z", .datatype = "INT8", .shape = {1}, .bytes = "e"});
  const auto message = write_response(std::move(answer), false);
  EXPECT_THAT(message.raw_output_contents(), ElementsAre("abcd", "e"));
  EXPECT_FALSE(message.outputs(1).has_contents());
}

// ---- messages from JSON ---------------------------------------------------------------------------------------------

/// Gives every field of a message a value of its own, as JSON, so that none can arrive in another's place.
nlohmann::json json_for(const google::protobuf::Descriptor& type, int& next) {
  using google::protobuf::FieldDescriptor;
  nlohmann::json object = nlohmann::json::object();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const auto value = [&]() -> nlohmann::json {
      switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
          return json_for(*field.message_type(), next);
        case FieldDescriptor::CPPTYPE_STRING:
          return "text " + std::to_string(++next);
        case FieldDescriptor::CPPTYPE_BOOL:
          return true;
        case FieldDescriptor::CPPTYPE_UINT64:
          return (1ull << 60) + static_cast<unsigned>(++next);
        default:
          return ++next;
      }
    };
    object[field.name()] = field.is_repeated() ? nlohmann::json::array({value(), value()}) : value();
  }
  return object;
}

void expect_equal(const nlohmann::json& json, const google::protobuf::Message& message) {
  using google::protobuf::FieldDescriptor;
  const auto& reflection = *message.GetReflection();
  for (const auto& [name, value] : json.items()) {
    const FieldDescriptor& field = *message.GetDescriptor()->FindFieldByName(name);
    for (std::size_t i = 0; i < (field.is_repeated() ? value.size() : 1); ++i) {
      const int at = static_cast<int>(i);
      const nlohmann::json& wanted = field.is_repeated() ? value[i] : value;
      if (field.is_repeated()) {
        ASSERT_EQ(reflection.FieldSize(message, &field), static_cast<int>(value.size())) << name;
      }
      switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
          expect_equal(wanted, field.is_repeated() ? reflection.GetRepeatedMessage(message, &field, at)
                                                   : reflection.GetMessage(message, &field));
          break;
        case FieldDescriptor::CPPTYPE_STRING:
          EXPECT_EQ(wanted, field.is_repeated() ? reflection.GetRepeatedString(message, &field, at)
                                                : reflection.GetString(message, &field));
          break;
        case FieldDescriptor::CPPTYPE_BOOL:
          EXPECT_EQ(wanted, reflection.GetBool(message, &field));
          break;
        case FieldDescriptor::CPPTYPE_INT64:
          EXPECT_EQ(wanted, field.is_repeated() ? reflection.GetRepeatedInt64(message, &field, at)
                                                : reflection.GetInt64(message, &field));
          break;
        case FieldDescriptor::CPPTYPE_UINT64:
          EXPECT_EQ(wanted, reflection.GetUInt64(message, &field));
          break;
        default:
          ADD_FAILURE() << name << ": a type that no message of the protocol had";
      }
    }
  }
}

template <class Message>
void expect_every_field_arrives() {
  int next = 0;
  nlohmann::json json = json_for(*Message::descriptor(), next);
  EXPECT_GT(next, 0);
  Message message;
  fill_message(json, message);
  expect_equal(json, message);
  json["a field of the HTTP form alone"] = {{"labels", {"cat", "dog"}}};
  fill_message(json, message);
}

TEST(GrpcFill, EveryFieldArrives) {
  expect_every_field_arrives<inference::ServerMetadataResponse>();
  expect_every_field_arrives<inference::ModelMetadataResponse>();
  expect_every_field_arrives<inference::ModelStatisticsResponse>();
  expect_every_field_arrives<inference::RepositoryIndexResponse>();
}

TEST(GrpcFill, TellsWhatDoesNotFit) {
  inference::ServerMetadataResponse message;
  EXPECT_THAT(error_of(Code::kInternal,
                       [&] {
                         fill_message({{"extensions", 5}}, message);
                       }),
              HasSubstr("ServerMetadataResponse"));
  fill_message({{"name", "caf\xc3"}}, message);  // cut in the middle of a character
  EXPECT_EQ(message.name(), "caf\xef\xbf\xbd");
}

// ---- tables ---------------------------------------------------------------------------------------------------------

TEST(GrpcTables, EveryMethodOfTheServiceIsServed) {
  std::set<std::string> served;
  for (const GrpcMethod& method : grpc_methods()) {
    EXPECT_TRUE(served.insert(std::string(method.path)).second) << method.path;
    const bool inference = method.kind == GrpcKind::kInfer || method.kind == GrpcKind::kStream;
    EXPECT_EQ(method.answer == nullptr, inference) << method.path;
  }
  const auto& service = *ModelInferRequest::descriptor()->file()->service(0);
  EXPECT_EQ(service.full_name(), "inference.GRPCInferenceService");
  for (int i = 0; i < service.method_count(); ++i) {
    EXPECT_EQ(served.erase("/" + service.full_name() + "/" + service.method(i)->name()), 1u)
        << service.method(i)->name();
  }
  EXPECT_THAT(served, ElementsAre("/grpc.health.v1.Health/Check"));
}

TEST(GrpcTables, EveryCodeHasAStatusOfItsKind) {
  const std::map<int, std::set<grpc::StatusCode>> fitting = {
      {400, {grpc::StatusCode::INVALID_ARGUMENT}}, {404, {grpc::StatusCode::NOT_FOUND}},
      {409, {grpc::StatusCode::ALREADY_EXISTS}},   {413, {grpc::StatusCode::RESOURCE_EXHAUSTED}},
      {415, {grpc::StatusCode::UNIMPLEMENTED}},    {499, {grpc::StatusCode::CANCELLED}},
      {503, {grpc::StatusCode::UNAVAILABLE}},      {500, {grpc::StatusCode::INTERNAL, grpc::StatusCode::DATA_LOSS}},
  };
  for (const ErrorEntry& entry : error_table()) {
    ASSERT_TRUE(fitting.contains(entry.http_status)) << entry.name;
    EXPECT_TRUE(fitting.at(entry.http_status).contains(grpc_status(entry.code))) << entry.name;
  }
}

// ---- the protocol as others have it ---------------------------------------------------------------------------------

using google::protobuf::DescriptorProto;
using google::protobuf::FieldDescriptorProto;
using google::protobuf::FileDescriptorProto;

std::string field_text(const FieldDescriptorProto& field) {
  return fmt::format("{} = {}, type {} {}, label {}", field.name(), field.number(), static_cast<int>(field.type()),
                     field.type_name(), static_cast<int>(field.label()));
}

void add_fields(const DescriptorProto& message, const std::string& prefix, std::map<std::string, std::string>& fields) {
  const std::string name = prefix + message.name();
  fields[name] = "message";
  for (const auto& field : message.field()) fields[name + "." + std::to_string(field.number())] = field_text(field);
  for (const auto& nested : message.nested_type()) add_fields(nested, name + ".", fields);
}

std::map<std::string, std::string> fields_of(const FileDescriptorProto& file) {
  std::map<std::string, std::string> fields;
  for (const auto& message : file.message_type()) add_fields(message, "", fields);
  for (const auto& service : file.service()) {
    for (const auto& method : service.method()) {
      fields[service.name() + "/" + method.name()] =
          fmt::format("{} -> {}, streams {} {}", method.input_type(), method.output_type(), method.client_streaming(),
                      method.server_streaming());
    }
  }
  return fields;
}

FileDescriptorProto theirs(const std::string& module) {
  const TemporaryFolder folder;
  const std::string file = (folder / "descriptor").string();
  expect_client_passes("clients/protocol_of_client.py", {module, file});
  std::ifstream in(file, std::ios::binary);
  FileDescriptorProto descriptor;
  EXPECT_TRUE(descriptor.ParseFromIstream(&in));
  return descriptor;
}

FileDescriptorProto ours() {
  FileDescriptorProto descriptor;
  ModelInferRequest::descriptor()->file()->CopyTo(&descriptor);
  return descriptor;
}

/// Differences in what both have; `allowed`: beginnings of names.
std::vector<std::string> differences(const FileDescriptorProto& other, const std::set<std::string>& allowed) {
  const auto mine = fields_of(ours()), its = fields_of(other);
  std::vector<std::string> found;
  const auto differ = [&](const std::string& key, const std::string& text) {
    const bool known = std::ranges::any_of(allowed, [&](const std::string& start) { return key.starts_with(start); });
    if (!known) found.push_back(key + ": " + text);
  };
  for (const auto& [key, text] : mine) {
    const std::string message = key.substr(0, key.rfind('.'));
    const auto same = its.find(key);
    if (same != its.end() && same->second != text) differ(key, text + " here, there " + same->second);
    if (same == its.end() && its.contains(message)) differ(key, text + " here, not there");
  }
  for (const auto& [key, text] : its) {
    if (!mine.contains(key) && mine.contains(key.substr(0, key.rfind('.')))) differ(key, text + " there, not here");
  }
  return found;
}

TEST(GrpcProtocol, IsTheOneOfTritonsClient) {
  RECAST_NEED_CLIENTS();
  const FileDescriptorProto triton = theirs("tritonclient.grpc.service_pb2");
  EXPECT_EQ(triton.package(), ours().package());
  EXPECT_THAT(differences(triton, {"RepositoryModelLoadResponse.", "RepositoryModelUnloadResponse.",
                                   "ModelStatistics.9", "ModelStatistics.ResponseStatsEntry"}),
              testing::IsEmpty());
  const auto its = fields_of(triton);
  for (const auto& [key, text] : fields_of(ours()))
    EXPECT_TRUE(its.contains(key) || key.starts_with("RepositoryModel")) << key;
}

TEST(GrpcProtocol, IsTheOneOfKServesClient) {
  RECAST_NEED_CLIENTS();
  const FileDescriptorProto kserve = theirs("kserve.protocol.grpc.grpc_predict_v2_pb2");
  EXPECT_EQ(kserve.package(), ours().package());
  EXPECT_THAT(differences(kserve, {"RepositoryModelLoadRequest", "RepositoryModelUnloadRequest", "InferParameter.4",
                                   "InferParameter.5"}),
              testing::IsEmpty());
}

}  // namespace
}  // namespace recast
