#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

/// Text from anywhere as HTML text or attribute value: markup is escaped, control characters are shown as \xNN.
std::string escape(std::string_view text);
/// The first `characters` of a UTF-8 text, "…" in place of the rest; not escaped.
std::string shortened(std::string_view text, std::size_t characters);
/// Characters of a UTF-8 text.
std::size_t count_characters(std::string_view text);

/// 0.782 as "78.2 %".
std::string percent_text(double share);
/// 1234567 as "1,234,567".
std::string count_text(double count);
/// "588 bytes", "15.6 kB".
std::string size_text(double bytes);
std::string seconds_text(double seconds);

/// "data:image/png;base64,...".
std::string png_uri(std::string_view png);

/// A table of cells that are HTML already; columns of numbers are set flush right. On a narrow screen it scrolls.
class HtmlTable {
 public:
  struct Column {
    std::string head;  ///< HTML
    bool number = false;
  };
  HtmlTable(std::string caption, std::vector<Column> columns)
      : caption_(std::move(caption)), columns_(std::move(columns)) {}
  /// The first cell heads its row.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string html() const;

 private:
  std::string caption_;  ///< plain text
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// `content` in a box of its own that scrolls sideways, also by keyboard.
std::string scroll_box(const std::string& name, const std::string& content);

}  // namespace recast
