#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

/// An image that the page for people offers to ask about.
struct PageExample {
  std::string name;  ///< of the file
  std::string_view media_type;
  std::string bytes;
};

inline constexpr std::size_t kMostExamples = 24;
inline constexpr std::size_t kMostExampleBytes = std::size_t{1} << 20;

/// The images in a folder, not in those below it, by name: the first 24 files of at most 1 MiB that decode_picture()
/// takes. Others are left out, with the event http.example_left_out. Read once, so that no request opens a file.
/// Throws  kNotFound: no such folder.
std::vector<PageExample> read_examples(const std::filesystem::path& folder);

}  // namespace recast
