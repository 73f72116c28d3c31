#pragma once
// What a document shows to be typed, so that it can be run.
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace recast {

/// Between two lines of three backticks.
struct FencedBlock {
  std::string language;  ///< behind the first one
  std::string text;
  int line = 0;  ///< of the document, where it begins

  bool shows(const std::string& word) const { return text.find(word) != std::string::npos; }
  /// Where lines begin with a prompt, these alone and what they continue in; else all.
  std::string typed() const {
    std::istringstream lines(text);
    std::string all, prompted;
    bool continues = false;
    for (std::string line; std::getline(lines, line);) {
      const bool prompt = line.starts_with("$ ");
      all += line + "\n";
      if (prompt || continues) prompted += (prompt ? line.substr(2) : line) + "\n";
      continues = (prompt || continues) && line.ends_with("\\");
    }
    return prompted.empty() ? all : prompted;
  }
  /// The names of image files in it.
  std::vector<std::string> images() const {
    static const std::regex kImage(R"([\w./*-]+\.(jpe?g|png|webp)\b)");
    std::vector<std::string> found;
    for (std::sregex_iterator at(text.begin(), text.end(), kImage), end; at != end; ++at) found.push_back(at->str());
    return found;
  }
};

inline std::vector<FencedBlock> fenced_blocks(const std::filesystem::path& document) {
  std::ifstream in(document);
  std::vector<FencedBlock> blocks;
  bool inside = false;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.starts_with("```")) {
      inside = !inside;
      if (inside) blocks.push_back({line.substr(3), "", number});
    } else if (inside) {
      blocks.back().text += line + "\n";
    }
  }
  return blocks;
}

}  // namespace recast
