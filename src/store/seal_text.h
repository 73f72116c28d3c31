#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "recast/format/files.h"

namespace recast {

/// The values of a row, written one after another as its seal covers them (docs/formats.md, "Seals of rows").
class SealText {
 public:
  void add_null() { text_ += "n;"; }
  void add(std::int64_t value) { text_ += fmt::format("i{};", value); }
  void add(std::string_view text) {
    text_ += fmt::format("t{}:", text.size());
    text_ += text;
    text_ += ';';
  }
  /// 64 lower-case hexadecimal digits.
  std::string seal() const { return sha256_hex(text_); }

 private:
  std::string text_;
};

}  // namespace recast
