#pragma once
#include <string_view>

namespace recast {

/// The files of src/serve/page, as cmake/EmbedPage.cmake puts them into the library.
extern const std::string_view kPageHtml, kPageStyle, kPageScript;

}  // namespace recast
