// What the source tree promises: a plug-in is one file, nobody else names it, and folders only use those above them.
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "conformance/plug_cases.h"

namespace recast {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sources_under(const fs::path& folder) {
  std::vector<fs::path> files;
  if (!fs::exists(folder)) return files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".cc" || entry.path().extension() == ".h") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

const fs::path kRoot = RECAST_SOURCE_DIR;

TEST(Sources, EveryPluginIsOneFileAndRegistered) {
  std::size_t files = 0;
  for (const fs::path& path : sources_under(kRoot / "src/methods")) files += path.filename() != "recipes.cc";
  EXPECT_EQ(files, plug_names().size()) << "a file of src/methods registers nothing, or more than one plug-in";
}

TEST(Sources, NobodyElseNamesAPlugin) {
  // "recast" alone is also the project's name; with options it can only be the plug-in.
  for (const char* folder : {"src", "apps", "include"})
    for (const fs::path& path : sources_under(kRoot / folder)) {
      if (path.parent_path().filename() == "methods") continue;
      for (const std::string& line : lines_of(path)) {
        const std::size_t first = line.find_first_not_of(" ");
        if (first != line.npos && line.compare(first, 2, "//") == 0) continue;
        for (const std::string& name : plug_names()) {
          const bool named = name != "recast" && line.find('"' + name + '"') != line.npos;
          // Found as text first: expressions are slow.
          const bool with_options =
              line.find('"' + name + ':') != line.npos && std::regex_search(line, std::regex('"' + name + ":[a-z_]+="));
          EXPECT_FALSE(named || with_options) << path << " names the plug-in '" << name << "': " << line;
        }
      }
    }
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Docs, TellOfEveryPlugin) {
  const std::string page = text_of(kRoot / "docs/methods.md");
  for (const std::string& name : plug_names()) EXPECT_NE(page.find("`" + name + "`"), page.npos) << name;
}

TEST(Docs, TheWorkedExampleIsTheOneThatCompiles) {
  const std::string example = text_of(kRoot / "examples/my_lora.cc"), page = text_of(kRoot / "docs/adding-a-method.md");
  const std::string from = "// [docs/adding-a-method.md quotes from here]\n", to = "// [to here]";
  const std::size_t begin = example.find(from), end = example.find(to);
  ASSERT_TRUE(begin != example.npos && end != example.npos);
  const std::string quoted = example.substr(begin + from.size(), end - begin - from.size());
  EXPECT_NE(page.find("```cpp\n" + quoted + "```"), page.npos);
}

TEST(Sources, FoldersUseOnlyThoseAboveThem) {
  const std::vector<std::string> order = {"base",   "format",  "data",  "kernels", "comm", "model", "mimic",
                                          "method", "methods", "train", "store",   "run",  "lab",   "serve"};
  const auto place = [&](const std::string& folder) {
    return std::find(order.begin(), order.end(), folder) - order.begin();
  };
  const std::regex include("^\\s*#include \"(?:recast/)?([a-z0-9_]+)/.*");
  int checked = 0;
  for (const char* tree : {"src", "include/recast"})
    for (const fs::path& path : sources_under(kRoot / tree)) {
      const std::string folder = fs::relative(path, kRoot / tree).begin()->string();
      ASSERT_LT(place(folder), static_cast<std::ptrdiff_t>(order.size()))
          << path << " lies in a folder without a place";
      for (const std::string& line : lines_of(path)) {
        std::smatch match;
        if (line.find("version.h") != line.npos || !std::regex_match(line, match, include)) continue;
        EXPECT_LE(place(match[1]), place(folder)) << path << ": " << line;
        ++checked;
      }
    }
  EXPECT_GT(checked, 50);
}

// Two of one name are one to the linker, which takes whichever member function comes first for both.
TEST(Sources, HeadersDefineATypeOnce) {
  const std::regex definition("^(?:class|struct|enum class) ([A-Za-z0-9]+)(?: final)?(?: : .*)? \\{.*");
  std::map<std::string, fs::path> places;
  for (const char* tree : {"src", "include/recast"})
    for (const fs::path& path : sources_under(kRoot / tree)) {
      if (path.extension() != ".h") continue;
      for (const std::string& line : lines_of(path)) {
        std::smatch match;
        if (!std::regex_match(line, match, definition)) continue;
        const auto [first, is_first] = places.emplace(match[1], path);
        EXPECT_TRUE(is_first) << match[1] << " is defined in " << first->second << " and in " << path;
      }
    }
  EXPECT_GT(places.size(), 200U);
}

}  // namespace
}  // namespace recast
