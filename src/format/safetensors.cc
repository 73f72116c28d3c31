#include "recast/format/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "foreign_file.h"
#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kExactIntegers = std::uint64_t{1} << 53;  // beyond it, readers that use doubles disagree
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::string_view kSpaces = " \t\r\n";

struct Dtype {
  std::string_view name;
  unsigned bits;
};
constexpr std::array<Dtype, 22> kDtypes{
    {{"F64", 64},        {"I64", 64},    {"U64", 64},    {"C64", 64},    {"F32", 32},    {"I32", 32},
     {"U32", 32},        {"F16", 16},    {"BF16", 16},   {"I16", 16},    {"U16", 16},    {"I8", 8},
     {"U8", 8},          {"BOOL", 8},    {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
     {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}}};

std::uint64_t read_length(std::span<const std::byte> bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return length;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A length below 4 GiB, then an object. Says which error fits a bad file: a damaged one of ours, or another kind.
bool looks_like_safetensors(std::span<const std::byte> probe) {
  if (probe.size() < kLengthBytes || read_length(probe) >> 32 != 0) return false;
  const std::string_view header = text_of(probe.subspan(kLengthBytes));
  const auto first = header.find_first_not_of(kSpaces);
  return first != header.npos && header[first] == '{';
}

std::optional<std::uint64_t> checked_product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// Bytes of a dense tensor, or nothing where they overflow. Dimensions of 0 count as 1 until the end, because strides
/// are products of the other dimensions and must not overflow either.
std::optional<std::uint64_t> tensor_bytes(const std::vector<std::int64_t>& shape, unsigned bits) {
  std::optional<std::uint64_t> total = bits;
  bool empty = false;
  for (const std::int64_t dimension : shape) {
    empty = empty || dimension == 0;
    total = checked_product(*total, static_cast<std::uint64_t>(std::max<std::int64_t>(dimension, 1)));
    if (!total || *total > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
  }
  if (empty) return 0;
  return *total % 8 == 0 ? std::optional(*total / 8) : std::nullopt;
}

/// Turns the JSON of a header into entries, each sound in itself.
class HeaderReader {
 public:
  HeaderReader(const SafetensorsLimits& limits, std::string_view origin) : limits_(limits), origin_(origin) {}

  SafetensorsHeader read(const json& root) const {
    if (!root.is_object()) corrupt("the header is a JSON {}; expected an object", root.type_name());
    SafetensorsHeader header;
    const std::size_t tensors = root.size() - (root.contains(kMetadataKey) ? 1 : 0);
    if (tensors > limits_.tensors) {
      fail(Code::kExhausted, "[safetensors] {}: {} tensors; at most {} are accepted", origin_, tensors,
           limits_.tensors);
    }
    header.entries.reserve(tensors);
    for (const auto& [key, value] : root.items()) {
      if (key == kMetadataKey) {
        header.metadata = read_metadata(value);
      } else {
        header.entries.push_back(read_entry(key, value));
      }
    }
    return header;
  }

 private:
  template <class... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> text, Args&&... args) const {
    fail(Code::kDataCorruption, "[safetensors] {}: {}", origin_, fmt::format(text, std::forward<Args>(args)...));
  }

  std::map<std::string, std::string> read_metadata(const json& value) const {
    if (!value.is_object()) corrupt("__metadata__ is a JSON {}; expected an object of strings", value.type_name());
    std::map<std::string, std::string> metadata;
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) {
        corrupt("__metadata__ \"{}\" is a JSON {}; expected a string", printable(key), item.type_name());
      }
      metadata.emplace(key, item.get<std::string>());
    }
    return metadata;
  }

  TensorEntry read_entry(const std::string& name, const json& value) const {
    check_name(name);
    const std::string shown = printable(name);
    if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
        !value.contains("data_offsets")) {
      corrupt("tensor '{}' is {}; expected an object of dtype, shape and data_offsets, and nothing else", shown,
              printable(value.dump(), 200));
    }
    TensorEntry entry;
    entry.name = name;
    if (!value["dtype"].is_string()) {
      corrupt("tensor '{}': dtype is a JSON {}; expected a string", shown, value["dtype"].type_name());
    }
    entry.dtype = value["dtype"].get<std::string>();
    read_shape(value["shape"], entry, shown);
    read_offsets(value["data_offsets"], entry, shown);
    check_size(entry, shown);
    return entry;
  }

  void check_name(const std::string& name) const {
    if (name.size() > limits_.name_bytes) {
      fail(Code::kExhausted, "[safetensors] {}: the name of tensor '{}' has {} bytes; at most {} are accepted", origin_,
           printable(name), name.size(), limits_.name_bytes);
    }
    const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
    if (std::any_of(name.begin(), name.end(), is_control)) {
      corrupt("the name of tensor '{}' holds a control character; none is accepted", printable(name));
    }
  }

  std::uint64_t read_number(const json& value, std::string_view field, const std::string& shown) const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= kExactIntegers) {
      corrupt("tensor '{}': {} holds {}; expected whole numbers from 0 to 2^53 - 1", shown, field,
              printable(value.dump()));
    }
    return value.get<std::uint64_t>();
  }

  void read_shape(const json& value, TensorEntry& entry, const std::string& shown) const {
    if (!value.is_array()) corrupt("tensor '{}': shape is a JSON {}; expected an array", shown, value.type_name());
    if (value.size() > limits_.rank) {
      fail(Code::kExhausted, "[safetensors] {}: tensor '{}' has {} dimensions; at most {} are accepted", origin_, shown,
           value.size(), limits_.rank);
    }
    for (const json& item : value) {
      entry.shape.push_back(static_cast<std::int64_t>(read_number(item, "shape", shown)));
    }
  }

  void read_offsets(const json& value, TensorEntry& entry, const std::string& shown) const {
    if (!value.is_array() || value.size() != 2) {
      corrupt("tensor '{}': data_offsets is {}; expected an array of two numbers", shown, printable(value.dump()));
    }
    entry.begin = read_number(value[0], "data_offsets", shown);
    entry.end = read_number(value[1], "data_offsets", shown);
    if (entry.begin > entry.end) {
      corrupt("tensor '{}': data_offsets [{}, {}] run backwards; the first must not exceed the second", shown,
              entry.begin, entry.end);
    }
  }

  void check_size(const TensorEntry& entry, const std::string& shown) const {
    const unsigned bits = safetensors_dtype_bits(entry.dtype);
    if (bits == 0) {
      fail(Code::kUnsupported, "[safetensors] {}: tensor '{}' has the unknown dtype '{}'; convert it to F32 first",
           origin_, shown, printable(entry.dtype));
    }
    const std::optional<std::uint64_t> bytes = tensor_bytes(entry.shape, bits);
    const auto shape = [&] { return fmt::format("[{}]", fmt::join(entry.shape, ", ")); };
    if (!bytes) {
      corrupt("tensor '{}': the size of shape {} in {} overflows 64 bits or is no whole number of bytes", shown,
              shape(), entry.dtype);
    }
    if (*bytes != entry.end - entry.begin) {
      corrupt("tensor '{}': data_offsets [{}, {}] hold {} bytes; shape {} in {} takes {}", shown, entry.begin,
              entry.end, entry.end - entry.begin, shape(), entry.dtype, *bytes);
    }
  }

  const SafetensorsLimits& limits_;
  std::string_view origin_;
};

void sort_by_offset(std::vector<TensorEntry>& entries) {
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
}

/// Sorted entries must tile [0, data_bytes): one byte that no tensor owns could hide another file.
void check_tiling(const std::vector<TensorEntry>& entries, std::uint64_t data_bytes, std::string_view origin) {
  std::uint64_t expected = 0;
  std::string previous = "the header";
  for (const TensorEntry& entry : entries) {
    if (entry.begin != expected) {
      fail(Code::kDataCorruption,
           "[safetensors] {}: tensor '{}' begins at byte {} of the data, which is {} {}; expected byte {}", origin,
           printable(entry.name), entry.begin, entry.begin < expected ? "inside" : "after a gap behind", previous,
           expected);
    }
    expected = entry.end;
    previous = "tensor '" + printable(entry.name) + "'";
  }
  if (expected > data_bytes) {
    fail(Code::kDataCorruption,
         "[safetensors] {}: cut off: the header promises {} bytes of data, the file holds {}; fetch it again", origin,
         expected, data_bytes);
  }
  if (expected < data_bytes) {
    fail(Code::kDataCorruption, "[safetensors] {}: {} bytes follow the last tensor; the file must end with it", origin,
         data_bytes - expected);
  }
}

}  // namespace

unsigned safetensors_dtype_bits(std::string_view dtype) {
  const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype& d) { return d.name == dtype; });
  return found == kDtypes.end() ? 0 : found->bits;
}

std::uint64_t safetensors_prefix_bytes(std::span<const std::byte> probe, std::uint64_t file_size,
                                       const SafetensorsLimits& limits, std::string_view origin) {
  if (!looks_like_safetensors(probe)) refuse_foreign_file(text_of(probe), origin);
  if (file_size < kLengthBytes || probe.size() < kLengthBytes) {
    fail(Code::kDataCorruption, "[safetensors] {}: {} bytes are too short; the shortest file has 10", origin,
         std::min<std::uint64_t>(file_size, probe.size()));
  }
  const std::uint64_t length = read_length(probe);
  if (length > file_size - kLengthBytes) {
    fail(Code::kDataCorruption,
         "[safetensors] {}: the header claims {} bytes, {} follow its length; the file is cut off or no safetensors "
         "file",
         origin, length, file_size - kLengthBytes);
  }
  if (length > limits.header_bytes) {
    fail(Code::kExhausted, "[safetensors] {}: the header has {} bytes; at most {} are accepted", origin, length,
         limits.header_bytes);
  }
  if (file_size > limits.file_bytes) {
    fail(Code::kExhausted, "[safetensors] {}: the file has {} bytes; at most {} are accepted", origin, file_size,
         limits.file_bytes);
  }
  return kLengthBytes + length;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix_or_file, std::uint64_t file_size,
                                           const SafetensorsLimits& limits, std::string_view origin) {
  const std::uint64_t data_begin = safetensors_prefix_bytes(prefix_or_file, file_size, limits, origin);
  if (prefix_or_file.size() < data_begin) {
    fail(Code::kInvalidArgument, "[safetensors] {}: got {} bytes of the file; the header needs {}", origin,
         prefix_or_file.size(), data_begin);
  }
  const std::string_view text = text_of(prefix_or_file.subspan(kLengthBytes, data_begin - kLengthBytes));
  const JsonLimits json_limits{.depth = 64, .values = 100'000 + limits.tensors * (limits.rank + 8)};
  const json root = parse_json(text, fmt::format("{}: safetensors header", origin), json_limits);
  SafetensorsHeader header = HeaderReader(limits, origin).read(root);
  header.data_begin = data_begin;
  sort_by_offset(header.entries);
  check_tiling(header.entries, file_size - data_begin, origin);
  return header;
}

void assign_safetensors_offsets(std::vector<TensorEntry>& entries) {
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    const unsigned bits_a = safetensors_dtype_bits(a.dtype), bits_b = safetensors_dtype_bits(b.dtype);
    return std::tie(bits_b, a.name) < std::tie(bits_a, b.name);
  });
  std::uint64_t offset = 0;
  for (TensorEntry& entry : entries) {
    const unsigned bits = safetensors_dtype_bits(entry.dtype);
    if (bits == 0) {
      fail(Code::kUnsupported, "[safetensors] tensor '{}' has the unknown dtype '{}'", printable(entry.name),
           printable(entry.dtype));
    }
    const bool negative = std::any_of(entry.shape.begin(), entry.shape.end(), [](std::int64_t d) { return d < 0; });
    const std::optional<std::uint64_t> bytes = negative ? std::nullopt : tensor_bytes(entry.shape, bits);
    entry.begin = offset;
    if (!bytes || __builtin_add_overflow(offset, *bytes, &offset)) {
      fail(Code::kInvalidArgument, "[safetensors] tensor '{}': shape [{}] in {} has no size in whole bytes below 2^63",
           printable(entry.name), fmt::join(entry.shape, ", "), entry.dtype);
    }
    entry.end = offset;
  }
}

std::string encode_safetensors_header(std::span<const TensorEntry> entries,
                                      const std::map<std::string, std::string>& metadata) {
  json root = json::object();
  if (!metadata.empty()) root[std::string(kMetadataKey)] = metadata;
  std::uint64_t data_bytes = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.name == kMetadataKey || root.contains(entry.name)) {
      fail(Code::kInvalidArgument, "[safetensors] '{}' cannot name a tensor: {}", printable(entry.name),
           entry.name == kMetadataKey ? "the format reserves it" : "it is given twice");
    }
    root[entry.name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
    data_bytes = std::max(data_bytes, entry.end);
  }
  std::string text = canonical_json(root);
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');
  std::string bytes;
  for (std::size_t i = 0; i < kLengthBytes; ++i)
    bytes += static_cast<char>(std::uint64_t{text.size()} >> (8 * i) & 0xff);
  bytes += text;
  try {
    parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size() + data_bytes, {}, "new file");
  } catch (const Error& error) {
    fail(Code::kInvalidArgument, "{}", error.what());
  }
  return bytes;
}

}  // namespace recast
