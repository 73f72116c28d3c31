#include "recast/format/printable.h"

#include <fmt/format.h>

#include <cstdint>

namespace recast {
namespace {

struct Character {
  std::size_t bytes;  // 0: not UTF-8
  std::uint32_t code_point;
};

Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, lead};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {0, 0};
  std::uint32_t code_point = lead & (0x7f >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {0, 0};
    code_point = code_point << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = (bytes == 3 && code_point < 0x800) || (bytes == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  return overlong || surrogate || code_point > 0x10ffff ? Character{0, 0} : Character{bytes, code_point};
}

bool in(std::uint32_t c, std::uint32_t low, std::uint32_t high) { return c >= low && c <= high; }

bool is_harmless(std::uint32_t c) {
  const bool control = c < 0x20 || in(c, 0x7f, 0x9f);
  const bool breaks_line_or_direction = c == 0x200e || c == 0x200f || in(c, 0x2028, 0x202e) || in(c, 0x2066, 0x2069);
  return !control && !breaks_line_or_direction;
}

}  // namespace

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    if (out.size() >= max_bytes) return out + "...";
    const Character character = first_character(text);
    const std::size_t taken = character.bytes == 0 ? 1 : character.bytes;
    if (character.bytes != 0 && is_harmless(character.code_point)) {
      out += text.substr(0, taken);
    } else {
      for (const char c : text.substr(0, taken)) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    text.remove_prefix(taken);
  }
  return out;
}

std::string printable_path(const std::filesystem::path& path) { return printable(path.string(), 4096); }

}  // namespace recast
