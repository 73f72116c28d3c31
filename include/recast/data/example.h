#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace recast {

enum class Split { kTrain, kValidation, kTest };
inline constexpr std::array<Split, 3> kSplits = {Split::kTrain, Split::kValidation, Split::kTest};
/// "train", "validation", "test".
std::string_view name(Split split);

struct Example {
  std::string id;      ///< relative path, or FILE#INDEX inside a file of many images; unique in the dataset, UTF-8
  std::int64_t label;  ///< index into classes()
};

}  // namespace recast
