// Any picture.
#include "data/orientation.h"
#include "recast/data/picture.h"
#include "stated_size.h"
#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(image) {
  // Large pictures take seconds under the sanitizers and reach nothing new; those beyond the limits cost nothing.
  constexpr std::uint64_t kSlowPixels = 1 << 20;
  const auto stated = fuzz::stated_size(bytes);
  const std::uint64_t pixels = stated ? stated->width * stated->height : 0;
  if (pixels > kSlowPixels && pixels <= kMaxImagePixels) return;
  const auto picture = fuzz::accepted([&] { return decode_picture(bytes, "input"); });
  if (!picture) return;
  RECAST_FUZZ_CHECK(picture->height > 0 && picture->width > 0);
  if (stated) {
    const auto width = static_cast<std::int64_t>(stated->width), height = static_cast<std::int64_t>(stated->height);
    const bool lies = orientation_of(bytes) >= 5;
    RECAST_FUZZ_CHECK(picture->width == (lies ? height : width) && picture->height == (lies ? width : height));
  }
  std::uint64_t sum = 0;  // touches every byte, for the address sanitizer
  for (const std::uint8_t value : picture->bytes()) sum += value;
  RECAST_FUZZ_CHECK(sum <= 255 * static_cast<std::uint64_t>(picture->bytes().size()));
}
