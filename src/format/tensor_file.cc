#include "recast/format/tensor_file.h"

#include <ATen/ATen.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor bytes are copied as they are, in the file's order");

/// All dtypes of the format that torch has: not F6_E2M3 and F6_E3M2.
constexpr std::array<std::pair<std::string_view, at::ScalarType>, 20> kTorchDtypes{
    {{"F64", at::kDouble},
     {"F32", at::kFloat},
     {"F16", at::kHalf},
     {"BF16", at::kBFloat16},
     {"I64", at::kLong},
     {"I32", at::kInt},
     {"I16", at::kShort},
     {"I8", at::kChar},
     {"U64", at::kUInt64},
     {"U32", at::kUInt32},
     {"U16", at::kUInt16},
     {"U8", at::kByte},
     {"BOOL", at::kBool},
     {"C64", at::kComplexFloat},
     {"F8_E4M3", at::kFloat8_e4m3fn},
     {"F8_E5M2", at::kFloat8_e5m2},
     {"F8_E8M0", at::kFloat8_e8m0fnu},
     {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
     {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
     {"F4", at::kFloat4_e2m1fn_x2}}};
constexpr std::string_view kDtypeList =
    "F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, C64, F8_E4M3, F8_E5M2, F8_E8M0, F8_E4M3FNUZ, "
    "F8_E5M2FNUZ, F4";

/// A torch element of F4 is a byte with two numbers, which the file counts as two along the last dimension.
constexpr std::int64_t kPacked = 2;

at::ScalarType scalar_type_of(const TensorEntry& entry, std::string_view origin) {
  const auto* found =
      std::find_if(kTorchDtypes.begin(), kTorchDtypes.end(), [&](auto& d) { return d.first == entry.dtype; });
  if (found == kTorchDtypes.end()) {
    fail(Code::kUnsupported, "[safetensors] {}: tensor '{}' has dtype {}; convert it to one of {}", origin,
         printable(entry.name), entry.dtype, kDtypeList);
  }
  return found->second;
}

std::string_view dtype_name(const at::Tensor& tensor, std::string_view name) {
  const at::ScalarType type = tensor.scalar_type();
  const auto* found = std::find_if(kTorchDtypes.begin(), kTorchDtypes.end(), [&](auto& d) { return d.second == type; });
  if (found == kTorchDtypes.end()) {
    fail(Code::kUnsupported, "[safetensors] tensor '{}' has dtype {}; convert it to one of {}", printable(name),
         c10::toString(type), kDtypeList);
  }
  return found->first;
}

/// The shape in torch. Without whole pairs along the last dimension F4 has none.
std::vector<std::int64_t> torch_shape(const TensorEntry& entry, at::ScalarType type, std::string_view origin) {
  std::vector<std::int64_t> shape = entry.shape;
  if (type != at::kFloat4_e2m1fn_x2) return shape;
  if (shape.empty() || shape.back() % kPacked != 0) {
    fail(Code::kUnsupported,
         "[safetensors] {}: tensor '{}' in F4 has {} numbers along its last dimension; expected pairs", origin,
         printable(entry.name), shape.empty() ? 1 : shape.back());
  }
  shape.back() /= kPacked;
  return shape;
}

at::Tensor allocate(const TensorEntry& entry, at::ScalarType type, std::string_view origin) {
  const std::vector<std::int64_t> shape = torch_shape(entry, type, origin);
  try {
    return at::empty(shape, at::TensorOptions().dtype(type).device(at::kCPU));
  } catch (const c10::Error&) {
    fail(Code::kExhausted, "[safetensors] {}: tensor '{}' needs {} bytes of memory, which are not free", origin,
         printable(entry.name), entry.end - entry.begin);
  }
}

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

/// Any other byte in a C++ bool is undefined behaviour further on.
void check_booleans(std::span<const std::byte> bytes, const TensorEntry& entry, std::string_view origin) {
  const auto bad = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; });
  if (bad != bytes.end()) {
    fail(Code::kDataCorruption, "[safetensors] {}: BOOL tensor '{}' holds the byte {}; expected 0 or 1", origin,
         printable(entry.name), std::to_integer<int>(*bad));
  }
}

/// `read_at(offset in the file, bytes to fill)`. Each tensor is read into its own memory: aligned, nothing shared.
template <class ReadAt>
TensorFile read_tensors(SafetensorsHeader header, std::string_view origin, const ReadAt& read_at) {
  for (const TensorEntry& entry : header.entries) torch_shape(entry, scalar_type_of(entry, origin), origin);
  TensorFile file{.tensors = {}, .metadata = std::move(header.metadata)};
  for (const TensorEntry& entry : header.entries) {
    const at::Tensor tensor = allocate(entry, scalar_type_of(entry, origin), origin);
    const std::span<std::byte> bytes = bytes_of(tensor);
    RECAST_ASSERT(bytes.size() == entry.end - entry.begin);
    if (!bytes.empty()) read_at(header.data_begin + entry.begin, bytes);
    if (tensor.scalar_type() == at::kBool) check_booleans(bytes, entry, origin);
    file.tensors.emplace(entry.name, tensor);
  }
  return file;
}

void require_dense(const at::Tensor& tensor, std::string_view name) {
  const char* kind = !tensor.defined()                     ? "undefined"
                     : tensor.layout() != at::kStrided     ? "sparse"
                     : tensor.is_quantized()               ? "quantised"
                     : tensor.is_nested()                  ? "nested"
                     : tensor.device().type() == at::kMeta ? "without data (meta)"
                                                           : nullptr;
  if (kind != nullptr) {
    fail(Code::kUnsupported, "[safetensors] tensor '{}' is {}; only dense tensors can be written", printable(name),
         kind);
  }
}

std::vector<std::int64_t> file_shape(const at::Tensor& tensor, std::string_view name) {
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  if (tensor.scalar_type() != at::kFloat4_e2m1fn_x2) return shape;
  if (shape.empty()) {
    fail(Code::kUnsupported, "[safetensors] tensor '{}' in F4 has no dimension; expected at least one",
         printable(name));
  }
  shape.back() *= kPacked;
  return shape;
}

/// Dense, contiguous, on the CPU, with the bytes of the file. Copied as integers: torch has no copy for some dtypes.
at::Tensor dense_copy(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.detach().resolve_conj().resolve_neg().cpu();
  if (plain.is_contiguous()) return plain;
  switch (plain.scalar_type()) {
    case at::kFloat4_e2m1fn_x2:
    case at::kFloat8_e8m0fnu:
      return plain.view(at::kByte).contiguous();
    default:
      return plain.contiguous();
  }
}

struct Layout {
  std::vector<TensorEntry> entries;
  std::string header;
  std::uint64_t file_bytes() const { return header.size() + (entries.empty() ? 0 : entries.back().end); }
};

Layout lay_out(const TensorFile& file) {
  Layout layout;
  for (const auto& [name, tensor] : file.tensors) {
    require_dense(tensor, name);
    layout.entries.push_back({name, std::string(dtype_name(tensor, name)), file_shape(tensor, name), 0, 0});
  }
  assign_safetensors_offsets(layout.entries);
  layout.header = encode_safetensors_header(layout.entries, file.metadata);
  return layout;
}

/// Hands the bytes of the file over, piece by piece. At most one tensor is copied at a time.
template <class Put>
void emit(const TensorFile& file, const Layout& layout, const Put& put) {
  put(std::string_view(layout.header));
  for (const TensorEntry& entry : layout.entries) {
    const at::Tensor dense = dense_copy(file.tensors.at(entry.name));
    const std::span<const std::byte> bytes = bytes_of(dense);
    RECAST_ASSERT(bytes.size() == entry.end - entry.begin);
    if (!bytes.empty()) put(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
}

/// Numbers at a time: a loop of a fixed length becomes vector instructions.
constexpr std::int64_t kPiece = 1024;

/// A number is not finite if all bits of its exponent are set; it is NaN if a bit of its fraction is set as well. So
/// without its sign it reaches the sign's bit where the distance of that bit from the exponent is added.
template <class Bits>
bool is_finite_piece(const Bits* values, Bits exponent) {
  constexpr Bits kSign = static_cast<Bits>(~(static_cast<Bits>(~Bits{0}) >> 1));
  const Bits distance = static_cast<Bits>(kSign - exponent);
  Bits reached = 0;
  for (std::int64_t i = 0; i < kPiece; ++i)
    reached = static_cast<Bits>(reached | static_cast<Bits>(static_cast<Bits>(values[i] & ~kSign) + distance));
  return (reached & kSign) == 0;
}

/// Plain loops at the speed of memory: a chain of tensor operations over hundreds of small tensors starts the thread
/// pool each time, which took seconds on a busy machine.
template <class Bits>
NonFinite count_non_finite(const at::Tensor& tensor, Bits exponent) {
  constexpr Bits kWithoutSign = static_cast<Bits>(~Bits{0}) >> 1;
  NonFinite found;
  const auto* values = static_cast<const Bits*>(tensor.const_data_ptr());
  for (std::int64_t begin = 0; begin < tensor.numel(); begin += kPiece) {
    const std::int64_t end = std::min(begin + kPiece, tensor.numel());
    if (end - begin == kPiece && is_finite_piece(values + begin, exponent)) continue;
    for (std::int64_t i = begin; i < end; ++i) {
      const Bits magnitude = values[i] & kWithoutSign;
      found.nan += magnitude > exponent;
      found.infinite += magnitude == exponent;
    }
  }
  return found;
}

/// One-byte dtypes: how often the bytes that mean NaN occur.
NonFinite count_bytes(const at::Tensor& tensor, std::initializer_list<unsigned> nan) {
  NonFinite found;
  const auto* values = static_cast<const std::uint8_t*>(tensor.const_data_ptr());
  for (std::int64_t i = 0; i < tensor.numel(); ++i) found.nan += std::ranges::find(nan, values[i]) != nan.end();
  return found;
}

}  // namespace

TensorFile read_tensor_file(const std::filesystem::path& path, const SafetensorsLimits& limits) {
  const InputFile file(path);
  const std::string origin = printable_path(path);
  std::vector<std::byte> prefix(std::min<std::uint64_t>(file.size(), kSafetensorsProbeBytes));
  file.read_at(0, prefix);
  prefix.resize(safetensors_prefix_bytes(prefix, file.size(), limits, origin));
  file.read_at(0, prefix);
  SafetensorsHeader header = parse_safetensors_header(prefix, file.size(), limits, origin);
  TensorFile tensors = read_tensors(std::move(header), origin,
                                    [&](std::uint64_t offset, std::span<std::byte> out) { file.read_at(offset, out); });
  file.check_unchanged();
  return tensors;
}

TensorFile decode_tensor_file(std::string_view bytes, std::string_view origin, const SafetensorsLimits& limits) {
  SafetensorsHeader header = parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), limits, origin);
  return read_tensors(std::move(header), origin, [&](std::uint64_t offset, std::span<std::byte> out) {
    std::memcpy(out.data(), bytes.data() + offset, out.size());
  });
}

std::string encode_tensor_file(const TensorFile& file) {
  const Layout layout = lay_out(file);
  std::string bytes;
  bytes.reserve(layout.file_bytes());
  emit(file, layout, [&](std::string_view piece) { bytes += piece; });
  return bytes;
}

void write_tensor_file(const std::filesystem::path& path, const TensorFile& file) {
  const Layout layout = lay_out(file);
  AtomicFile out(path, layout.file_bytes());
  emit(file, layout, [&](std::string_view piece) { out.write(piece); });
  out.commit();
}

// F8_E4M3 and the FNUZ kinds have NaN and no infinity, F8_E8M0 neither sign nor infinity, F4 and integers none of all.
NonFinite count_non_finite(const at::Tensor& tensor) {
  const at::Tensor dense = dense_copy(tensor);
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return count_non_finite<std::uint64_t>(dense, 0x7ff0'0000'0000'0000);
    case at::kFloat:
      return count_non_finite<std::uint32_t>(dense, 0x7f80'0000);
    case at::kComplexFloat:
      return count_non_finite<std::uint32_t>(at::view_as_real(dense), 0x7f80'0000);
    case at::kHalf:
      return count_non_finite<std::uint16_t>(dense, 0x7c00);
    case at::kBFloat16:
      return count_non_finite<std::uint16_t>(dense, 0x7f80);
    case at::kFloat8_e5m2:
      return count_non_finite<std::uint8_t>(dense, 0x7c);
    case at::kFloat8_e4m3fn:
      return count_bytes(dense, {0x7f, 0xff});
    case at::kFloat8_e8m0fnu:
      return count_bytes(dense, {0xff});
    case at::kFloat8_e4m3fnuz:
    case at::kFloat8_e5m2fnuz:
      return count_bytes(dense, {0x80});
    default:
      return {};
  }
}

void require_finite(const NamedTensors& tensors, std::string_view origin) {
  for (const auto& [name, tensor] : tensors) {
    const NonFinite found = count_non_finite(tensor);
    if (found.nan + found.infinite == 0) continue;
    fail(Code::kDataCorruption,
         "[safetensors] {}: tensor '{}' holds {} NaN and {} infinite values of {}; expected finite numbers only",
         origin, printable(name), found.nan, found.infinite, tensor.numel());
  }
}

}  // namespace recast
