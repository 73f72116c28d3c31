#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace recast {

/// The labels of a classifier out of a text file, one a line; a byte order mark, carriage returns and empty lines at
/// the end do not count. Throws kShapeMismatch (not `classes` of them), kUnsupported (an empty line, a label twice).
std::vector<std::string> read_labels(const std::filesystem::path& file, std::int64_t classes);
/// "class_0", "class_1", ...
std::vector<std::string> numbered_labels(std::int64_t classes);

}  // namespace recast
