#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace recast {

enum class Split { kTrain, kValidation, kTest };
inline constexpr std::array<Split, 3> kSplits = {Split::kTrain, Split::kValidation, Split::kTest};
/// "train", "validation", "test".
std::string_view name(Split split);

/// A dataset of more classes is refused: figures of a task grow with their square.
inline constexpr std::size_t kMaxClasses = 32'768;

struct Example {
  std::string id;      ///< relative path, or FILE#INDEX inside a file of many images; unique in the dataset, UTF-8
  std::int64_t label;  ///< index into classes()
};

/// Where an image's bytes lie: in a file of their own or, where `file` is empty, among others' in memory.
struct StoredImage {
  std::filesystem::path file;
  std::string_view bytes;  ///< as long as the dataset lives
};

}  // namespace recast
