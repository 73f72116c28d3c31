// WebP through libwebp: still images, lossy and lossless.
#include <webp/decode.h>

#include <vector>

#include "codec.h"
#include "recast/base/error.h"

namespace recast {
namespace {

[[noreturn]] void fail_webp(VP8StatusCode status, std::string_view origin) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      fail(Code::kUnavailable, "[data] {}: not enough memory to decode the WebP image", origin);
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      fail(Code::kUnsupported, "[data] {}: WebP of an uncommon kind; convert it to PNG", origin);
    case VP8_STATUS_NOT_ENOUGH_DATA:
      fail(Code::kDataCorruption, "[data] {}: damaged or truncated WebP (it ends too early); replace or remove it",
           origin);
    default:
      fail(Code::kDataCorruption, "[data] {}: damaged or truncated WebP (status {}); replace or remove it", origin,
           static_cast<int>(status));
  }
}

WebPBitstreamFeatures features_of(std::string_view bytes, std::string_view origin) {
  WebPBitstreamFeatures features;
  const auto status = WebPGetFeatures(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), &features);
  if (status != VP8_STATUS_OK) fail_webp(status, origin);
  if (features.has_animation) {
    fail(Code::kUnsupported, "[data] {}: an animated WebP image; keep one frame of it, as WebP, PNG or JPEG", origin);
  }
  return features;
}

}  // namespace

Picture decode_webp(std::string_view bytes, std::string_view origin) {
  const auto features = features_of(bytes, origin);
  const std::int64_t width = features.width, height = features.height;
  check_image_size(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height), origin);
  const bool alpha = features.has_alpha != 0;
  const std::int64_t channels = alpha ? 4 : 3;
  // Not zeroed: libwebp fills it or fails. The planes are taken after its own memory was given back.
  const auto size = static_cast<std::size_t>(channels * width * height);
  const auto pixels = std::make_unique_for_overwrite<std::uint8_t[]>(size);
  WebPDecoderConfig config;
  RECAST_ASSERT(WebPInitDecoderConfig(&config));
  config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {pixels.get(), static_cast<int>(channels * width), size};
  const auto status = WebPDecode(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), &config);
  WebPFreeDecBuffer(&config.output);
  if (status != VP8_STATUS_OK) fail_webp(status, origin);
  Picture picture = Picture::of_size(height, width);
  if (alpha) {
    composite_on_white(pixels.get(), picture);
  } else {
    spread_rgb(pixels.get(), picture);
  }
  return picture;
}

}  // namespace recast
