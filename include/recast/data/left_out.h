#pragma once
#include <cstdint>
#include <string>

namespace recast {

class Dataset;

/// Images that a dataset passes over without being asked to.
struct LeftOut {
  std::int64_t count = 0;
  std::string first;  ///< the name of the first, bytewise
};

/// Images that lie directly in a folder of class folders, or of train/ and test/, beside these: they belong to no
/// class. None of datasets of other kinds, and none where the folder cannot be listed any more. Looks at that folder
/// alone.
LeftOut images_beside_classes(const Dataset& dataset);

/// One line for people that says what is left out and how it would be read; empty if nothing is.
std::string warning_of(const LeftOut& left_out);

}  // namespace recast
