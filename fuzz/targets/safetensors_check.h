#pragma once
#include <algorithm>

#include "recast/format/safetensors.h"
#include "target.h"

namespace recast::fuzz {

inline SafetensorsHeader parse_header(std::string_view file, std::uint64_t file_size, const SafetensorsLimits& limits) {
  return parse_safetensors_header({reinterpret_cast<const std::byte*>(file.data()), file.size()}, file_size, limits,
                                  "input");
}

/// What readers of an accepted header rely on: the entries cover the data exactly, each as long as it says.
inline void check_layout(const SafetensorsHeader& header, std::uint64_t file_size, const SafetensorsLimits& limits) {
  RECAST_FUZZ_CHECK(header.entries.size() <= limits.tensors);
  std::uint64_t offset = 0;
  for (const TensorEntry& entry : header.entries) {
    RECAST_FUZZ_CHECK(entry.begin == offset && entry.end >= entry.begin);
    RECAST_FUZZ_CHECK(entry.shape.size() <= limits.rank && entry.name.size() <= limits.name_bytes);
    unsigned __int128 bits = safetensors_dtype_bits(entry.dtype);
    RECAST_FUZZ_CHECK(bits > 0);
    for (const std::int64_t dimension : entry.shape) {
      RECAST_FUZZ_CHECK(dimension >= 0);
      bits *= static_cast<std::uint64_t>(dimension);
    }
    RECAST_FUZZ_CHECK(bits == static_cast<unsigned __int128>(entry.end - entry.begin) * 8);
    offset = entry.end;
  }
  RECAST_FUZZ_CHECK(header.data_begin + offset == file_size);
}

/// Written anew, the file is accepted and says the same; written once more, it has the same bytes.
inline void check_rewriting(const SafetensorsHeader& header) {
  std::vector<TensorEntry> entries = header.entries;
  assign_safetensors_offsets(entries);
  const std::string written = encode_safetensors_header(entries, header.metadata);
  const std::uint64_t size = written.size() + (entries.empty() ? 0 : entries.back().end);
  const SafetensorsHeader again = parse_header(written, size, {});
  RECAST_FUZZ_CHECK(again.entries == entries);
  RECAST_FUZZ_CHECK(again.metadata == header.metadata);
  RECAST_FUZZ_CHECK(encode_safetensors_header(again.entries, again.metadata) == written);
  const auto by_name = [](const TensorEntry& a, const TensorEntry& b) { return a.name < b.name; };
  std::vector<TensorEntry> before = header.entries;
  std::sort(before.begin(), before.end(), by_name);
  std::sort(entries.begin(), entries.end(), by_name);
  RECAST_FUZZ_CHECK(before.size() == entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    RECAST_FUZZ_CHECK(before[i].name == entries[i].name && before[i].dtype == entries[i].dtype);
    RECAST_FUZZ_CHECK(before[i].shape == entries[i].shape);
  }
}

}  // namespace recast::fuzz
