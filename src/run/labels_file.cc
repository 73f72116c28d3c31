#include "labels_file.h"

#include <set>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr std::uint64_t kMaxLabelBytes = 64 << 20;

/// Lines without the byte order mark and the carriage returns that editors leave; empty lines at the end do not count.
std::vector<std::string> read_lines(const std::filesystem::path& file) {
  std::string text = read_file(file, kMaxLabelBytes);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(std::move(line));
    begin = end + 1;
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

}  // namespace

std::vector<std::string> read_labels(const std::filesystem::path& file, std::int64_t classes) {
  const std::vector<std::string> labels = read_lines(file);
  const std::string origin = printable_path(file);
  if (static_cast<std::int64_t>(labels.size()) != classes)
    fail(Code::kShapeMismatch, "[import] {}: {} labels for a classifier of {} classes; give one label a line", origin,
         labels.size(), classes);
  std::set<std::string> seen;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i].empty()) fail(Code::kUnsupported, "[import] {}: line {} is empty", origin, i + 1);
    if (!seen.insert(labels[i]).second)
      fail(Code::kUnsupported, "[import] {}: label '{}' twice (line {}); labels must differ", origin,
           printable(labels[i]), i + 1);
  }
  return labels;
}

std::vector<std::string> numbered_labels(std::int64_t classes) {
  std::vector<std::string> labels;
  for (std::int64_t c = 0; c < classes; ++c) labels.push_back(fmt::format("class_{}", c));
  return labels;
}

}  // namespace recast
