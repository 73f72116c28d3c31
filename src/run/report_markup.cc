#include "report_markup.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr std::size_t kMaxTextBytes = 16384;

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : printable(text, kMaxTextBytes)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

std::string shortened(std::string_view text, std::size_t characters) {
  if (count_characters(text) <= characters) return std::string(text);
  std::size_t seen = 0, end = 0;
  while (end < text.size() && (!begins_character(text[end]) || ++seen < characters)) ++end;
  return std::string(text.substr(0, end)) + "…";
}

std::string percent_text(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string count_text(double count) {
  std::string digits = fmt::format("{:.0f}", std::abs(count));
  for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return (count < 0 ? "-" : "") + digits;
}

std::string size_text(double bytes) {
  if (bytes < 1000) return fmt::format("{:.0f} bytes", bytes);
  for (const char* unit : {"kB", "MB", "GB"}) {
    bytes /= 1000;
    if (bytes < 1000) return fmt::format("{:.{}f} {}", bytes, bytes < 100 ? 1 : 0, unit);
  }
  return fmt::format("{:.1f} TB", bytes / 1000);
}

std::string seconds_text(double seconds) {
  if (seconds < 120) return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 1 : 0);
  return fmt::format("{:.0f} min", seconds / 60);
}

std::string png_uri(std::string_view png) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out = "data:image/png;base64,";
  out.reserve(out.size() + png.size() * 4 / 3 + 4);
  for (std::size_t i = 0; i < png.size(); i += 3) {
    const auto byte = [&](std::size_t k) -> std::uint32_t {
      return i + k < png.size() ? static_cast<unsigned char>(png[i + k]) : 0;
    };
    const std::uint32_t bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    out += kDigits[bits >> 18];
    out += kDigits[bits >> 12 & 63];
    out += i + 1 < png.size() ? kDigits[bits >> 6 & 63] : '=';
    out += i + 2 < png.size() ? kDigits[bits & 63] : '=';
  }
  return out;
}

std::string scroll_box(const std::string& name, const std::string& content) {
  return fmt::format("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">{}</div>\n", escape(name),
                     content);
}

std::string HtmlTable::html() const {
  std::string out = "<table><caption>" + escape(caption_) + "</caption><thead><tr>";
  for (const Column& column : columns_)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", column.number ? " class=\"n\"" : "", column.head);
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows_) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      out += i == 0 ? "<th scope=\"row\">" + row[i] + "</th>"
                    : fmt::format("<td{}>{}</td>", columns_.at(i).number ? " class=\"n\"" : "", row[i]);
    out += "</tr>\n";
  }
  return scroll_box(caption_, out + "</tbody></table>");
}

}  // namespace recast
