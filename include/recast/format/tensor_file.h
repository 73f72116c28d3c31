#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "recast/format/safetensors.h"

namespace recast {

using NamedTensors = std::map<std::string, at::Tensor, std::less<>>;

/// A safetensors file in memory. Dtypes: F64 F32 F16 BF16, I64 I32 I16 I8, U64 U32 U16 U8, BOOL, C64, F8_E4M3 F8_E5M2
/// F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ, and F4, two of which are one element of torch's Float4_e2m1fn_x2.
struct TensorFile {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};

// All functions may run in parallel. Tensors that come out are dense, contiguous, on the CPU, without gradient, and
// each owns its memory (no view of the file, no shared buffer). NaN and infinity are let through: see require_finite().

/// Reads a whole file with read(2), never mmap: a file that shrinks meanwhile is an error, not a signal.
/// Throws  as parse_safetensors_header(); kNotFound: no such file;  kUnavailable: the disk says no;
///         kDataCorruption: the file changed while it was read, or a BOOL byte is neither 0 nor 1;
///         kUnsupported: a dtype that is not in the list above, F4 not in pairs;  kExhausted: not enough memory.
TensorFile read_tensor_file(const std::filesystem::path& path, const SafetensorsLimits& limits = {});

/// The same for a file held in memory. `origin` names it in messages. The bytes are copied.
TensorFile decode_tensor_file(std::string_view bytes, std::string_view origin, const SafetensorsLimits& limits = {});

/// The bytes of a file: equal tensors and metadata give identical bytes, whatever their strides, devices or order.
/// Throws  kUnsupported: a sparse, quantised, meta or undefined tensor, or a dtype that is not in the list above;
///         kInvalidArgument: names, ranks or counts that no reader of ours would accept.
std::string encode_tensor_file(const TensorFile& file);

/// Writes those bytes as write_file_atomically() does, without holding a second copy of all tensors.
void write_tensor_file(const std::filesystem::path& path, const TensorFile& file);

/// Values that are no numbers; of a complex tensor, parts.
struct NonFinite {
  std::int64_t nan = 0;
  std::int64_t infinite = 0;
};
/// `tensor`: dense, of one of the dtypes above, on any device. Integers have none.
NonFinite count_non_finite(const at::Tensor& tensor);

/// Throws kDataCorruption naming the first floating tensor that holds NaN or infinity, and how many of each.
void require_finite(const NamedTensors& tensors, std::string_view origin);

}  // namespace recast
