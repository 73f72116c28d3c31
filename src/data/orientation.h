#pragma once
#include <string_view>

#include "recast/data/picture.h"

namespace recast {

/// The orientation that a file's EXIF data names, 1 (as stored) to 8; 1 where there is none or it is damaged. Looks at
/// the one tag only: JPEG's first APP1 segment of EXIF, PNG's eXIf chunk, WebP's EXIF chunk.
/// `bytes` may be anything at all; time grows with the number of segments or chunks, memory does not.
int orientation_of(std::string_view bytes);

/// The picture turned so that it is upright: what Pillow's ImageOps.exif_transpose does.
Picture upright(Picture picture, int orientation);

}  // namespace recast
