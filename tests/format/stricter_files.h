#pragma once
#include <string>
#include <vector>

#include "format/malformed_files.h"

namespace recast {

/// A file that the Python package safetensors reads and recast does not.
struct StricterFile {
  std::string row;  // as in the table of docs/formats.md
  std::string bytes;
  Code code;
  std::string message;  // part of what is said for every file of this kind
};

inline std::vector<StricterFile> stricter_files() {
  using enum Code;
  const std::string a = entry("a", "F32", "[1]", "[0,4]");
  const auto with_field = [](const std::string& value) {
    return file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":)" + value + "}}", 4);
  };
  std::string many = "{", zeros = "[0";
  for (int i = 0; i < 65'537; ++i) many += entry("t" + std::to_string(i), "U8", "[0]", "[0,0]") + ",";
  many.back() = '}';
  for (int i = 0; i < 1'200'000; ++i) zeros += ",0";
  std::string bad_boolean = file_with("{" + entry("a", "BOOL", "[1]", "[0,1]") + "}", 1);
  bad_boolean.back() = 2;
  return {
      {"a tensor or a metadata key given twice", file_with("{" + a + "," + a + "}", 4), kDataCorruption,
       "is given twice"},
      {"`\"__metadata__\": null`", file_with(R"({"__metadata__":null})"), kDataCorruption,
       "__metadata__ is a JSON null"},
      {"a tensor given as an array", file_with(R"({"a":["F32",[1],[0,4]]})", 4), kDataCorruption,
       "expected an object of dtype, shape and data_offsets, and nothing else"},
      {"further fields in a tensor's entry", with_field("0"), kDataCorruption,
       "expected an object of dtype, shape and data_offsets, and nothing else"},
      {"in a further field: nesting over 64 levels", with_field(std::string(70, '[') + std::string(70, ']')),
       kDataCorruption, "deeper than 64"},
      {"over 1,148,576 values in the header", with_field(zeros + "]"), kExhausted, "values; at most that many"},
      {"a control character in the name of a tensor", file_with("{" + entry("a\\nb", "F32", "[1]", "[0,4]") + "}", 4),
       kDataCorruption, "control character"},
      {"more than 65,536 tensors", file_with(many), kExhausted, "tensors; at most 65536"},
      {"more than 8 dimensions", file_with("{" + entry("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4),
       kExhausted, "dimensions; at most 8"},
      {"a name over 512 bytes", file_with("{" + entry(std::string(513, 'n'), "F32", "[1]", "[0,4]") + "}", 4),
       kExhausted, "bytes; at most 512"},
      {"a dimension of 2^53 or more beside a 0",
       file_with("{" + entry("a", "F32", "[9007199254740992,0]", "[0,0]") + "}"), kDataCorruption,
       "whole numbers from 0 to 2^53 - 1"},
      {"strides that overflow beside a 0",
       file_with("{" + entry("a", "F32", "[0,4503599627370495,4503599627370495]", "[0,0]") + "}"), kDataCorruption,
       "overflows 64 bits"},
      {"a BOOL byte other than 0 and 1", bad_boolean, kDataCorruption, "expected 0 or 1"},
      {"dtypes F6_E2M3 and F6_E3M2", file_with("{" + entry("a", "F6_E2M3", "[4]", "[0,3]") + "}", 3), kUnsupported,
       "has dtype F6"},
      {"F4 without pairs along its last dimension", file_with("{" + entry("a", "F4", "[2,3]", "[0,3]") + "}", 3),
       kUnsupported, "expected pairs"},
  };
}

}  // namespace recast
