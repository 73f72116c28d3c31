#include "table.h"

#include <fmt/format.h>

#include <algorithm>

#include "recast/format/printable.h"

namespace recast {
namespace {

/// Characters, not bytes, of UTF-8.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xc0) != 0x80; }));
}

bool looks_numeric(const std::string& text) {
  return text.empty() || text == "-" || text.find_first_not_of("0123456789.,+-e%") == text.npos;
}

}  // namespace

void Table::add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = printable(cell, cell.npos);
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  std::vector<bool> numeric(widths.size(), rows_.size() > 1);
  for (std::size_t r = 0; r < rows_.size(); ++r)
    for (std::size_t c = 0; c < widths.size(); ++c) {
      widths[c] = std::max(widths[c], width_of(rows_[r].at(c)));
      if (r > 0 && !looks_numeric(rows_[r][c])) numeric[c] = false;
    }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < widths.size(); ++c) {
      const std::string space(widths[c] - width_of(row[c]), ' ');
      line += (c > 0 ? "  " : "") + (numeric[c] ? space + row[c] : row[c] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string bytes_text(double bytes) {
  if (bytes < 10'000) return fmt::format("{:.0f} bytes", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", bytes / 1e3);
  return fmt::format("{:.1f} MB", bytes / 1e6);
}

std::string share_text(double share) { return fmt::format("{:.4f}", share); }

std::string share_or_dash(const nlohmann::json& share) {
  return share.is_null() ? "-" : share_text(share.get<double>());
}

std::string provenance_text(const nlohmann::json& report) {
  const auto& machine = report["machine"];
  return fmt::format("{:.1f} s on {} ({} threads, {}); recast {}, torch {}", report["seconds"].get<double>(),
                     machine["cpu"].get<std::string>(), machine["threads"].get<int>(),
                     machine["isa"].get<std::string>(), report["versions"]["recast"].get<std::string>(),
                     report["versions"]["torch"].get<std::string>());
}

}  // namespace recast
