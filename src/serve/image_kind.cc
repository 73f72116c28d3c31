#include "image_kind.h"

namespace recast {

ImageKind image_kind(std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8")) return {".jpg", "image/jpeg"};
  if (bytes.starts_with("\x89PNG")) return {".png", "image/png"};
  return {".webp", "image/webp"};
}

}  // namespace recast
