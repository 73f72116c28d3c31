#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "recast/base/error.h"

namespace recast {

/// Bytes of a safetensors file with this header text, whatever it says.
inline std::string file_with(const std::string& header, std::size_t data_bytes = 0) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return bytes + header + std::string(data_bytes, '\0');
}

inline std::string file_claiming(std::uint64_t header_bytes, const std::string& rest) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header_bytes >> (8 * i) & 0xff);
  return bytes + rest;
}

inline std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                         const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

struct MalformedFile {
  std::string name;
  std::string bytes;
  Code code;
  std::string message;             // part of what is said
  bool reference_accepts = false;  // the Python package takes it: we are stricter
};

inline std::vector<MalformedFile> malformed_headers() {
  using enum Code;
  const std::string a = entry("a", "F32", "[1]", "[0,4]");
  const std::string many_brackets(100, '[');
  return {
      {"empty", "", kDataCorruption, "too short"},
      {"shorter than a length", "abc", kDataCorruption, "3 bytes are too short"},
      {"only a length", file_claiming(100, ""), kDataCorruption, "claims 100 bytes, 0 follow"},
      {"header longer than file", file_claiming(100, "{}"), kDataCorruption, "claims 100 bytes, 2 follow"},
      {"enormous header length", file_claiming(~std::uint64_t{0}, "{}"), kDataCorruption, "claims"},
      {"no header", file_with(""), kDataCorruption, "not valid JSON"},
      {"not UTF-8", file_with("{\"\xff\xfe\":1}"), kDataCorruption, "not valid JSON at byte"},
      {"not JSON", file_with("{\"a\""), kDataCorruption, "not valid JSON"},
      {"not an object", file_with("[]"), kDataCorruption, "JSON array; expected an object"},
      {"trailing garbage", file_with("{}x"), kDataCorruption, "not valid JSON"},
      {"NUL after the object", file_with(std::string("{}\0{\"a\":1}", 10)), kDataCorruption, "byte 3: a NUL byte"},
      {"byte order mark", file_with("\xef\xbb\xbf{}"), kDataCorruption, "byte order mark"},
      {"comment", file_with("{/**/}"), kDataCorruption, "not valid JSON"},
      {"lone surrogate", file_with(R"({"__metadata__":{"a":"\ud800"}})"), kDataCorruption, "not valid JSON"},
      {"too deep", file_with("{\"a\":" + many_brackets + std::string(100, ']') + "}"), kDataCorruption,
       "deeper than 64"},
      {"tensor twice", file_with("{" + a + "," + a + "}", 4), kDataCorruption, "\"a\" is given twice", true},
      {"field twice", file_with(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
       kDataCorruption, "\"dtype\" is given twice"},
      {"metadata twice", file_with(R"({"__metadata__":{},"__metadata__":{}})"), kDataCorruption, "is given twice"},
      {"metadata key twice", file_with(R"({"__metadata__":{"a":"b","a":"c"}})"), kDataCorruption, "is given twice",
       true},
      {"metadata of numbers", file_with(R"({"__metadata__":{"a":1}})"), kDataCorruption, "expected a string"},
      {"metadata null", file_with(R"({"__metadata__":null})"), kDataCorruption, "expected an object of strings", true},
      {"tensor as array", file_with(R"({"a":["F32",[1],[0,4]]})", 4), kDataCorruption, "expected an object", true},
      {"unknown field", file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":0}})", 4),
       kDataCorruption, "and nothing else", true},
      {"missing field", file_with(R"({"a":{"dtype":"F32","shape":[1]}})", 4), kDataCorruption, "data_offsets"},
      {"dtype is a number", file_with(R"({"a":{"dtype":5,"shape":[1],"data_offsets":[0,4]}})", 4), kDataCorruption,
       "expected a string"},
      {"shape is a number", file_with("{" + entry("a", "F32", "1", "[0,4]") + "}", 4), kDataCorruption, "an array"},
      {"offsets are three", file_with("{" + entry("a", "F32", "[1]", "[0,2,4]") + "}", 4), kDataCorruption,
       "two numbers"},
      {"control character in a name", file_with("{" + entry("a\\nb", "F32", "[1]", "[0,4]") + "}", 4), kDataCorruption,
       "a\\x0ab", true},
      {"NUL in a name", file_with("{" + entry("a\\u0000", "F32", "[1]", "[0,4]") + "}", 4), kDataCorruption, "control",
       true},
      {"offset with an exponent", file_with("{" + entry("a", "F32", "[1]", "[0,4e0]") + "}", 4), kDataCorruption,
       "4.0"},
      {"fractional offset", file_with("{" + entry("a", "U8", "[1]", "[0.5,1.5]") + "}", 2), kDataCorruption, "0.5"},
      {"negative offset", file_with("{" + entry("a", "U8", "[1]", "[-1,0]") + "}", 1), kDataCorruption, "holds -1"},
      {"offset 2^64", file_with("{" + entry("a", "U8", "[1]", "[0,18446744073709551616]") + "}", 1), kDataCorruption,
       "2^53 - 1"},
      {"offset wraps", file_with("{" + entry("a", "U8", "[2]", "[18446744073709551615,1]") + "}", 1), kDataCorruption,
       "2^53 - 1"},
      {"shape of texts", file_with("{" + entry("a", "F32", "[\"1\"]", "[0,4]") + "}", 4), kDataCorruption,
       "shape holds"},
      {"shape of lists", file_with("{" + entry("a", "F32", "[[1]]", "[0,4]") + "}", 4), kDataCorruption, "shape holds"},
      {"shape null", file_with("{" + entry("a", "F32", "null", "[0,4]") + "}", 4), kDataCorruption, "JSON null"},
      {"offsets null", file_with("{" + entry("a", "F32", "[1]", "null") + "}", 4), kDataCorruption, "two numbers"},
      {"tensor null", file_with(R"({"a":null})"), kDataCorruption, "expected an object"},
      {"tensor empty", file_with(R"({"a":{}})"), kDataCorruption, "expected an object"},
      {"trailing comma", file_with("{" + a + ",}", 4), kDataCorruption, "not valid JSON"},
      {"leading zero", file_with("{" + entry("a", "F32", "[01]", "[0,4]") + "}", 4), kDataCorruption, "not valid JSON"},
      {"single quotes", file_with("{'a':{}}"), kDataCorruption, "not valid JSON"},
      {"NaN", file_with("{" + entry("a", "F32", "[NaN]", "[0,4]") + "}", 4), kDataCorruption, "not valid JSON"},
      {"control character unescaped",
       file_with(R"({"__metadata__":{"a":")"
                 "\n"
                 R"("}})"),
       kDataCorruption, "not valid JSON"},
      {"overlong UTF-8", file_with("{\"__metadata__\":{\"\xc0\x80\":\"\"}}"), kDataCorruption, "not valid JSON"},
      {"surrogate in UTF-8", file_with("{\"__metadata__\":{\"\xed\xa0\x80\":\"\"}}"), kDataCorruption,
       "not valid JSON"},
      {"UTF-16", file_with(std::string("{\0}\0", 4)), kDataCorruption, "not valid JSON"},
      {"a second object", file_with("{}{}"), kDataCorruption, "not valid JSON"},
      {"metadata as list", file_with(R"({"__metadata__":[]})"), kDataCorruption, "JSON array"},
      {"metadata nested", file_with(R"({"__metadata__":{"a":{"b":"c"}}})"), kDataCorruption, "expected a string"},
      {"dtype in lower case", file_with("{" + entry("a", "f32", "[1]", "[0,4]") + "}", 4), kUnsupported, "'f32'"},
      {"dtype empty", file_with("{" + entry("a", "", "[1]", "[0,4]") + "}", 4), kUnsupported, "''"},
      {"complex doubles", file_with("{" + entry("a", "C128", "[1]", "[0,16]") + "}", 16), kUnsupported, "'C128'"},
      {"F6 in no whole bytes", file_with("{" + entry("a", "F6_E3M2", "[1]", "[0,1]") + "}", 1), kDataCorruption,
       "whole number"},
      {"zero-size beyond the end", file_with("{" + a + "," + entry("z", "F32", "[0]", "[8,8]") + "}", 4),
       kDataCorruption, "after a gap"},
      {"unknown dtype", file_with("{" + entry("a", "I128", "[1]", "[0,16]") + "}", 16), kUnsupported, "'I128'"},
      {"negative dimension", file_with("{" + entry("a", "F32", "[-1]", "[0,4]") + "}", 4), kDataCorruption, "holds -1"},
      {"minus zero", file_with("{" + entry("a", "F32", "[-0]", "[0,0]") + "}"), kDataCorruption, "shape holds"},
      {"fractional dimension", file_with("{" + entry("a", "F32", "[1.5]", "[0,6]") + "}", 6), kDataCorruption, "1.5"},
      {"dimension as 1.0", file_with("{" + entry("a", "F32", "[1.0]", "[0,4]") + "}", 4), kDataCorruption, "1.0"},
      {"dimension 2^53", file_with("{" + entry("a", "F32", "[9007199254740992,0]", "[0,0]") + "}"), kDataCorruption,
       "2^53 - 1", true},
      {"dimension 1e999", file_with("{" + entry("a", "F32", "[1e999]", "[0,4]") + "}", 4), kDataCorruption,
       "not valid"},
      {"product overflows to 2^65", file_with("{" + entry("a", "F32", "[2,18446744073709551614]", "[0,4]") + "}", 4),
       kDataCorruption, "18446744073709551614"},
      {"product overflows to 2^64", file_with("{" + entry("a", "F32", "[2,9223372036854775807]", "[0,4]") + "}", 4),
       kDataCorruption, "2^53"},
      {"product wraps to 4", file_with("{" + entry("a", "U8", "[4194305,4194305,211106198978564]", "[0,4]") + "}", 4),
       kDataCorruption, "overflows"},
      {"bits overflow", file_with("{" + entry("a", "F32", "[4503599627370495,2048]", "[0,0]") + "}"), kDataCorruption,
       "overflows"},
      {"strides overflow beside a zero",
       file_with("{" + entry("a", "F32", "[0,4503599627370495,4503599627370495]", "[0,0]") + "}"), kDataCorruption,
       "overflows", true},
      {"half a byte", file_with("{" + entry("a", "F4", "[3]", "[0,1]") + "}", 1), kDataCorruption, "whole number"},
      {"size differs from shape", file_with("{" + entry("a", "F32", "[2]", "[0,4]") + "}", 4), kDataCorruption,
       "takes 8"},
      {"reversed offsets", file_with("{" + entry("a", "F32", "[1]", "[4,0]") + "}", 4), kDataCorruption, "backwards"},
      {"overlap", file_with("{" + a + "," + entry("b", "F32", "[1]", "[2,6]") + "}", 6), kDataCorruption,
       "inside tensor 'a'; expected byte 4"},
      {"same bytes twice", file_with("{" + a + "," + entry("b", "F32", "[1]", "[0,4]") + "}", 4), kDataCorruption,
       "inside tensor 'a'"},
      {"hole", file_with("{" + a + "," + entry("b", "F32", "[1]", "[8,12]") + "}", 12), kDataCorruption, "after a gap"},
      {"hole before the first", file_with("{" + entry("a", "F32", "[1]", "[4,8]") + "}", 8), kDataCorruption,
       "after a gap"},
      {"zero-size inside another", file_with("{" + a + "," + entry("z", "F32", "[0]", "[2,2]") + "}", 4),
       kDataCorruption, "inside tensor 'a'"},
      {"missing bytes", file_with("{" + a + "}", 3), kDataCorruption, "promises 4 bytes of data, the file holds 3"},
      {"extra bytes", file_with("{" + a + "}", 5), kDataCorruption, "1 bytes follow the last tensor"},
      {"extra bytes without tensors", file_with("{}", 1), kDataCorruption, "1 bytes follow"},
      {"nine dimensions", file_with("{" + entry("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4), kExhausted,
       "9 dimensions; at most 8", true},
      {"long name", file_with("{" + entry(std::string(513, 'n'), "F32", "[1]", "[0,4]") + "}", 4), kExhausted,
       "513 bytes; at most 512", true},
  };
}

}  // namespace recast
