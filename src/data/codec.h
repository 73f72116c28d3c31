#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "recast/data/picture.h"

namespace recast {

// The decoders behind decode_picture(); `bytes` begins with the format's signature.
Picture decode_jpeg(std::string_view bytes, std::string_view origin);
Picture decode_png(std::string_view bytes, std::string_view origin);
Picture decode_webp(std::string_view bytes, std::string_view origin);

/// Throws kExhausted when an image of this size is not to be decoded.
void check_image_size(std::uint64_t width, std::uint64_t height, std::string_view origin);

/// Fills the planes from pixels of R G B, or from R G B A over white.
void spread_rgb(const std::uint8_t* rgb, Picture& picture);
void composite_on_white(const std::uint8_t* rgba, Picture& picture);

/// `rgb`: rows of R G B bytes, [height, width, 3].
std::string encode_png_rows(const std::uint8_t* rgb, std::uint32_t height, std::uint32_t width);

}  // namespace recast
