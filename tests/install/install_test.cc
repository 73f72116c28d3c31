// recast as others find it: installed, moved, and linked to by a small program that knows its package alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "format/temporary_folder.h"
#include "recast/method/registry.h"
#include "recast/run/machine.h"
#include "text/run_recast.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class InstallTest : public ::testing::Test {
 protected:
  Answer run(std::vector<std::string> words) const { return RunningProgram(folder_.path(), std::move(words)).wait(); }
  void expect_good(std::vector<std::string> words) const {
    const Answer answer = run(std::move(words));
    ASSERT_EQ(answer.status, 0) << answer.out << answer.err;
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  TemporaryFolder folder_;
};

std::set<std::string> lines_of(const std::string& text) {
  std::istringstream lines(text);
  std::set<std::string> found;
  for (std::string line; std::getline(lines, line);) found.insert(line);
  return found;
}

TEST_F(InstallTest, LetsAConsumerListAllMethodsAlsoAfterAMove) {
  expect_good({RECAST_CMAKE, "--install", RECAST_BUILD, "--prefix", path("first")});
  fs::rename(folder_ / "first", folder_ / "moved");

  const std::string program = path("moved/bin/recast");
  std::set<std::string> installed, registered;
  const Answer methods = run({program, "methods", "--json"});
  ASSERT_EQ(methods.status, 0) << methods.err;
  const nlohmann::json listed_methods = methods.json();
  for (const auto& method : listed_methods["methods"]) installed.insert(method["name"].get<std::string>());
  for (const MethodInfo* method : Registry::instance().all()) registered.insert(method->name);
  EXPECT_EQ(installed, registered);
  const std::string libraries = run({"ldd", program}).out;
  EXPECT_THAT(libraries, HasSubstr(path("moved/bin/../lib/librecast.so")));
  EXPECT_THAT(libraries, Not(HasSubstr("not found")));
  EXPECT_THAT(libraries, Not(HasSubstr(RECAST_BUILD)));

  expect_good({RECAST_CMAKE, "-G", "Ninja", "-S", RECAST_SOURCE_DIR "/tests/install/consumer", "-B", path("consumer"),
               "-DCMAKE_PREFIX_PATH=" + path("moved")});
  expect_good({RECAST_CMAKE, "--build", path("consumer")});
  const Answer listed = run({path("consumer/list_methods")});
  EXPECT_EQ(listed.status, 0) << listed.err;
  EXPECT_EQ(lines_of(listed.out), registered);
}

TEST_F(InstallTest, BringsHeadersPackageManualCompletionAndDocs) {
  expect_good({RECAST_CMAKE, "--install", RECAST_BUILD, "--prefix", path("p")});
  for (const char* file :
       {"lib/librecast.so", "lib/cmake/recast/recastConfig.cmake", "lib/cmake/recast/recastConfigVersion.cmake",
        "lib/cmake/recast/Torch.cmake", "include/recast/method/contract.h", "share/man/man1/recast.1",
        "share/bash-completion/completions/recast", "share/zsh/site-functions/_recast",
        "share/fish/vendor_completions.d/recast.fish", "share/doc/recast/LICENSE",
        "share/doc/recast/docs/install.md"}) {
    EXPECT_TRUE(fs::exists(folder_ / "p" / file)) << file;
    EXPECT_GT(fs::file_size(folder_ / "p" / file), 100u) << file;
  }
  for (const auto& entry : fs::recursive_directory_iterator(RECAST_SOURCE_DIR "/include"))
    EXPECT_TRUE(fs::exists(folder_ / "p" / fs::relative(entry.path(), RECAST_SOURCE_DIR))) << entry.path();
  EXPECT_TRUE(fs::is_regular_file(folder_ / ("p/lib/librecast.so." + std::string(kRecastVersion))))
      << "the program and the build agree on the version";
  EXPECT_THAT(text_of(folder_ / "p/share/man/man1/recast.1"), HasSubstr(".SH EXIT STATUS"));
}

}  // namespace
}  // namespace recast
