#include "recast/data/contents.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <compare>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <tuple>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/data/cache_folder.h"
#include "recast/data/dataset.h"
#include "recast/data/picture.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "scan_cache.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::uint64_t kMaxCacheFileBytes = 2ull << 30;
// Times of files are those of the last tick, and of some disks those of the last second: a change that soon after
// another may leave them as they are.
constexpr std::int64_t kUnsettledNs = 2'000'000'000;

Digest from_hex(const std::string& hex) {
  const auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  Digest out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::uint8_t>(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
  }
  return out;
}

std::int64_t nanoseconds(const timespec& t) { return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

FileStamp stamp_of(const struct stat& status) {
  return {static_cast<std::uint64_t>(status.st_size), nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)};
}

bool is_settled(const FileStamp& stamp) {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto distance = [&](std::int64_t ns) { return std::abs(nanoseconds(now) - ns); };
  return std::min(distance(stamp.modified_ns), distance(stamp.changed_ns)) > kUnsettledNs;
}

class Descriptor {
 public:
  explicit Descriptor(const fs::path& file) : value_(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }

 private:
  const int value_;
};

struct HashedFile {
  Digest digest;
  FileStamp stamp;
};

// Nothing where the file cannot be read, is too large to be decoded anyway, or changes meanwhile.
std::optional<HashedFile> hash_file(const fs::path& file, Sha256& sha, std::vector<char>& buffer) {
  const Descriptor open(file);
  struct stat before, after;
  if (open.get() < 0 || ::fstat(open.get(), &before) != 0 || !S_ISREG(before.st_mode)) return std::nullopt;
  std::uint64_t total = 0;
  ssize_t count;
  while ((count = ::read(open.get(), buffer.data(), buffer.size())) > 0) {
    total += static_cast<std::uint64_t>(count);
    if (total > kMaxImageBytes) break;
    sha.update({buffer.data(), static_cast<std::size_t>(count)});
  }
  const Digest digest = from_hex(sha.finish_hex());  // in any case: it starts the next one afresh
  if (count != 0 || ::fstat(open.get(), &after) != 0 || stamp_of(before) != stamp_of(after)) return std::nullopt;
  if (total != static_cast<std::uint64_t>(after.st_size)) return std::nullopt;
  return HashedFile{digest, stamp_of(after)};
}

struct Place {
  Split split;
  std::int64_t row;
};

// What one image came to.
struct Outcome {
  std::optional<Digest> digest;
  FileStamp stamp;
  bool is_new = false, lasting = false;  // hashed now; fit to be remembered
};

class Scan {
 public:
  Scan(const Dataset& dataset, const ScanCache& cache) : dataset_(dataset), cache_(cache) {
    for (const Split split : kSplits) {
      const auto rows = static_cast<std::int64_t>(dataset.examples(split).size());
      for (std::int64_t row = 0; row < rows; ++row) places_.push_back({split, row});
    }
    outcomes_.resize(places_.size());
  }

  // False if it was stopped before the end.
  bool run(const VisitOptions& options) {
    return visit_rows(static_cast<std::int64_t>(places_.size()), options, [this]() -> RowVisitor {
      return [this, sha = std::make_shared<Sha256>(), buffer = std::vector<char>(1 << 18)](std::int64_t i) mutable {
        outcomes_[static_cast<std::size_t>(i)] = look_at(places_[static_cast<std::size_t>(i)], *sha, buffer);
      };
    });
  }

  const std::vector<Place>& places() const { return places_; }
  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  const std::string& id(const Place& place) const {
    return dataset_.examples(place.split)[static_cast<std::size_t>(place.row)].id;
  }

 private:
  Outcome look_at(const Place& place, Sha256& sha, std::vector<char>& buffer) const {
    const StoredImage stored = dataset_.stored(place.split, place.row);
    if (stored.file.empty()) {
      sha.update(stored.bytes);
      return {from_hex(sha.finish_hex()), {}, true, false};
    }
    struct stat status;
    if (::stat(stored.file.c_str(), &status) == 0) {
      const FileStamp stamp = stamp_of(status);
      if (const Digest* known = cache_.find(id(place), stamp)) return {*known, stamp, false, true};
    }
    const auto hashed = hash_file(stored.file, sha, buffer);
    if (!hashed) return {};
    return {hashed->digest, hashed->stamp, true, is_settled(hashed->stamp)};
  }

  const Dataset& dataset_;
  const ScanCache& cache_;
  std::vector<Place> places_;
  std::vector<Outcome> outcomes_;  // each written by the one worker that drew it
};

// A dataset's file of remembered digests.
class CacheFile {
 public:
  explicit CacheFile(const Dataset& dataset) {
    const fs::path folder = cache_folder();
    if (folder.empty() || dataset.kind() == "idx" || dataset.kind().starts_with("cifar")) return;
    dataset_ = fs::absolute(dataset.path()).lexically_normal().string();
    file_ = folder / "scan" / (sha256_hex(dataset_).substr(0, 32) + ".scan");
  }

  ScanCache read(std::vector<std::string>& notes) const {
    std::error_code error;
    if (file_.empty() || !fs::exists(file_, error)) return {};
    try {
      const auto bytes = read_file(file_, kMaxCacheFileBytes);
      ScanCache cache = ScanCache::parse(bytes, dataset_);
      if (cache.size() == 0) notes.push_back(fmt::format("{} was damaged: it is made anew", shown()));
      return cache;
    } catch (const Error& e) {
      notes.push_back(fmt::format("{} was not used: {}", shown(), e.what()));
      return {};
    }
  }

  void write(const ScanCache& cache, std::vector<std::string>& notes) const {
    if (file_.empty()) return;
    try {
      fs::create_directories(file_.parent_path());
      write_file_atomically(file_, cache.bytes(dataset_));
    } catch (const std::exception& e) {
      notes.push_back(fmt::format("hashes were not kept, so the next start hashes again: {}", e.what()));
    }
  }

 private:
  std::string shown() const { return printable_path(file_); }

  std::string dataset_;
  fs::path file_;
};

void remember(ScanCache& cache, const Scan& scan, const CacheFile& file, std::vector<std::string>& notes) {
  bool changed = false;
  for (std::size_t i = 0; i < scan.places().size(); ++i) {
    const Outcome& outcome = scan.outcomes()[i];
    if (!outcome.is_new || !outcome.lasting) continue;
    cache.put(scan.id(scan.places()[i]), {outcome.stamp, *outcome.digest});
    changed = true;
  }
  if (changed) file.write(cache, notes);
}

}  // namespace

Contents scan_contents(const Dataset& dataset, const VisitOptions& options) {
  const Stopwatch watch;
  Contents contents;
  const CacheFile file(dataset);
  ScanCache cache = file.read(contents.notes);
  Scan scan(dataset, cache);
  const bool complete = scan.run(options);
  remember(cache, scan, file, contents.notes);
  if (!complete) fail(Code::kCancelled, "[data] stopped while hashing images");
  for (std::size_t i = 0; i < scan.places().size(); ++i) {
    const Outcome& outcome = scan.outcomes()[i];
    contents.digests[static_cast<std::size_t>(scan.places()[i].split)].push_back(outcome.digest);
    contents.hashed += outcome.is_new;
    contents.remembered += outcome.digest && !outcome.is_new;
    contents.unreadable += !outcome.digest;
  }
  for (const std::string& note : contents.notes) log_event(LogLevel::kWarn, "cache.unusable", {{"note", note}});
  log_event(LogLevel::kInfo, "dataset.scanned",
            {{"path", dataset.path().native()},
             {"hashed", contents.hashed},
             {"remembered", contents.remembered},
             {"unreadable", contents.unreadable},
             {"ms", watch.ms()}});
  return contents;
}

namespace {

struct Member {
  Digest digest;
  Split split;
  std::size_t row;
  auto operator<=>(const Member&) const = default;
};

std::vector<Member> sorted_members(const Contents& contents) {
  std::vector<Member> members;
  for (const Split split : kSplits) {
    const auto& digests = contents.digests[static_cast<std::size_t>(split)];
    for (std::size_t row = 0; row < digests.size(); ++row) {
      if (digests[row]) members.push_back({*digests[row], split, row});
    }
  }
  std::sort(members.begin(), members.end());
  return members;
}

using Group = std::span<const Member>;  // of one digest: training images first, then validation, then test

void count_group(const Dataset& dataset, const Group& group, Duplicates& out) {
  std::array<std::int64_t, 3> in{};
  bool same_label = true;
  const auto label = [&](const Member& m) { return dataset.examples(m.split)[m.row].label; };
  for (const Member& member : group) {
    ++in[static_cast<std::size_t>(member.split)];
    same_label = same_label && label(member) == label(group.front());
  }
  const auto [train, validation, test] = in;
  if (train > 0) out.test_in_train += test, out.validation_in_train += validation;
  if (validation > 0) out.test_in_validation += test;
  if (!same_label) out.with_other_label += static_cast<std::int64_t>(group.size());
}

// What makes a group worth showing, the worst first; 4: it is no problem.
int rank_of(const Group& group) {
  const auto has = [&](Split split) {
    return std::any_of(group.begin(), group.end(), [&](const Member& m) { return m.split == split; });
  };
  if (has(Split::kTest)) return has(Split::kTrain) ? 0 : has(Split::kValidation) ? 1 : 4;
  return has(Split::kTrain) && has(Split::kValidation) ? 2 : 4;
}

}  // namespace

Duplicates find_duplicates(const Dataset& dataset, const Contents& contents, std::size_t most) {
  Duplicates out;
  const auto members = sorted_members(contents);
  std::vector<std::tuple<int, std::size_t, Group>> shown;  // rank, row of the last member for a steady order
  for (std::size_t begin = 0, end; begin < members.size(); begin = end) {
    for (end = begin + 1; end < members.size() && members[end].digest == members[begin].digest;) ++end;
    const Group group(members.data() + begin, end - begin);
    if (group.size() == 1) continue;
    const auto conflicts = out.with_other_label;
    count_group(dataset, group, out);
    const int rank = out.with_other_label > conflicts ? std::min(rank_of(group), 3) : rank_of(group);
    if (rank < 4) shown.emplace_back(rank, group.back().row, group);
  }
  std::sort(shown.begin(), shown.end(), [](const auto& a, const auto& b) {
    return std::pair(std::get<0>(a), std::get<1>(a)) < std::pair(std::get<0>(b), std::get<1>(b));
  });
  for (std::size_t i = 0; i < std::min(most, shown.size()); ++i) {
    const Group& group = std::get<2>(shown[i]);
    const Member &a = group.front(), &b = group.back();
    out.examples.push_back(
        {a.split, b.split, dataset.examples(a.split)[a.row].id, dataset.examples(b.split)[b.row].id});
  }
  return out;
}

std::string warning_of(const Duplicates& duplicates) {
  if (!duplicates.any()) return "";
  std::vector<std::string> parts;
  const auto add = [&](std::int64_t count, std::string_view what) {
    if (count > 0) parts.push_back(fmt::format("{} {}", count, what));
  };
  add(duplicates.test_in_train, "test images are training images, too");
  add(duplicates.test_in_validation, "test images are validation images, too");
  add(duplicates.validation_in_train, "validation images are training images, too");
  add(duplicates.with_other_label, "images have another label elsewhere");
  std::string first;
  if (!duplicates.examples.empty()) {
    const SameImage& e = duplicates.examples.front();
    first = fmt::format(" ({}: {} is {}: {})", name(e.second_split), printable(e.second, 200), name(e.first_split),
                        printable(e.first, 200));
  }
  return fmt::format(
      "the same bytes lie in the data more than once: {}{}; figures on them say too much, so remove them",
      fmt::join(parts, ", "), first);
}

nlohmann::json describe(const Duplicates& duplicates) {
  auto examples = nlohmann::json::array();
  for (const auto& e : duplicates.examples) {
    examples.push_back({{"first", fmt::format("{}: {}", name(e.first_split), e.first)},
                        {"second", fmt::format("{}: {}", name(e.second_split), e.second)}});
  }
  return {{"test_in_train", duplicates.test_in_train},
          {"test_in_validation", duplicates.test_in_validation},
          {"validation_in_train", duplicates.validation_in_train},
          {"with_other_label", duplicates.with_other_label},
          {"examples", examples}};
}

}  // namespace recast
