#include "scan_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "recast/format/files.h"

namespace recast {
namespace {

constexpr std::string_view kMagic = "RECAST SCAN 1\n";
constexpr std::size_t kSealBytes = 64;  // the digest in hexadecimal

void put_number(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}

void put_text(std::string& out, std::string_view text) {
  put_number(out, text.size(), 4);
  out += text;
}

// Takes numbers and texts from the front; after a step too far it is at its end and gives zeros.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : left_(bytes) {}

  std::uint64_t number(std::size_t bytes) {
    std::uint64_t value = 0;
    const auto taken = take(bytes);
    for (std::size_t i = 0; i < taken.size(); ++i)
      value |= std::uint64_t{static_cast<unsigned char>(taken[i])} << 8 * i;
    return value;
  }
  std::string_view text() { return take(number(4)); }
  Digest digest() {
    Digest out{};
    const auto taken = take(out.size());
    std::memcpy(out.data(), taken.data(), taken.size());
    return out;
  }
  bool failed() const { return failed_; }
  bool done() const { return left_.empty(); }

 private:
  std::string_view take(std::size_t bytes) {
    if (bytes > left_.size()) failed_ = true, left_ = {}, bytes = 0;
    const auto out = left_.substr(0, bytes);
    left_.remove_prefix(bytes);
    return out;
  }

  std::string_view left_;
  bool failed_ = false;
};

}  // namespace

ScanCache ScanCache::parse(std::string_view bytes, std::string_view dataset_path) {
  constexpr std::size_t kLeastEntryBytes = 4 + 8 + 8 + 8 + 32;
  if (!bytes.starts_with(kMagic) || bytes.size() < kMagic.size() + kSealBytes) return {};
  const auto body = bytes.substr(0, bytes.size() - kSealBytes);
  if (sha256_hex(body) != bytes.substr(body.size())) return {};
  Cursor cursor(body.substr(kMagic.size()));
  if (cursor.text() != dataset_path) return {};
  const std::uint64_t count = cursor.number(8);
  ScanCache cache;
  cache.reserve(std::min<std::uint64_t>(count, body.size() / kLeastEntryBytes));
  for (std::uint64_t i = 0; i < count && !cursor.failed(); ++i) {
    const auto id = cursor.text();
    const FileStamp stamp{cursor.number(8), static_cast<std::int64_t>(cursor.number(8)),
                          static_cast<std::int64_t>(cursor.number(8))};
    cache.put(std::string(id), {stamp, cursor.digest()});
  }
  return cursor.failed() || !cursor.done() ? ScanCache() : cache;
}

std::string ScanCache::bytes(std::string_view dataset_path) const {
  std::vector<const std::pair<const std::string, Entry>*> sorted;
  sorted.reserve(entries_.size());
  for (const auto& entry : entries_) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  std::string out(kMagic);
  put_text(out, dataset_path);
  put_number(out, sorted.size(), 8);
  for (const auto* entry : sorted) {
    put_text(out, entry->first);
    put_number(out, entry->second.stamp.size, 8);
    put_number(out, static_cast<std::uint64_t>(entry->second.stamp.modified_ns), 8);
    put_number(out, static_cast<std::uint64_t>(entry->second.stamp.changed_ns), 8);
    out.append(reinterpret_cast<const char*>(entry->second.digest.data()), entry->second.digest.size());
  }
  return out + sha256_hex(out);
}

const Digest* ScanCache::find(const std::string& id, const FileStamp& stamp) const {
  const auto found = entries_.find(id);
  return found != entries_.end() && found->second.stamp == stamp ? &found->second.digest : nullptr;
}

}  // namespace recast
