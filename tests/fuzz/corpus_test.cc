// Every input of fuzz/corpus, seeds and findings included, through the same functions that the fuzzers call.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "target.h"

namespace recast {
namespace {

namespace fs = std::filesystem;

const fs::path kCorpus = RECAST_SOURCE_DIR "/fuzz/corpus";

std::vector<fs::path> files_of(const std::string& target) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(kCorpus / target)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(FuzzCorpus, HoldsInputsForEveryTarget) {
  for (const auto& source : fs::directory_iterator(RECAST_SOURCE_DIR "/fuzz/targets")) {
    if (source.path().extension() != ".cc") continue;
    const std::string name = source.path().stem();
    EXPECT_TRUE(std::ranges::any_of(fuzz::targets(), [&](const fuzz::Target& t) { return t.name == name; })) << name;
    ASSERT_TRUE(fs::is_directory(kCorpus / name)) << name;
    EXPECT_GE(files_of(name).size(), 5u) << name;
    EXPECT_LE(files_of(name).size(), 250u) << name;
  }
  for (const auto& folder : fs::directory_iterator(kCorpus)) {
    const std::string name = folder.path().filename();
    EXPECT_TRUE(std::ranges::any_of(fuzz::targets(), [&](const fuzz::Target& t) { return t.name == name; })) << name;
  }
}

class FuzzTarget : public testing::TestWithParam<fuzz::Target> {};

TEST_P(FuzzTarget, TakesItsCorpusWithoutAFinding) {
  for (const fs::path& file : files_of(GetParam().name)) {
    const std::string bytes = content(file);
    EXPECT_NO_THROW(GetParam().run(bytes)) << file;
  }
}

INSTANTIATE_TEST_SUITE_P(All, FuzzTarget, testing::ValuesIn(fuzz::targets()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace recast
