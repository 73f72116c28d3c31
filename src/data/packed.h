#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "source.h"

namespace recast {

/// Images of one size one after the other in a file, each at `first + i * stride`, as planes.
struct PackedImages {
  std::string bytes;
  std::size_t count, first, stride;
  std::int64_t channels, height, width;  ///< channels 1 (grey) or 3
};

/// A source whose files are held in memory as they are.
class PackedSource : public RecordSource {
 public:
  explicit PackedSource(std::string_view kind) : kind_(kind) {}

  /// Adds a file; its records are called NAME#0, NAME#1, ... `labels` has a class name for each.
  void add(PackedImages images, const std::string& name, const std::vector<std::string>& labels, Given given);

  std::string_view kind() const override { return kind_; }
  Picture image(std::size_t record) const override;
  StoredImage stored(std::size_t record) const override;

 private:
  const PackedImages& file_of(std::size_t record, std::size_t& place) const;

  const std::string_view kind_;
  std::vector<PackedImages> files_;
  std::vector<std::size_t> starts_;  // first record of each file
};

inline constexpr std::uint64_t kMaxPackedBytes = 4ull << 30;

}  // namespace recast
