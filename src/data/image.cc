#include "recast/data/image.h"

#include <ATen/ATen.h>

#include "codec.h"
#include "recast/base/error.h"

namespace recast {

at::Tensor to_tensor(Picture picture) {
  std::uint8_t* planes = picture.planes.release();
  return at::from_blob(
      planes, {3, picture.height, picture.width}, [](void* p) { delete[] static_cast<std::uint8_t*>(p); }, at::kByte);
}

at::Tensor decode_image(std::string_view bytes, std::string_view origin) {
  return to_tensor(decode_picture(bytes, origin));
}

std::string encode_png(const at::Tensor& rgb) {
  if (rgb.dim() != 3 || rgb.size(0) != 3 || rgb.scalar_type() != at::kByte || rgb.numel() == 0) {
    fail(Code::kShapeMismatch, "[data] encode_png takes uint8 [3, H, W], got {} of rank {}",
         c10::toString(rgb.scalar_type()), rgb.dim());
  }
  const at::Tensor rows = rgb.cpu().permute({1, 2, 0}).contiguous();
  return encode_png_rows(rows.data_ptr<std::uint8_t>(), static_cast<std::uint32_t>(rows.size(0)),
                         static_cast<std::uint32_t>(rows.size(1)));
}

}  // namespace recast
