#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

#include "recast/data/picture.h"

namespace recast {

/// Decodes one JPEG, PNG or still WebP to RGB. The format is found by content, whatever the file is called.
/// Pixels are Pillow's bit by bit, EXIF orientation is applied, alpha is composited on white, of 16 bits the high byte
/// is kept, colour profiles are ignored: the table in docs/data.md has every kind. Takes at most 512 MiB beside
/// `bytes`. `origin` names the image in error texts: a path, or where the bytes came from.
/// Returns  uint8 [3, H, W], contiguous, CPU.
/// Throws   kDataCorruption: empty, cut off or damaged; whatever the decoder would only warn about and patch up, too.
///          kExhausted: above one of the limits. kUnsupported: another format (named), with what to do. kUnavailable:
///          no memory was free.
/// Threads  all calls may run in parallel.
at::Tensor decode_image(std::string_view bytes, std::string_view origin);

/// The same memory as uint8 [3, H, W], contiguous, CPU.
at::Tensor to_tensor(Picture picture);

/// Encodes uint8 [3, H, W] (any strides) as a PNG file, 8-bit RGB. Throws kShapeMismatch.
std::string encode_png(const at::Tensor& rgb);

}  // namespace recast
