#include "recast/serve/inference.h"

#include "format/expect_error.h"

namespace recast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string elements(std::initializer_list<std::string_view> texts) {
  std::string bytes;
  for (const std::string_view text : texts) append_bytes(bytes, text);
  return bytes;
}

InferenceRequest request_of(WireTensor input) {
  InferenceRequest request;
  request.inputs.push_back(std::move(input));
  return request;
}

WireTensor four_bytes(const std::string& name = "x") {
  return {.name = name, .datatype = "UINT8", .shape = {2, 2}, .bytes = "abcd"};
}

TEST(Datatypes, HaveTheSizesOfTheProtocol) {
  for (const auto& [name, bytes] : std::map<std::string, int>{{"BOOL", 1},
                                                              {"UINT8", 1},
                                                              {"UINT16", 2},
                                                              {"UINT32", 4},
                                                              {"UINT64", 8},
                                                              {"INT8", 1},
                                                              {"INT16", 2},
                                                              {"INT32", 4},
                                                              {"INT64", 8},
                                                              {"FP16", 2},
                                                              {"FP32", 4},
                                                              {"FP64", 8},
                                                              {"BF16", 2},
                                                              {"BYTES", 0}}) {
    EXPECT_TRUE(known_datatype(name)) << name;
    EXPECT_EQ(datatype_bytes(name), bytes) << name;
  }
  for (const char* name : {"", "fp32", "FLOAT", "TYPE_FP32", "STRING"}) {
    EXPECT_FALSE(known_datatype(name)) << name;
    EXPECT_EQ(datatype_bytes(name), 0) << name;
  }
}

TEST(Datatypes, ThatAreNotThereAreRefusedWithTheNearest) {
  const std::string said = error_of(Code::kInvalidArgument, [] { check_datatype("FP31", "inputs[2].datatype"); });
  EXPECT_THAT(said, HasSubstr("inputs[2].datatype: there is no datatype 'FP31', did you mean 'FP32'"));
}

TEST(ElementCount, MultipliesTheDimensions) {
  EXPECT_EQ(element_count({}, "s"), 1);
  EXPECT_EQ(element_count({7}, "s"), 7);
  EXPECT_EQ(element_count({2, 3, 4}, "s"), 24);
  EXPECT_EQ(element_count({2, 0, 4}, "s"), 0);
  EXPECT_EQ(element_count({std::int64_t{1} << 53}, "s"), std::int64_t{1} << 53);
}

TEST(ElementCount, RefusesWhatOverflows) {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const std::vector<std::vector<std::int64_t>> shapes{{most},
                                                      {2, std::int64_t{1} << 53},
                                                      {4194305, 4194305, 211106198978564},  // wraps to 4 in 64 bits
                                                      {std::int64_t{1} << 62, 4},
                                                      {0, std::int64_t{1} << 62},  // hidden behind a zero
                                                      {most, 0}};
  for (const auto& shape : shapes) {
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { element_count(shape, "inputs[0].shape"); }),
                HasSubstr("inputs[0].shape: its dimensions multiply to more than 2^53"));
  }
  EXPECT_THAT(error_of(Code::kInvalidArgument,
                       [] {
                         element_count({3, -1}, "inputs[0].shape");
                       }),
              HasSubstr("the dimension -1 is negative"));
}

TEST(SplitBytes, GivesBackWhatAppendBytesPutThere) {
  const std::string nul("a\0b", 3), bytes = elements({"", nul, "xyz"});
  EXPECT_THAT(split_bytes(bytes, 3, "t"), ElementsAre("", nul, "xyz"));
  EXPECT_THAT(split_bytes("", 0, "t"), ElementsAre());
}

TEST(SplitBytes, RefusesLengthsThatLeadPastTheEnd) {
  using namespace std::literals;
  const auto said = [](std::string_view bytes, std::int64_t count) {
    return error_of(Code::kInvalidArgument, [&] { split_bytes(bytes, count, "inputs[0]"); });
  };
  EXPECT_THAT(said("\x05\0\0\0abc"sv, 1), HasSubstr("inputs[0]: element 0 claims 5 bytes, 3 are left"));
  EXPECT_THAT(said("\xff\xff\xff\xff"sv, 1), HasSubstr("claims 4294967295 bytes, 0 are left"));
  EXPECT_THAT(said("\x03\0\0\0abc\0"sv, 1), HasSubstr("1 bytes are left over after 1 elements"));
  EXPECT_THAT(said("\x02\0\0\0ab\0\0"sv, 2), HasSubstr("ends after 1 of 2 elements"));
  EXPECT_THAT(said("\0\0\0"sv, 1), HasSubstr("cannot hold 1 elements"));
  EXPECT_THAT(said("", std::int64_t{1} << 53), HasSubstr("0 bytes cannot hold 9007199254740992 elements"));
  EXPECT_THAT(said("\0\0\0\0"sv, -1), HasSubstr("cannot hold -1 elements"));
}

TEST(CheckTensor, WantsAsManyBytesAsShapeAndDatatypeSay) {
  EXPECT_NO_THROW(check_tensor(four_bytes(), "t"));
  EXPECT_NO_THROW(check_tensor({.name = "x", .datatype = "FP16", .shape = {2}, .bytes = "abcd"}, "t"));
  EXPECT_NO_THROW(check_tensor({.name = "x", .datatype = "FP64", .shape = {0, 3}, .bytes = ""}, "t"));
  EXPECT_NO_THROW(check_tensor({.name = "x", .datatype = "BYTES", .shape = {2, 1}, .bytes = elements({"a", ""})}, "t"));
  EXPECT_THAT(
      error_of(Code::kInvalidArgument,
               [] { check_tensor({.name = "x", .datatype = "FP32", .shape = {2}, .bytes = "abcd"}, "inputs[0]"); }),
      HasSubstr("inputs[0]: holds 4 bytes; its shape and FP32 make 8"));
  EXPECT_THAT(error_of(Code::kInvalidArgument,
                       [] { check_tensor({.name = "x", .datatype = "BOOL", .shape = {2}, .bytes = "\x01\x02"}, "t"); }),
              HasSubstr("element 1 of a BOOL tensor is 2; expected 0 or 1"));
}

TEST(CheckRequest, RefusesNamesThatAreNoVisibleText) {
  using namespace std::literals;
  for (const std::string& name : {"a\nb"s, "a\0b"s, "\xe2\x80\xae"s + "evil", "\xff"s, "a\x7f"s, "\xc2\x85"s}) {
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { check_request(request_of(four_bytes(name))); }),
                HasSubstr("inputs[0].name"));
    InferenceRequest request = request_of(four_bytes());
    request.id = name;
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { check_request(request); }), HasSubstr("] id: "));
    request.id.clear();
    request.parameters[name] = 1;
    if (name != "\xff") error_of(Code::kInvalidArgument, [&] { check_request(request); });
  }
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { check_request(request_of(four_bytes(""))); }),
              HasSubstr("is empty"));
  EXPECT_THAT(error_of(Code::kExhausted, [] { check_request(request_of(four_bytes(std::string(513, 'n')))); }),
              HasSubstr("513 bytes; at most 512"));
  EXPECT_NO_THROW(check_request(request_of(four_bytes("K\u00e4fer \u65e5\u672c"))));
}

TEST(CheckRequest, RefusesTheSameNameTwice) {
  InferenceRequest request = request_of(four_bytes());
  request.inputs.push_back(four_bytes());
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { check_request(request); }),
              HasSubstr("inputs[1].name: 'x' is given twice"));
  request.inputs.pop_back();
  request.outputs = {{.name = "y"}, {.name = "z"}, {.name = "y"}};
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { check_request(request); }),
              HasSubstr("outputs[2].name: 'y' is given twice"));
}

TEST(CheckRequest, KeepsToEveryLimit) {
  const auto said = [](const InferenceRequest& request, const RequestLimits& limits) {
    return error_of(Code::kExhausted, [&] { check_request(request, limits); });
  };
  InferenceRequest request = request_of(four_bytes());
  EXPECT_THAT(said(request, {.rows = 1}), HasSubstr("inputs[0].shape: asks for 2 rows; at most 1"));
  EXPECT_THAT(said(request, {.rank = 1}), HasSubstr("inputs[0].shape: has 2 dimensions; at most 1"));
  request.inputs.push_back(four_bytes("y"));
  EXPECT_THAT(said(request, {.tensors = 1}), HasSubstr("inputs: 2 of them; at most 1"));
  request.parameters = {{"a", 1}, {"b", "text"}};
  EXPECT_THAT(said(request, {.parameters = 1}), HasSubstr("parameters: 2 of them; at most 1"));
  EXPECT_THAT(said(request, {.parameter_bytes = 3}), HasSubstr("parameters.b: a text of 4 bytes; at most 3"));
  EXPECT_NO_THROW(check_request(request));
}

TEST(CheckRequest, TakesOnlyTextsNumbersAndBooleansAsParameters) {
  for (const nlohmann::json& value : {nlohmann::json(nullptr), nlohmann::json::array(), nlohmann::json::object()}) {
    InferenceRequest request = request_of(four_bytes());
    request.inputs[0].parameters["p"] = value;
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { check_request(request); }),
                HasSubstr("inputs[0].parameters.p: is"));
  }
}

TEST(CheckRequest, WantsAnInput) {
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { check_request({}); }), HasSubstr("inputs: there are none"));
}

}  // namespace
}  // namespace recast
