#pragma once
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "format/malformed_files.h"

namespace recast {

// Damaged relatives of good safetensors files, the same ones in every run.

/// Small, and with all that a header can hold.
inline std::vector<std::string> good_files() {
  const std::string all = "{" + entry("a", "F32", "[2,1]", "[0,8]") + "," +
                          entry("caf\xc3\xa9", "U8", "[3]", "[8,11]") + "," + entry("b", "BOOL", "[]", "[11,12]") +
                          "," + entry("none", "I64", "[0,7]", "[12,12]") +
                          R"(,"__metadata__":{"k":"v","\u00e9\n":"\ud83d\ude00"}})";
  return {file_with(all, 12), file_with("{" + entry("w", "BF16", "[2,2]", "[0,8]") + "}   ", 8), file_with(" {} ")};
}

/// The first n bytes for every n.
inline std::vector<std::string> truncations(const std::string& file) {
  std::vector<std::string> files;
  for (std::size_t size = 0; size < file.size(); ++size) files.push_back(file.substr(0, size));
  return files;
}

/// Every bit of the length and of the header flipped, and every such byte replaced by some that mean something.
inline std::vector<std::string> single_byte_changes(const std::string& file, std::size_t data_bytes) {
  std::vector<std::string> files;
  for (std::size_t i = 0; i < file.size() - data_bytes; ++i) {
    std::string changed = file;
    for (int bit = 0; bit < 8; ++bit) {
      changed[i] = static_cast<char>(file[i] ^ 1 << bit);
      files.push_back(changed);
    }
    for (const char byte : {'\0', '\xff', ' ', '"', '{', '}', '0', '9', '-', '\\'}) {
      changed[i] = byte;
      files.push_back(changed);
    }
    files.push_back(file.substr(0, i) + file.substr(i + 1));
  }
  return files;
}

/// Strings, numbers and signs of a JSON text.
inline std::vector<std::string> tokens_of(const std::string& json) {
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < json.size();) {
    std::size_t end = i + 1;
    if (json[i] == '"') {
      while (json[end] != '"') end += json[end] == '\\' ? 2 : 1;
      ++end;
    } else if (json[i] >= '0' && json[i] <= '9') {
      end = json.find_first_not_of("0123456789", i);
    }
    tokens.push_back(json.substr(i, end - i));
    i = end;
  }
  return tokens;
}

/// Each token of the header left out, doubled, exchanged with the next, or replaced by one of another kind; the length
/// fits the new header.
inline std::vector<std::string> token_changes(const std::string& file, std::size_t data_bytes) {
  const std::vector<std::string> odd{"0",
                                     "1",
                                     "-1",
                                     "4",
                                     "1.5",
                                     "4.0",
                                     "1e0",
                                     "1e999",
                                     "01",
                                     "+1",
                                     "0x1",
                                     "NaN",
                                     "2147483648",
                                     "9007199254740991",
                                     "null",
                                     "true",
                                     "\"\"",
                                     "\"F32\"",
                                     "\"F64\"",
                                     "\"f32\"",
                                     "\"F4\"",
                                     "\"a\"",
                                     "[]",
                                     "{}",
                                     "[1]",
                                     "[0,4]",
                                     "[[1]]",
                                     "{\"a\":1}",
                                     ",",
                                     ":",
                                     "[",
                                     "]",
                                     "{",
                                     "}",
                                     "/**/",
                                     "'a'",
                                     "\"\\u0000\"",
                                     "\"\\ud800\"",
                                     "\"\\x\"",
                                     "\"__metadata__\"",
                                     "18446744073709551615",
                                     "18446744073709551616",
                                     "9223372036854775808",
                                     "\"dtype\":\"U8\",\"dtype\"",
                                     "[1,1,1,1,1,1,1,1,1,2]",
                                     "\xef\xbb\xbf"};
  const std::string header = file.substr(8, file.size() - 8 - data_bytes);
  const std::vector<std::string> tokens = tokens_of(header);
  std::vector<std::string> files;
  const auto joined = [&](std::size_t at, const std::string& instead) {
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i) text += i == at ? instead : tokens[i];
    files.push_back(file_with(text, data_bytes));
  };
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    joined(i, "");
    joined(i, tokens[i] + tokens[i]);
    if (i + 1 < tokens.size()) joined(i, tokens[i + 1]);
    for (const std::string& token : odd) joined(i, token);
    if (tokens[i].size() > 2) joined(i, tokens[i].substr(0, tokens[i].size() - 1));
  }
  return files;
}

/// The beginning of one file and the end of another, cut anywhere.
inline std::vector<std::string> splices(const std::vector<std::string>& of, std::size_t count) {
  std::mt19937 random(2);
  const auto draw = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  std::vector<std::string> files;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string &head = of[draw(of.size())], &tail = of[draw(of.size())];
    std::string spliced = head.substr(0, draw(head.size() + 1)) + tail.substr(draw(tail.size() + 1));
    if (i % 2 == 0 && spliced.size() > 8) {  // with a length that fits as much header as there can be
      const std::size_t header = std::min<std::size_t>(spliced.rfind('}') + 1, spliced.size());
      if (header > 8 && spliced.rfind('}') != spliced.npos) {
        spliced = file_with(spliced.substr(8, header - 8)) + spliced.substr(header);
      }
    }
    files.push_back(std::move(spliced));
  }
  return files;
}

/// One to three bytes of a good file removed, inserted or replaced at random places.
inline std::vector<std::string> random_changes(const std::string& file, std::size_t count) {
  const std::string alphabet = "{}[]\",:0123456789-.eE \\u_abcFBIU\xc3\xa9\x01";
  std::mt19937 random(1);
  const auto draw = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  std::vector<std::string> files;
  for (std::size_t i = 0; i < count; ++i) {
    std::string bytes = file;
    for (std::size_t edits = 1 + draw(3); edits > 0; --edits) {
      const std::size_t at = draw(10) == 0 ? draw(8) : 8 + draw(bytes.size() - 8);
      switch (draw(4)) {
        case 0:
          bytes.erase(at, 1);
          break;
        case 1:
          bytes.insert(at, 1, alphabet[draw(alphabet.size())]);
          break;
        case 2:
          bytes[at] = static_cast<char>(draw(256));
          break;
        default:
          bytes[at] = alphabet[draw(alphabet.size())];
      }
    }
    files.push_back(std::move(bytes));
  }
  return files;
}

}  // namespace recast
