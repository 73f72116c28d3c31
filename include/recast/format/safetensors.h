#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

// The header of a safetensors file: which tensors, where. Knows nothing of torch, so that a fuzz target links little.
// Layout of a file: 8 bytes header length N (little endian), N bytes of JSON, then the data of all tensors without
// gaps. Everything here is pure: no file is touched, all calls may run in parallel.

/// One tensor as the header describes it.
struct TensorEntry {
  std::string name;                 ///< UTF-8, without control characters
  std::string dtype;                ///< as written in the file: "F32", "BF16", ...
  std::vector<std::int64_t> shape;  ///< empty for a scalar; a dimension may be 0
  std::uint64_t begin = 0;          ///< first byte, counted from the start of the data
  std::uint64_t end = 0;            ///< one past the last byte
  bool operator==(const TensorEntry&) const = default;
};

/// What a reader accepts at most. Every number is checked before memory is asked for.
struct SafetensorsLimits {
  std::uint64_t header_bytes = 100'000'000;
  std::uint64_t file_bytes = 100'000'000'000;
  std::size_t tensors = 65'536;
  std::size_t rank = 8;
  std::size_t name_bytes = 512;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  ///< by offset: entry i+1 begins where entry i ends
  std::map<std::string, std::string> metadata;
  std::uint64_t data_begin = 0;  ///< offset in the file of the first data byte: 8 + header length
};

/// Bytes at the start of a file that are enough for safetensors_prefix_bytes() to judge it.
inline constexpr std::size_t kSafetensorsProbeBytes = 512;

/// How many bytes of the file parse_safetensors_header() needs: 8 + header length.
/// `probe`: the first kSafetensorsProbeBytes of the file, or all of a shorter file.
/// `origin` names the file in messages.
/// Throws  kUnsupported: another kind of file (Git LFS pointer, HTML page, zip, gzip, ELF, pickle, ...), named;
///         kDataCorruption: too short, or the header is longer than the file;  kExhausted: beyond a limit.
std::uint64_t safetensors_prefix_bytes(std::span<const std::byte> probe, std::uint64_t file_size,
                                       const SafetensorsLimits& limits, std::string_view origin);

/// Reads and checks the header. Afterwards the entries are known to cover the data of a file of `file_size` bytes
/// exactly, without overlap or hole, each as long as its dtype and shape say.
/// `prefix_or_file`: at least the first safetensors_prefix_bytes(); `file_size`: of the whole file.
/// Throws  as safetensors_prefix_bytes(); kDataCorruption: any lie in the header; kUnsupported: unknown dtype.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix_or_file, std::uint64_t file_size,
                                           const SafetensorsLimits& limits, std::string_view origin);

/// Sorts entries by element size (largest first), then name, and sets their offsets. So every tensor is aligned for its
/// dtype, and the order of the file depends on nothing but names, dtypes and shapes.
/// Throws  kUnsupported: unknown dtype;  kInvalidArgument: negative dimension, or sizes that overflow.
void assign_safetensors_offsets(std::vector<TensorEntry>& entries);

/// The bytes before the data: length and JSON, keys sorted, padded with spaces to a multiple of 8.
/// `entries` need offsets as assign_safetensors_offsets() sets them.
/// Throws  kInvalidArgument: what parse_safetensors_header() with default limits would refuse.
std::string encode_safetensors_header(std::span<const TensorEntry> entries,
                                      const std::map<std::string, std::string>& metadata);

/// Width of one element in bits ("F32" is 32), or 0 for a dtype that the format does not know.
unsigned safetensors_dtype_bits(std::string_view dtype);

}  // namespace recast
