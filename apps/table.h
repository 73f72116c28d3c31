#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace recast {

/// Rows of texts in columns that line up; a column of numbers is set flush right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  /// Cells may hold text from outside: it is shown as printable() shows it.
  void add(std::vector<std::string> row);
  /// Lines, each ended by a line feed.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "1.2 MB", "588 bytes".
std::string bytes_text(double bytes);
/// What provenance() says, as one line: seconds, processor, threads, versions.
std::string provenance_text(const nlohmann::json& report);
/// 0.8125 as "0.8125".
std::string share_text(double share);
/// The same of a number, "-" of null.
std::string share_or_dash(const nlohmann::json& share);

}  // namespace recast
