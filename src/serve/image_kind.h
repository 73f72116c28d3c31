#pragma once
#include <string_view>

namespace recast {

/// What a file of an image is called, by its content.
struct ImageKind {
  std::string_view ending;      ///< ".jpg"
  std::string_view media_type;  ///< "image/jpeg"
};

/// Of bytes that decode_picture() took.
ImageKind image_kind(std::string_view bytes);

}  // namespace recast
