#include "recast/serve/infer_body.h"

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>

#include "base/sanitizer.h"
#include "format/expect_error.h"

namespace recast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// A request with one input "x" of this datatype, shape and data, all as JSON.
std::string body_of(const std::string& datatype, const std::string& shape, const std::string& data) {
  return R"({"inputs":[{"name":"x","datatype":")" + datatype + R"(","shape":)" + shape + R"(,"data":)" + data + "}]}";
}

WireTensor input_of(const std::string& body) { return parse_infer_body(body).inputs.at(0); }

template <class T>
std::vector<T> values_of(const WireTensor& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), values.size() * sizeof(T));
  return values;
}

template <class T>
std::vector<T> read(const std::string& datatype, const std::string& data, std::size_t count) {
  return values_of<T>(input_of(body_of(datatype, "[" + std::to_string(count) + "]", data)));
}

std::string refused(const std::string& body, std::optional<std::size_t> json_bytes = {},
                    Code code = Code::kInvalidArgument, const InferBodyLimits& limits = {}) {
  const std::string said = error_of(code, [&] { parse_infer_body(body, json_bytes, limits); });
  EXPECT_TRUE(said.starts_with("[infer] ")) << said;
  EXPECT_THAT(said, Not(HasSubstr("nlohmann")));
  EXPECT_THAT(said, Not(HasSubstr("json.exception")));
  EXPECT_LT(said.size(), 700u);
  return said;
}

std::string refused_data(const std::string& datatype, const std::string& shape, const std::string& data) {
  return refused(body_of(datatype, shape, data));
}

TEST(InferBody, KeepsAllThatTheProtocolCarries) {
  const InferenceRequest request = parse_infer_body(R"({
    "id": "r-1", "parameters": {"task": "cars", "top_k": 5, "sharp": true, "scale": 0.5},
    "inputs": [{"name": "image", "shape": [1, 2], "datatype": "FP32", "parameters": {"size": 3}, "data": [1, 2.5]},
               {"name": "task", "shape": [1], "datatype": "BYTES", "data": ["K\u00e4fer"]}],
    "outputs": [{"name": "logits"}, {"name": "label", "parameters": {"classification": 3, "binary_data": true}}]})");
  EXPECT_EQ(request.id, "r-1");
  EXPECT_THAT(request.model, IsEmpty());
  EXPECT_EQ(request.parameters, nlohmann::json::parse(R"({"task":"cars","top_k":5,"sharp":true,"scale":0.5})"));
  ASSERT_EQ(request.inputs.size(), 2u);
  EXPECT_EQ(request.inputs[0].name, "image");
  EXPECT_EQ(request.inputs[0].datatype, "FP32");
  EXPECT_THAT(request.inputs[0].shape, ElementsAre(1, 2));
  EXPECT_EQ(request.inputs[0].parameters, nlohmann::json::parse(R"({"size":3})"));
  EXPECT_THAT(values_of<float>(request.inputs[0]), ElementsAre(1.0f, 2.5f));
  EXPECT_THAT(split_bytes(request.inputs[1].bytes, 1, "t"), ElementsAre("K\u00e4fer"));
  ASSERT_EQ(request.outputs.size(), 2u);
  EXPECT_FALSE(request.outputs[0].binary);
  EXPECT_TRUE(request.outputs[1].binary);
  EXPECT_EQ(request.outputs[1].parameters, nlohmann::json::parse(R"({"classification":3})"));
}

TEST(InferBody, TakesNullForNothingAsSomeClientsWriteIt) {
  const InferenceRequest request = parse_infer_body(R"({"id":null,"parameters":null,"outputs":null,"model_name":"cars",
    "model_version":"2","inputs":[{"name":"x","shape":[0],"datatype":"INT8","parameters":null,"data":[]}]})");
  EXPECT_THAT(request.id, IsEmpty());
  EXPECT_THAT(request.parameters, IsEmpty());
  EXPECT_THAT(request.outputs, IsEmpty());
  EXPECT_EQ(request.model, "cars");
  EXPECT_EQ(request.version, "2");
}

TEST(InferBody, MakesLittleEndianBytesOfEveryDatatype) {
  EXPECT_THAT(read<std::uint8_t>("BOOL", "[true,false]", 2), ElementsAre(1, 0));
  EXPECT_THAT(read<std::uint8_t>("UINT8", "[0,255]", 2), ElementsAre(0, 255));
  EXPECT_THAT(read<std::uint16_t>("UINT16", "[0,65535]", 2), ElementsAre(0, 65535));
  EXPECT_THAT(read<std::uint32_t>("UINT32", "[4294967295]", 1), ElementsAre(4294967295u));
  EXPECT_THAT(read<std::uint64_t>("UINT64", "[18446744073709551615]", 1), ElementsAre(~std::uint64_t{0}));
  EXPECT_THAT(read<std::int8_t>("INT8", "[-128,127]", 2), ElementsAre(-128, 127));
  EXPECT_THAT(read<std::int16_t>("INT16", "[-32768,32767]", 2), ElementsAre(-32768, 32767));
  EXPECT_THAT(read<std::int32_t>("INT32", "[-2147483648,2147483647]", 2), ElementsAre(INT32_MIN, INT32_MAX));
  EXPECT_THAT(read<std::int64_t>("INT64", "[-9223372036854775808,9223372036854775807]", 2),
              ElementsAre(INT64_MIN, INT64_MAX));
  EXPECT_THAT(read<float>("FP32", "[1,-2.5,1e-3]", 3), ElementsAre(1.0f, -2.5f, 1e-3f));
  EXPECT_THAT(read<double>("FP64", "[1,-2.5,1e300]", 3), ElementsAre(1.0, -2.5, 1e300));
  EXPECT_EQ(input_of(body_of("UINT16", "[1]", "[258]")).bytes, "\x02\x01");
  EXPECT_EQ(input_of(body_of("BYTES", "[1]", R"(["a\u0000b"])")).bytes, std::string("\3\0\0\0a\0b", 7));
}

TEST(InferBody, KeepsTheSignOfZero) {
  for (const char* zero : {"[-0]", "[-0.0]", "[-0e5]"}) {
    EXPECT_TRUE(std::signbit(read<float>("FP32", zero, 1)[0])) << zero;
    EXPECT_TRUE(std::signbit(read<double>("FP64", zero, 1)[0])) << zero;
  }
  EXPECT_FALSE(std::signbit(read<float>("FP32", "[0]", 1)[0]));
  EXPECT_THAT(read<std::int8_t>("INT8", "[-0]", 1), ElementsAre(0));
  EXPECT_THAT(read<std::uint8_t>("UINT8", "[-0]", 1), ElementsAre(0));
}

TEST(InferBody, RoundsFloatsOnce) {
  // Just above half of the way between 1 and the next float; as a double it lies on the half, which rounds to even.
  EXPECT_EQ(read<float>("FP32", "[1.00000005960464477540000000000001]", 1)[0], std::nextafter(1.0f, 2.0f));
  EXPECT_EQ(read<float>("FP32", "[3.4028235e38]", 1)[0], std::numeric_limits<float>::max());
  EXPECT_EQ(read<float>("FP32", "[3.40282356e38]", 1)[0], std::numeric_limits<float>::max());
  EXPECT_EQ(read<float>("FP32", "[1e-45]", 1)[0], std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(read<float>("FP32", "[1e-60]", 1)[0], 0.0f);
  EXPECT_TRUE(std::signbit(read<float>("FP32", "[-1e-60]", 1)[0]));
  EXPECT_EQ(read<float>("FP32", "[18446744073709551616]", 1)[0], 18446744073709551616.0f);
}

TEST(InferBody, RefusesValuesBeyondTheirDatatype) {
  EXPECT_THAT(refused_data("INT8", "[4]", "[1,2,3,300]"),
              HasSubstr("inputs[0].data[3]: 300; expected a whole number from -128 to 127 (INT8)"));
  EXPECT_THAT(refused_data("UINT8", "[1]", "[-1]"), HasSubstr("inputs[0].data[0]: -1; expected a whole number from 0"));
  EXPECT_THAT(refused_data("UINT64", "[1]", "[18446744073709551616]"), HasSubstr("a whole number (UINT64)"));
  EXPECT_THAT(refused_data("INT64", "[1]", "[9223372036854775808]"), HasSubstr("9223372036854775808; expected"));
  EXPECT_THAT(refused_data("INT32", "[1]", "[1.0]"), HasSubstr("1.0; expected a whole number (INT32)"));
  EXPECT_THAT(refused_data("FP32", "[2]", "[1,1e39]"),
              HasSubstr("inputs[0].data[1]: 1e39; expected a number within the range of FP32"));
  EXPECT_THAT(refused_data("FP32", "[2]", "[1,1e999]"), HasSubstr("inputs[0].data[1]: not valid JSON"));
  EXPECT_THAT(refused_data("FP64", "[1]", "[-1e999]"), HasSubstr("inputs[0].data[0]: not valid JSON"));
}

TEST(InferBody, RefusesValuesOfAnotherKind) {
  EXPECT_THAT(refused_data("FP32", "[1]", "[\"1\"]"), HasSubstr("inputs[0].data[0]: the text '1'; expected a number"));
  EXPECT_THAT(refused_data("FP32", "[1]", "[true]"), HasSubstr("true; expected a number (FP32)"));
  EXPECT_THAT(refused_data("FP32", "[1]", "[null]"), HasSubstr("null; expected a number"));
  EXPECT_THAT(refused_data("FP32", "[1]", "[{}]"), HasSubstr("inputs[0].data[0]: an object"));
  EXPECT_THAT(refused_data("BOOL", "[1]", "[1]"), HasSubstr("1; expected true or false (BOOL)"));
  EXPECT_THAT(refused_data("BYTES", "[1]", "[1]"), HasSubstr("1; expected a text (BYTES)"));
  EXPECT_THAT(refused_data("FP32", "[1]", "1"), HasSubstr("inputs[0].data: is 1; expected a list"));
  EXPECT_THAT(refused_data("FP32", "[1]", "{}"), HasSubstr("inputs[0].data: is an object; expected a list"));
  for (const char* word : {"NaN", "Infinity", "-Infinity", "nan", "+1", ".5", "01", "0x1", "1."}) {
    EXPECT_THAT(refused_data("FP32", "[1]", std::string("[") + word + "]"), HasSubstr("not valid JSON")) << word;
  }
  for (const char* datatype : {"FP16", "BF16"}) {
    EXPECT_THAT(refused_data(datatype, "[1]", "[1]"),
                HasSubstr(std::string("inputs[0].data: JSON has no ") + datatype + "; send it as binary data"));
  }
  EXPECT_THAT(refused_data("FP33", "[1]", "[1]"), HasSubstr("no datatype 'FP33', did you mean 'FP32'"));
}

TEST(InferBody, TakesDataFlatOrNestedAsTheShapeIs) {
  const std::vector<float> six{1, 2, 3, 4, 5, 6};
  for (const char* data : {"[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]"}) {
    EXPECT_EQ(values_of<float>(input_of(body_of("FP32", "[2,3]", data))), six) << data;
  }
  EXPECT_EQ(values_of<float>(input_of(body_of("FP32", "[1,3,2]", "[[[1,2],[3,4],[5,6]]]"))), six);
  EXPECT_THAT(values_of<float>(input_of(body_of("FP32", "[]", "[7]"))), ElementsAre(7.0f));
  for (const auto& [shape, data] : std::vector<std::pair<const char*, const char*>>{
           {"[0]", "[]"}, {"[0,3]", "[]"}, {"[2,0]", "[]"}, {"[2,0]", "[[],[]]"}, {"[1,2,0]", "[[[],[]]]"}}) {
    EXPECT_THAT(input_of(body_of("FP32", shape, data)).bytes, IsEmpty()) << data;
  }
}

TEST(InferBody, RefusesFlatAndNestedMixed) {
  EXPECT_THAT(refused_data("FP32", "[2,2]", "[1,[2,3],4]"), HasSubstr("inputs[0].data[1]: a list among values"));
  EXPECT_THAT(refused_data("FP32", "[2,2]", "[[1,2],3,4]"), HasSubstr("inputs[0].data[1]: a value where lists"));
  EXPECT_THAT(refused_data("FP32", "[2,2]", "[[1,2],[3,[4]]]"), HasSubstr("inputs[0].data[1][1]: a list"));
  EXPECT_THAT(refused_data("FP32", "[2,3,1]", "[[1,2,3],[4,5,6]]"), HasSubstr("inputs[0].data[0][0]: a value"));
  EXPECT_THAT(refused_data("FP32", "[2]", "[[1,2]]"), HasSubstr("inputs[0].data[0]: a list"));
}

TEST(InferBody, RefusesAnotherCountThanTheShapeSays) {
  EXPECT_THAT(refused_data("FP32", "[2,3]", "[1,2,3,4,5]"), HasSubstr("inputs[0].data: holds 5 entries; expected 6"));
  EXPECT_THAT(refused_data("FP32", "[2,3]", "[1,2,3,4,5,6,7]"),
              HasSubstr("inputs[0].data[6]: one value more; expected 6"));
  EXPECT_THAT(refused_data("FP32", "[2,3]", "[[1,2,3]]"), HasSubstr("inputs[0].data: holds 1 entries; expected 2"));
  EXPECT_THAT(refused_data("FP32", "[2,3]", "[[1,2,3],[4,5]]"),
              HasSubstr("inputs[0].data[1]: holds 2 entries; expected 3"));
  EXPECT_THAT(refused_data("FP32", "[2,3]", "[[1,2,3],[4,5,6],[]]"), HasSubstr("inputs[0].data[2]: one list more"));
  EXPECT_THAT(refused_data("FP32", "[2,2]", "[[1,2,3]]"),
              HasSubstr("inputs[0].data[0][2]: one value more; expected 2"));
  EXPECT_THAT(refused_data("FP32", "[0]", "[1]"), HasSubstr("inputs[0].data[0]: one value more; expected 0"));
  EXPECT_THAT(refused_data("FP32", "[]", "[]"), HasSubstr("holds 0 entries; expected 1"));
}

TEST(InferBody, RefusesShapesThatThereCannotBe) {
  EXPECT_THAT(refused_data("FP32", "[-1]", "[1]"),
              HasSubstr("inputs[0].shape[0]: is -1; expected a whole number from 0"));
  EXPECT_THAT(refused_data("FP32", "[1,1.0]", "[1]"), HasSubstr("inputs[0].shape[1]: is 1.0"));
  EXPECT_THAT(refused_data("FP32", "[\"1\"]", "[1]"), HasSubstr("inputs[0].shape[0]: is '1'"));
  EXPECT_THAT(refused_data("FP32", "[[1]]", "[1]"), HasSubstr("inputs[0].shape[0]: is a list"));
  EXPECT_THAT(refused_data("FP32", "1", "[1]"), HasSubstr("inputs[0].shape: is 1; expected a list"));
  EXPECT_THAT(refused_data("FP32", "null", "[1]"), HasSubstr("inputs[0].shape: is missing"));
  EXPECT_THAT(refused_data("FP32", "[4611686018427387904]", "[1]"),
              HasSubstr("inputs[0].shape[0]: is 4611686018427387904"));
  EXPECT_THAT(refused_data("FP32", "[18446744073709551616]", "[1]"), HasSubstr("inputs[0].shape[0]"));
  EXPECT_THAT(refused_data("FP32", "[9007199254740992,2]", "[1]"), HasSubstr("more than 2^53"));
  EXPECT_THAT(refused_data("FP32", "[0,9007199254740992,9007199254740992]", "[]"), HasSubstr("more than 2^53"));
  EXPECT_THAT(refused(body_of("FP32", "[9007199254740992]", "[1]")), HasSubstr("holds 1 entries"));
  EXPECT_THAT(refused(body_of("INT8", "[1025,0]", "[]"), {}, Code::kExhausted),
              HasSubstr("asks for 1025 rows; at most 1024"));
  EXPECT_THAT(refused(body_of("INT8", "[1,1,1,1,1,1,1,1,1]", "[1]"), {}, Code::kExhausted), HasSubstr("at most 8"));
}

TEST(InferBody, ReadsDataAheadOfItsDatatypeAndShape) {
  const std::string body = R"({"inputs":[{"data":[[1,2],[3,4]],"name":"a","shape":[2,2],"datatype":"INT16"},
    {"name":"b","datatype":"BYTES","data":["aGk="],"shape":[1],"parameters":{"content_type":"base64"}},
    {"name":"c","shape":[1],"datatype":"FP32","data":[5]}],"id":"late"})";
  const InferenceRequest request = parse_infer_body(body);
  EXPECT_EQ(request.id, "late");
  EXPECT_THAT(values_of<std::int16_t>(request.inputs[0]), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(split_bytes(request.inputs[1].bytes, 1, "t"), ElementsAre("hi"));
  EXPECT_THAT(values_of<float>(request.inputs[2]), ElementsAre(5.0f));
  EXPECT_THAT(refused(R"({"inputs":[{"data":[1,300],"name":"a","shape":[2],"datatype":"INT8"}]})"),
              HasSubstr("inputs[0].data[1]: 300"));
  EXPECT_THAT(refused(R"({"inputs":[{"data":[1],"name":"a","datatype":"INT8"}]})"),
              HasSubstr("inputs[0].shape: is missing"));
  EXPECT_THAT(refused(R"({"inputs":[{"data":[1],"name":"a","shape":[1]}]})"),
              HasSubstr("inputs[0].datatype: is missing"));
  EXPECT_THAT(refused(R"({"inputs":[{"data":[{}],"name":"a","shape":[1]}]})"), HasSubstr("an object"));
}

TEST(InferBody, TakesBytesAsBase64WhereTheTensorSaysSo) {
  const auto body = [](const std::string& data) {
    return R"({"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{"content_type":"base64"},"data":[")" +
           data + R"("]}]})";
  };
  for (const auto& [text, bytes] :
       std::vector<std::pair<std::string, std::string>>{{"", ""},
                                                        {"Zg==", "f"},
                                                        {"Zm8=", "fo"},
                                                        {"Zm9v", "foo"},
                                                        {"Zm9vYg==", "foob"},
                                                        {"/+8A", std::string("\xff\xef\0", 3)}}) {
    const WireTensor tensor = input_of(body(text));
    EXPECT_THAT(split_bytes(tensor.bytes, 1, "t"), ElementsAre(bytes)) << text;
    EXPECT_THAT(tensor.parameters, IsEmpty());
  }
  for (const char* text : {"Z", "Zg", "Zg=", "Zg===", "=", "====", "Z===", "Zh==", "Zm9=", "Zm8=Zm8=", "Zg==Zg==",
                           "Zm9 ", "Zm9v\\n", "Zm_-", "Zm9\\u00e9"}) {
    EXPECT_THAT(refused(body(text)), HasSubstr("inputs[0]: element 0 of data is no base64")) << text;
  }
  EXPECT_THAT(
      refused(
          R"({"inputs":[{"name":"x","shape":[1],"datatype":"INT8","parameters":{"content_type":"base64"},"data":[1]}]})"),
      HasSubstr("content_type: base64 is for BYTES within the JSON"));
  // Other content types are the model's affair.
  EXPECT_EQ(
      input_of(
          R"({"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{"content_type":"str"},"data":["Zg=="]}]})")
          .parameters,
      nlohmann::json::parse(R"({"content_type":"str"})"));
}

/// JSON whose inputs have these shapes, datatypes and binary sizes, and bytes behind it.
struct BinaryBody {
  std::string json, behind;
  std::string refused() const { return recast::refused(json + behind, json.size()); }
  InferenceRequest parse() const { return parse_infer_body(json + behind, json.size()); }
};

std::string binary_input(const std::string& name, const std::string& datatype, const std::string& shape,
                         const std::string& size) {
  return R"({"name":")" + name + R"(","datatype":")" + datatype + R"(","shape":)" + shape +
         R"(,"parameters":{"binary_data_size":)" + size + "}}";
}
std::string inputs(const std::string& list) { return R"({"inputs":[)" + list + "]}"; }

TEST(BinaryInferBody, TakesTheBytesBehindTheJsonInOrder) {
  using namespace std::literals;
  const InferenceRequest request =
      BinaryBody{
          inputs(binary_input("a", "FP16", "[2]", "4") + R"(,{"name":"b","datatype":"INT8","shape":[1],"data":[7]},)" +
                 binary_input("c", "BYTES", "[2]", "11") + "," + binary_input("d", "BF16", "[0]", "0") + "," +
                 binary_input("e", "BOOL", "[2]", "2")),
          "abcd"
          "\1\0\0\0x\2\0\0\0yz"
          "\1\0"s}
          .parse();
  EXPECT_EQ(request.inputs[0].bytes, "abcd");
  EXPECT_EQ(request.inputs[1].bytes, "\7");
  EXPECT_THAT(split_bytes(request.inputs[2].bytes, 2, "t"), ElementsAre("x", "yz"));
  EXPECT_THAT(request.inputs[3].bytes, IsEmpty());
  EXPECT_EQ(request.inputs[4].bytes, "\1\0"s);
  for (const WireTensor& input : request.inputs) EXPECT_THAT(input.parameters, IsEmpty());
}

TEST(BinaryInferBody, WantsSizesThatAddUpToTheBody) {
  const std::string four = inputs(binary_input("a", "FP32", "[1]", "4"));
  EXPECT_THAT((BinaryBody{four, "abc"}.refused()),
              HasSubstr("binary_data_size: 4 bytes, but 3 are left behind the JSON"));
  EXPECT_THAT((BinaryBody{four, "abcde"}.refused()), HasSubstr("1 bytes are left over behind the JSON"));
  EXPECT_THAT((BinaryBody{inputs(binary_input("a", "FP32", "[1]", "5")), "abcde"}.refused()),
              HasSubstr("inputs[0]: holds 5 bytes; its shape and FP32 make 4"));
  EXPECT_THAT(
      (BinaryBody{inputs(binary_input("a", "FP32", "[1]", "4") + "," + binary_input("b", "FP32", "[1]", "4")), "abcd"}
           .refused()),
      HasSubstr("inputs[1].parameters.binary_data_size: 4 bytes, but 0 are left"));
  EXPECT_THAT(refused(four), HasSubstr("4 bytes, but 0 are left"));  // no header: all is JSON
  EXPECT_THAT(refused(body_of("INT8", "[1]", "[1]") + "x", body_of("INT8", "[1]", "[1]").size()),
              HasSubstr("left over"));
}

TEST(BinaryInferBody, RefusesSizesThatAreNone) {
  for (const char* size : {"-1", "-9223372036854775808", "18446744073709551615", "18446744073709551616", "1.5", "4.0",
                           "\"4\"", "true", "null", "[]"}) {
    EXPECT_THAT((BinaryBody{inputs(binary_input("a", "FP32", "[1]", size)), "abcd"}.refused()),
                HasSubstr("inputs[0].parameters.binary_data_size"))
        << size;
  }
}

TEST(BinaryInferBody, RefusesLengthsWithinBytesThatLeadPastTheEnd) {
  using namespace std::literals;
  EXPECT_THAT((BinaryBody{inputs(binary_input("a", "BYTES", "[1]", "6")), "\3\0\0\0ab"s}.refused()),
              HasSubstr("inputs[0]: element 0 claims 3 bytes, 2 are left"));
  EXPECT_THAT((BinaryBody{inputs(binary_input("a", "BYTES", "[1,9007199254740992]", "4")), "\0\0\0\0"s}.refused()),
              HasSubstr("cannot hold 9007199254740992 elements"));
}

TEST(BinaryInferBody, RefusesAHeaderLengthBeyondTheBodyAndABodyWithoutJson) {
  EXPECT_THAT(refused("{}", 3), HasSubstr("says 3 bytes of JSON; the body has 2"));
  EXPECT_THAT(refused("{}", ~std::size_t{0}), HasSubstr("says 18446744073709551615 bytes"));
  EXPECT_THAT(refused("abcd", 0), HasSubstr("holds no JSON"));
  EXPECT_THAT(refused(""), HasSubstr("holds no JSON"));
}

TEST(BinaryInferBody, WantsTheDataOnceAndNotInSharedMemory) {
  EXPECT_THAT(
      refused(inputs(R"({"name":"x","datatype":"INT8","shape":[1],"data":[1],"parameters":{"binary_data_size":0}})")),
      HasSubstr("inputs[0]: has \"data\" and binary_data_size"));
  EXPECT_THAT(refused(inputs(R"({"name":"x","datatype":"INT8","shape":[1]})")), HasSubstr("inputs[0]: has no data"));
  EXPECT_THAT(
      refused(inputs(R"({"name":"x","datatype":"INT8","shape":[1],"parameters":{"shared_memory_region":"r"}})")),
      HasSubstr("inputs[0].parameters.shared_memory_region: shared memory is not served"));
  EXPECT_THAT(refused(R"({"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1]}],
                         "outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}]})"),
              HasSubstr("outputs[0].parameters.shared_memory_region"));
}

TEST(InferBody, ChoosesBinaryOutputsByRequestAndByOutput) {
  const auto choice = [](const std::string& more) {
    return BinaryOutputs(
        parse_infer_body(R"({"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1]}])" + more + "}"));
  };
  EXPECT_FALSE(choice("").wants("y"));
  EXPECT_TRUE(choice(R"(,"parameters":{"binary_data_output":true})").wants("y"));
  const BinaryOutputs both = choice(
      R"(,"parameters":{"binary_data_output":true},"outputs":[{"name":"a"},{"name":"b","parameters":{"binary_data":false}}])");
  EXPECT_TRUE(both.wants("a"));
  EXPECT_FALSE(both.wants("b"));
  const BinaryOutputs one = choice(R"(,"outputs":[{"name":"a","parameters":{"binary_data":true}},{"name":"b"}])");
  EXPECT_TRUE(one.wants("a"));
  EXPECT_FALSE(one.wants("b"));
}

TEST(InferBody, RefusesParametersOfTheBodyThatHaveAnotherKind) {
  const auto with = [](const std::string& more) {
    return refused(R"({"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1]}],)" + more + "}");
  };
  EXPECT_THAT(with(R"("parameters":{"binary_data_output":1})"), HasSubstr("parameters.binary_data_output: is 1"));
  EXPECT_THAT(with(R"("parameters":[])"), HasSubstr("parameters: is a list; expected an object"));
  EXPECT_THAT(with(R"("parameters":{"a":{}})"), HasSubstr("parameters.a: is object; expected a text"));
  EXPECT_THAT(with(R"("parameters":{"a\u0000b":1})"), HasSubstr("parameters: 'a\\x00b' holds control characters"));
  EXPECT_THAT(with(R"("outputs":[{"name":"y","parameters":{"binary_data":"yes"}}])"),
              HasSubstr("outputs[0].parameters.binary_data: is 'yes'"));
  for (const char* count : {"0", "-1", "1.5", "\"3\"", "18446744073709551616", "true"}) {
    EXPECT_THAT(with(std::string(R"("outputs":[{"name":"y","parameters":{"classification":)") + count + "}}]"),
                HasSubstr("outputs[0].parameters.classification: is "))
        << count;
  }
}

TEST(InferBody, RefusesKeysThatItDoesNotKnowNamingTheNearest) {
  EXPECT_THAT(refused(R"({"input":[]})"), HasSubstr("input: is not known here, did you mean 'inputs'"));
  EXPECT_THAT(refused(R"({"inputs":[{"name":"x","dtype":"INT8","shape":[1],"data":[1]}]})"),
              HasSubstr("inputs[0].dtype: is not known here; known are data, datatype, name"));
  EXPECT_THAT(refused(R"({"inputs":[{"name":"x","datatype":"INT8","shape":[1],"date":[1]}]})"),
              HasSubstr("inputs[0].date: is not known here, did you mean 'data'"));
  EXPECT_THAT(
      refused(
          R"({"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1]}],"outputs":[{"name":"y","shape":[1]}]})"),
      HasSubstr("outputs[0].shape: is not known here"));
}

TEST(InferBody, ShortensWhatItRepeatsOfALongText) {
  const std::string text(10 << 20, 'x');
  EXPECT_THAT(refused("{\"" + text + "\":1}"), HasSubstr("xxx...: is not known here"));
  EXPECT_THAT(refused_data(text, "[1]", "[1]"), HasSubstr("there is no datatype 'xxx"));
  EXPECT_THAT(refused_data("FP32", "[1]", "[\"" + text + "\"]"), HasSubstr("inputs[0].data[0]: the text 'xxx"));
  EXPECT_THAT(refused("{\"id\":\"" + text + "\"}", {}, Code::kExhausted), HasSubstr("id: has 10485760 bytes"));
}

TEST(InferBody, RefusesTextThatIsNoJson) {
  EXPECT_THAT(refused("{"), HasSubstr("the body: not valid JSON at byte 2"));
  EXPECT_THAT(refused("{} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refused("[]"), HasSubstr("the body: is a list; expected an object"));
  EXPECT_THAT(refused("3"), HasSubstr("the body: is 3; expected an object"));
  EXPECT_THAT(refused("\xef\xbb\xbf{}"), HasSubstr("byte order mark"));
  EXPECT_THAT(refused(std::string("{}\0{", 4)), HasSubstr("at byte 3: a NUL byte"));
  EXPECT_THAT(refused("{\"id\":\"\xff\"}"), HasSubstr("id: not valid JSON"));
  EXPECT_THAT(refused("{/**/}"), HasSubstr("not valid JSON"));
  for (const char* text : {R"("\ud800")", R"("\udc00")", R"("\ud800\ud800")", R"("\ud800x")"}) {
    EXPECT_THAT(refused(std::string("{\"id\":") + text + "}"), HasSubstr("id: not valid JSON")) << text;
    EXPECT_THAT(refused(body_of("BYTES", "[1]", std::string("[") + text + "]")),
                HasSubstr("inputs[0].data[0]: not valid JSON"))
        << text;
  }
}

TEST(InferBody, RefusesKeysGivenTwice) {
  EXPECT_THAT(refused(R"({"id":"a","id":"b"})"), HasSubstr("the body: the key \"id\" is given twice"));
  EXPECT_THAT(refused(R"({"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1],"data":[2]}]})"),
              HasSubstr("inputs[0]: the key \"data\" is given twice"));
  EXPECT_THAT(refused(R"({"inputs":[{"name":"x","datatype":"INT8","datatype":"INT8","shape":[1],"data":[1]}]})"),
              HasSubstr("inputs[0]: the key \"datatype\" is given twice"));
  EXPECT_THAT(refused(R"({"parameters":{"a":1,"a":1}})"), HasSubstr("parameters: the key \"a\" is given twice"));
}

TEST(InferBody, RefusesNamesOfAnotherKind) {
  EXPECT_THAT(refused(R"({"inputs":[{"name":3,"datatype":"INT8","shape":[1],"data":[1]}]})"),
              HasSubstr("inputs[0].name: is 3; expected a text"));
  EXPECT_THAT(refused(R"({"inputs":[{"datatype":"INT8","shape":[1],"data":[1]}]})"),
              HasSubstr("inputs[0].name: is missing"));
  EXPECT_THAT(refused(R"({"inputs":[{"name":"a\u0000b","datatype":"INT8","shape":[1],"data":[1]}]})"),
              HasSubstr("inputs[0].name: 'a\\x00b' holds control characters"));
  EXPECT_THAT(refused(R"({"id":7,"inputs":[]})"), HasSubstr("id: is 7; expected a text"));
  EXPECT_THAT(refused(R"({"inputs":{}})"), HasSubstr("inputs: is an object; expected a list"));
  EXPECT_THAT(refused(R"({"inputs":[3]})"), HasSubstr("inputs[0]: is 3; expected an object"));
  EXPECT_THAT(refused("{}"), HasSubstr("inputs: there are none"));
}

TEST(InferBody, KeepsToItsLimits) {
  const std::string deep(31, '['), close(31, ']');
  EXPECT_THAT(refused(R"({"parameters":{"a":)" + deep + close + "}}", {}, Code::kExhausted),
              HasSubstr("deeper than 32"));
  EXPECT_THAT(refused(body_of("INT8", "[1]", std::string(40, '[') + std::string(40, ']'))), HasSubstr("a list"));
  EXPECT_THAT(refused(R"({"inputs":[{"data":)" + std::string(100'000, '[') + "}]}", {}, Code::kExhausted),
              HasSubstr("deeper"));
  std::string many;
  for (int i = 0; i < 1'000'000; ++i) many += "\"k" + std::to_string(i) + "\":0,";
  EXPECT_THAT(refused("{\"parameters\":{" + many + "\"x\":0}}", {}, Code::kExhausted),
              HasSubstr("more than 10000 keys and values"));
  std::string tensors;
  for (int i = 0; i < 65; ++i) tensors += (i ? "," : "") + std::string("{}");
  EXPECT_THAT(refused(inputs(tensors), {}, Code::kExhausted), HasSubstr("inputs: 65 of them; at most 64"));
  InferBodyLimits small;
  small.text_bytes = 10;
  EXPECT_THAT(refused(body_of("BYTES", "[1]", "[\"0123456789\"]"), {}, Code::kExhausted, small),
              HasSubstr("a text of over 10 bytes at byte "));
  EXPECT_THAT(refused(body_of("FP32", "[1]", "[" + std::string(2000, '1') + "]")),
              HasSubstr("a number of 2000 bytes at byte "));
}

std::size_t memory_bytes(const char* which) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::size_t kilobytes = 0;
    if (word == which && status >> kilobytes) return kilobytes << 10;
  }
  return 0;
}

/// How far memory rises while a child of this process parses.
std::size_t peak_bytes(const std::string& body) {
  int ends[2];
  if (::pipe(ends) != 0) return 0;
  // What earlier tests gave back would be used again unseen; given back in the child, it would be in the child's peak.
  ::malloc_trim(0);
  const ::pid_t child = ::fork();
  if (child == 0) {
    ::mallopt(M_MMAP_THRESHOLD, 128 << 10);  // and how high peaks go would depend on what they had asked for
    const std::size_t before = memory_bytes("VmRSS:");
    try {
      parse_infer_body(body);
    } catch (const Error&) {  // a refusal needs memory too
    }
    const std::size_t rise = memory_bytes("VmHWM:") - before;
    const bool told = ::write(ends[1], &rise, sizeof rise) == sizeof rise;
    ::_exit(told ? 0 : 1);
  }
  std::size_t rise = 0;
  EXPECT_EQ(::read(ends[0], &rise, sizeof rise), static_cast<ssize_t>(sizeof rise));
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
  return rise;
}

TEST(InferBody, NeedsNoMoreMemoryThanTheValuesThatItMakes) {
  if (kSanitized) GTEST_SKIP() << "sanitizers need memory of their own";
  constexpr std::size_t kRows = 1024, kValues = 2048;
  std::string data = "[";
  data.reserve(2 * kRows * kValues + 2);
  for (std::size_t i = 0; i < kRows * kValues; ++i) data += "7,";
  data.back() = ']';
  const std::size_t rise = peak_bytes(body_of("FP64", "[1024,2048]", data));
  EXPECT_GT(rise, 8 * kRows * kValues);
  EXPECT_LT(rise, 8 * kRows * kValues + (24u << 20));  // a tree of values would take 64 MiB
  std::string text(8 << 20, 'x');
  EXPECT_LT(peak_bytes(body_of("BYTES", "[1]", "[\"" + text + "\"]")), 6 * text.size() + (4u << 20));
  EXPECT_LT(peak_bytes(body_of("BYTES", "[1]", "[\"" + text + "\\q\"]")), 10 * text.size() + (4u << 20));
}

TEST(ErrorBody, IsOneJsonObjectWhateverTheMessageHolds) {
  EXPECT_EQ(write_error_body("no task 'cars'"), R"({"error":"no task 'cars'"})");
  EXPECT_EQ(write_error_body("a\"b\\c\n\x01\x7f"), R"({"error":"a\"b\\c\n\u0001\u007f"})");
  EXPECT_EQ(write_error_body("caf\xc3\xa9 \xff\xe2\x80\xae"), R"({"error":"caf\u00e9 \ufffd\u202e"})");
  EXPECT_EQ(write_error_body(std::string("\0", 1)), R"({"error":"\u0000"})");
}

InferenceResponse response_of(std::vector<WireTensor> outputs) {
  InferenceResponse response;
  response.model = "cars";
  response.version = "3";
  response.outputs = std::move(outputs);
  return response;
}

template <class T>
WireTensor output_of(const std::string& datatype, const std::vector<T>& values) {
  WireTensor tensor{
      .name = "y", .datatype = datatype, .shape = {static_cast<std::int64_t>(values.size())}, .bytes = {}};
  for (const T value : values) tensor.bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  return tensor;
}

TEST(WriteInferBody, WritesEveryDatatypeAsJson) {
  const auto data = [](const WireTensor& tensor) {
    const InferBody body = write_infer_body(response_of({tensor}));
    EXPECT_FALSE(body.json_bytes);
    return nlohmann::json::parse(body.bytes).at("outputs").at(0).at("data").dump();
  };
  EXPECT_EQ(data({.name = "y", .datatype = "BOOL", .shape = {2}, .bytes = std::string("\1\0", 2)}), "[true,false]");
  EXPECT_EQ(data(output_of<std::uint8_t>("UINT8", {0, 255})), "[0,255]");
  EXPECT_EQ(data(output_of<std::int8_t>("INT8", {-128, 127})), "[-128,127]");
  EXPECT_EQ(data(output_of<std::int16_t>("INT16", {-1})), "[-1]");
  EXPECT_EQ(data(output_of<std::uint16_t>("UINT16", {65535})), "[65535]");
  EXPECT_EQ(data(output_of<std::int32_t>("INT32", {INT32_MIN})), "[-2147483648]");
  EXPECT_EQ(data(output_of<std::uint32_t>("UINT32", {})), "[]");
  EXPECT_EQ(data(output_of<std::int64_t>("INT64", {INT64_MIN})), "[-9223372036854775808]");
  EXPECT_EQ(data(output_of<std::uint64_t>("UINT64", {~std::uint64_t{0}})), "[18446744073709551615]");
  EXPECT_EQ(data(output_of<double>("FP64", {0.1, 1e300})), "[0.1,1e+300]");
  std::string texts;
  for (const char* text : {"K\u00e4fer", "a\"b\n", ""}) append_bytes(texts, text);
  EXPECT_EQ(data({.name = "y", .datatype = "BYTES", .shape = {3}, .bytes = texts}),
            "[\"K\u00e4fer\",\"a\\\"b\\n\",\"\"]");
}

TEST(WriteInferBody, SaysModelVersionIdParametersAndShape) {
  InferenceResponse response = response_of({output_of<float>("FP32", {1.5f})});
  response.id = "r-1";
  response.parameters = {{"took", 3}};
  response.outputs[0].parameters = {{"rows", "x"}};
  EXPECT_EQ(nlohmann::json::parse(write_infer_body(response).bytes), nlohmann::json::parse(R"({"model_name":"cars",
    "model_version":"3","id":"r-1","parameters":{"took":3},"outputs":[{"name":"y","datatype":"FP32","shape":[1],
    "parameters":{"rows":"x"},"data":[1.5]}]})"));
  response = response_of({});
  response.version.clear();
  EXPECT_EQ(write_infer_body(response).bytes, R"({"model_name":"cars","outputs":[]})");
}

TEST(WriteInferBody, WritesFloatsThatReadBackTheSame) {
  std::vector<float> values{0.0f,   -0.0f,           1.0f,  0.1f,       -3.4028235e38f, 16777216.0f,
                            1e-45f, 1.17549435e-38f, 1e10f, 123456.789f};
  std::uint32_t bits = 1;
  while (values.size() < 1024) {
    bits = bits * 1664525u + 1013904223u;
    if (const float value = std::bit_cast<float>(bits); std::isfinite(value)) values.push_back(value);
  }
  const WireTensor tensor = output_of("FP32", values);
  const std::string text = write_infer_body(response_of({tensor})).bytes;
  const auto begin = text.find("\"data\":") + 7;
  const std::string data = text.substr(begin, text.size() - begin - 3);
  EXPECT_EQ(input_of(body_of("FP32", "[1024]", data)).bytes, tensor.bytes);
}

TEST(WriteInferBody, PutsOutputsAskedForAsBinaryBehindTheJson) {
  WireTensor first = output_of<float>("FP32", {1.5f, NAN}), second = output_of<std::int64_t>("INT64", {7});
  first.name = "logits";
  second.name = "label";
  WireTensor third{.name = "half", .datatype = "FP16", .shape = {1}, .bytes = "ab"};
  InferenceRequest request;
  request.outputs = {{.name = "logits", .binary = true}, {.name = "label"}, {.name = "half", .binary = true}};
  const InferBody body = write_infer_body(response_of({first, second, third}), BinaryOutputs(request));
  ASSERT_TRUE(body.json_bytes);
  EXPECT_EQ(body.bytes.substr(*body.json_bytes), first.bytes + "ab");
  const nlohmann::json json = nlohmann::json::parse(body.bytes.substr(0, *body.json_bytes));
  EXPECT_EQ(
      json["outputs"][0],
      nlohmann::json::parse(R"({"name":"logits","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}})"));
  EXPECT_EQ(json["outputs"][1]["data"], nlohmann::json::parse("[7]"));
  EXPECT_EQ(json["outputs"][2]["parameters"]["binary_data_size"], 2);
}

TEST(WriteInferBody, RefusesWhatJsonCannotCarry) {
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    EXPECT_THAT(error_of(Code::kInternal, [&] { write_infer_body(response_of({output_of<float>("FP32", {value})})); }),
                HasSubstr("the output 'y' holds NaN or infinite values"));
  }
  EXPECT_THAT(
      error_of(Code::kInvalidArgument,
               [] { write_infer_body(response_of({{.name = "y", .datatype = "BF16", .shape = {1}, .bytes = "ab"}})); }),
      HasSubstr("'y' is BF16, which JSON has no text for; ask for it with binary_data"));
  std::string bytes;
  append_bytes(bytes, "\xff");
  EXPECT_THAT(
      error_of(
          Code::kInvalidArgument,
          [&] { write_infer_body(response_of({{.name = "y", .datatype = "BYTES", .shape = {1}, .bytes = bytes}})); }),
      HasSubstr("no UTF-8 text; ask for it with binary_data"));
}

}  // namespace
}  // namespace recast
