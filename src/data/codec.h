#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace recast {

// The decoders behind decode_image(); `bytes` begins with the format's signature.
at::Tensor decode_jpeg(std::string_view bytes, std::string_view origin);
at::Tensor decode_png(std::string_view bytes, std::string_view origin);

/// Throws kExhausted when an image of this size is not to be decoded.
void check_image_size(std::uint64_t width, std::uint64_t height, std::string_view origin);

}  // namespace recast
