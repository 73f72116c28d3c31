// Every flag that a message names is there: one of the program's, and of the command whose message it is.
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>

#include "format/temporary_folder.h"
#include "text/run_recast.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using Flags = std::map<std::string, std::set<std::string>>;  // by command

/// As the script that completes them knows them: lines "'COMMAND VERB') echo '--flag ...' ;;" of one function.
Flags flags_of_commands() {
  const TemporaryFolder folder;
  const std::string script = RunningRecast(folder.path(), {"completion", "bash"}).wait().out;
  const std::size_t begin = script.find("_recast_flags() {"), end = script.find("esac", begin);
  Flags flags;
  const std::regex line("'([a-z]*)[a-z ]*'\\) echo '([^']*)'"), flag("--[a-z][a-z-]*");
  const std::string part = script.substr(begin, end - begin);
  for (std::sregex_iterator at(part.begin(), part.end(), line), last; at != last; ++at) {
    const std::string words = (*at)[2];
    for (std::sregex_iterator word(words.begin(), words.end(), flag); word != last; ++word)
      flags[(*at)[1]].insert(word->str());
  }
  return flags;
}

/// The texts of a source file, those that stand side by side as one; no raw ones, which hold style sheets and scripts.
std::vector<std::string> texts_of(const std::string& source) {
  std::vector<std::string> texts;
  std::string text;
  bool open = false;
  const auto close = [&] {
    if (open) texts.push_back(text);
    text.clear();
    open = false;
  };
  for (std::size_t i = 0; i < source.size(); ++i) {
    const std::string_view rest = std::string_view(source).substr(i);
    if (rest.starts_with("//")) {
      i += std::min(rest.find('\n'), rest.size()) - 1;
    } else if (rest.starts_with("R\"")) {
      close();
      const std::string mark = ")" + std::string(rest.substr(2, rest.find('(') - 2)) + "\"";
      i = std::min(source.find(mark, i), source.size() - mark.size()) + mark.size() - 1;
    } else if (rest.size() > 2 && rest[0] == '\'' && (rest[2] == '\'' || rest[1] == '\\')) {
      close();
      i = source.find('\'', rest[1] == '\\' ? i + 3 : i + 2);
    } else if (rest[0] == '"') {
      open = true;
      for (++i; i < source.size() && source[i] != '"'; ++i) {
        if (source[i] == '\\') text += source[i++];
        text += source[i];
      }
    } else if (!std::isspace(static_cast<unsigned char>(rest[0]))) {
      close();
    }
  }
  close();
  return texts;
}

/// Flags that whoever reads `text` can give: of the command whose message it is ("[mimic] ...") and of those that it
/// names ("recast learn ..."); of any command where it is of none.
std::set<std::string> flags_to_name(const std::string& text, const Flags& flags) {
  std::set<std::string> allowed;
  for (const auto& [command, own] : flags)
    if (!command.empty() && (text.starts_with("[" + command + "]") || text.find("recast " + command) != text.npos))
      allowed.insert(own.begin(), own.end());
  if (text.starts_with("[") && flags.count(text.substr(1, text.find(']') - 1)) > 0) return allowed;
  for (const auto& [command, own] : flags) allowed.insert(own.begin(), own.end());
  return allowed;
}

TEST(NamedFlags, AreFlagsOfTheCommandThatNamesThem) {
  const Flags flags = flags_of_commands();
  ASSERT_GT(flags.size(), 15u);
  ASSERT_TRUE(flags.at("mimic").count("--templates") > 0 && flags.at("lab").count("--jobs") > 0);
  const std::regex flag("(^|[^A-Za-z0-9-])(--[a-z][a-z-]*)");
  int seen = 0;
  for (const char* tree : {"src", "apps"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(RECAST_SOURCE_DIR) / tree)) {
      if (entry.path().extension() != ".cc" && entry.path().extension() != ".h") continue;
      for (const std::string& text : texts_of(text_of(entry.path()))) {
        if (text.find("--") == text.npos) continue;
        const std::set<std::string> allowed = flags_to_name(text, flags);
        for (std::sregex_iterator at(text.begin(), text.end(), flag), last; at != last; ++at, ++seen)
          EXPECT_EQ(allowed.count((*at)[2]), 1u) << entry.path() << " names " << (*at)[2] << " in: " << text;
      }
    }
  EXPECT_GT(seen, 200);
}

TEST(NamedFlags, TextsAreReadFromSources) {
  const std::vector<std::string> texts =
      texts_of("f(\"[mimic] a\" // \"no\"\n  \" --b\", 'x', '\\'', \"\\\"c\"); g(R\"css(\"no\")css\");");
  EXPECT_EQ(texts, (std::vector<std::string>{"[mimic] a --b", "\\\"c"}));
}

}  // namespace
}  // namespace recast
