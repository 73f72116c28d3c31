// A CSV file (RFC 4180) with columns path, label and, if wanted, split; others are ignored.
#include <algorithm>
#include <map>
#include <optional>

#include "recast/base/error.h"
#include "recast/base/lower_case.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "source.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::uint64_t kMaxCsvBytes = 1ull << 30;

std::string trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t");
  return begin == text.npos ? std::string() : std::string(text.substr(begin, end - begin + 1));
}

struct Row {
  std::size_t line;
  std::vector<std::string> fields;
};

// Reads rows one after the other; knows the line that each began on.
class CsvReader {
 public:
  CsvReader(std::string_view text, std::string origin) : text_(text), origin_(std::move(origin)) {
    if (text_.starts_with("\xff\xfe") || text_.starts_with("\xfe\xff")) {
      fail(Code::kUnsupported, "[data] {}: is UTF-16 text; save it as UTF-8", origin_);
    }
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
  }

  /// The next row that is not blank.
  std::optional<Row> next() {
    while (at_ < text_.size()) {
      Row row{line_, {}};
      do row.fields.push_back(field());
      while (!ends_row());
      if (row.fields.size() > 1 || !row.fields.front().empty()) return row;
    }
    return std::nullopt;
  }

  template <class... Args>
  [[noreturn]] void fail_at(std::size_t line, Code code, fmt::format_string<Args...> text, Args&&... args) const {
    fail(code, "[data] {} line {}: {}", origin_, line, fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  bool done() const { return at_ >= text_.size(); }

  // Steps over what ends a field; true where that ends the row as well.
  bool ends_row() {
    if (done()) return true;
    if (text_[at_] == ',') return ++at_, false;
    if (text_[at_] == '\r') ++at_;
    if (!done() && text_[at_] == '\n') ++at_;
    ++line_;
    return true;
  }

  std::string field() {
    const auto start = text_.find_first_not_of(" \t", at_);
    if (start != text_.npos && text_[start] == '"') {
      at_ = start + 1;
      return quoted();
    }
    const auto end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    auto out = checked(trimmed(text_.substr(at_, end - at_)), line_);
    at_ = end;
    return out;
  }

  std::string quoted() {
    const std::size_t first = line_;
    std::string out;
    for (;; ++at_) {
      if (done()) fail_at(first, Code::kDataCorruption, "a quote is never closed");
      if (text_[at_] == '\n') ++line_;
      if (text_[at_] != '"') {
        out += text_[at_];
      } else if (text_.substr(at_).starts_with("\"\"")) {
        out += text_[at_++];
      } else {
        break;
      }
    }
    ++at_;
    at_ = std::min(text_.find_first_not_of(" \t", at_), text_.size());
    if (!done() && text_[at_] != ',' && text_[at_] != '\r' && text_[at_] != '\n') {
      fail_at(line_, Code::kDataCorruption, "text after a closing quote");
    }
    return checked(std::move(out), first);
  }

  std::string checked(std::string field, std::size_t line) const {
    if (field.find('\0') != field.npos) fail_at(line, Code::kDataCorruption, "holds a NUL byte: is this a text file?");
    if (!is_utf8(field)) fail_at(line, Code::kDataCorruption, "'{}' is not UTF-8; save it as UTF-8", printable(field));
    return field;
  }

  const std::string_view text_;
  const std::string origin_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
};

struct Columns {
  std::size_t count, path, label;
  std::optional<std::size_t> split;
};

Columns find_columns(const Row& header, const std::string& origin) {
  const auto find = [&](std::string_view wanted) {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < header.fields.size(); ++i) {
      if (lower_case(header.fields[i]) != wanted) continue;
      if (found) {
        fail(Code::kUnsupported, "[data] {}: columns {} and {} are both called '{}'; rename one of them", origin,
             *found + 1, i + 1, wanted);
      }
      found = i;
    }
    return found;
  };
  const auto path = find("path"), label = find("label");
  if (!path || !label) {
    std::string found;
    for (const auto& name : header.fields) found += (found.empty() ? "" : ", ") + printable(name);
    fail(Code::kUnsupported,
         "[data] {}: no column '{}'; its first line must name the columns path and label, found: {}", origin,
         path ? "label" : "path", printable(found, 200));
  }
  return {header.fields.size(), *path, *label, find("split")};
}

class CsvSource final : public RecordSource {
 public:
  explicit CsvSource(const fs::path& file) : folder_(file.parent_path()) {
    const auto text = read_file(file, kMaxCsvBytes);
    const auto origin = printable_path(file);
    CsvReader reader(text, origin);
    const auto header = reader.next();
    if (!header) fail(Code::kDataCorruption, "[data] {}: is empty, expected a line 'path,label' and rows", origin);
    const Columns columns = find_columns(*header, origin);
    while (const auto row = reader.next()) add(*row, columns, reader);
    if (records_.empty()) fail(Code::kUnsupported, "[data] {}: has no rows below its first line", origin);
  }

  std::string_view kind() const override { return "csv"; }
  Picture image(std::size_t record) const override { return read_image(folder_ / records_[record].id); }
  StoredImage stored(std::size_t record) const override { return {folder_ / records_[record].id, {}}; }

 private:
  void add(const Row& row, const Columns& columns, const CsvReader& reader) {
    if (row.fields.size() != columns.count) {
      reader.fail_at(row.line, Code::kDataCorruption, "{} fields, the first line has {}", row.fields.size(),
                     columns.count);
    }
    const auto &path = row.fields[columns.path], &label = row.fields[columns.label];
    if (path.empty()) reader.fail_at(row.line, Code::kDataCorruption, "no path");
    if (label.empty()) reader.fail_at(row.line, Code::kDataCorruption, "no label for {}", printable(path));
    std::error_code error;
    if (!fs::is_regular_file(folder_ / path, error)) {
      reader.fail_at(row.line, Code::kNotFound, "no file {} (paths are relative to the CSV file)",
                     printable((folder_ / path).string(), 300));
    }
    auto id = fs::path(path).lexically_normal().generic_string();
    const auto [first, is_new] = lines_.emplace(id, row.line);
    if (!is_new) {
      reader.fail_at(row.line, Code::kDataCorruption, "{} is listed already on line {}", printable(path),
                     first->second);
    }
    const auto given = columns.split ? given_by(row.fields[*columns.split], row.line, reader) : Given::kNone;
    records_.push_back({std::move(id), label, given});
  }

  static Given given_by(const std::string& split, std::size_t line, const CsvReader& reader) {
    if (split == "train") return Given::kTrain;
    if (split == "val" || split == "validation") return Given::kValidation;
    if (split == "test") return Given::kTest;
    reader.fail_at(line, Code::kDataCorruption, "split '{}' is none of train, val, validation, test", printable(split));
  }

  const fs::path folder_;
  std::map<std::string, std::size_t> lines_;
};

}  // namespace

std::unique_ptr<RecordSource> open_csv(const fs::path& file) { return std::make_unique<CsvSource>(file); }

}  // namespace recast
