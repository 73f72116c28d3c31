#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

#include "recast/data/picture.h"

namespace recast {

/// Decodes one JPEG or PNG to RGB. The format is found by content, whatever the file is called.
/// JPEG equals Pillow's default decode bit by bit (accurate integer DCT, smooth chroma upsampling); progressive, grey,
/// CMYK and YCCK too. PNG of every colour type and depth, interlaced too; 16 bits keep their high byte; alpha is
/// composited on white. Embedded colour profiles and EXIF rotation are ignored, as training code commonly does.
/// Returns  uint8 [3, H, W], contiguous, CPU.
/// `origin` names the image in error texts: a path, or where the bytes came from.
/// Throws   kDataCorruption: empty, cut off or damaged; whatever the decoder would only warn about and patch up, too.
///          kExhausted: above one of the limits. kUnsupported: another format (named), with what to do.
/// Threads  all calls may run in parallel.
at::Tensor decode_image(std::string_view bytes, std::string_view origin);

/// The same memory as uint8 [3, H, W], contiguous, CPU.
at::Tensor to_tensor(Picture picture);

/// Encodes uint8 [3, H, W] (any strides) as a PNG file, 8-bit RGB. Throws kShapeMismatch.
std::string encode_png(const at::Tensor& rgb);

}  // namespace recast
