#include "recast/serve/token_table.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <map>
#include <thread>

#include "base/log_capture.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/base/utc.h"
#include "recast/format/files.h"
#include "token_entry.h"

namespace recast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

void write_private(const std::filesystem::path& file, const std::string& text) {
  write_file_atomically(file, text);
  ::chmod(file.c_str(), 0600);
}

/// A table of one token for each role, all of them for every task.
struct OneOfEach {
  TemporaryFolder folder;
  std::filesystem::path file = folder / "tokens.yaml";
  std::map<Role, std::string> tokens;

  OneOfEach() {
    for (const Role role : {Role::kInfer, Role::kRead, Role::kManage})
      tokens[role] = add_token(file, entry_of("for-" + std::string(name(role)), {role}));
  }
};

Access access_of(TokenTable& table, const std::string& token, Right right) {
  return table.check("Bearer " + token, right).access;
}

TEST(Tokens, AllowWhatTheirRoleIsFor) {
  const OneOfEach one;
  TokenTable table(one.file);
  const std::map<Role, std::set<Right>> allowed{
      {Role::kInfer, {Right::kInfer, Right::kDescribe}},
      {Role::kRead, {Right::kDescribe, Right::kRead}},
      {Role::kManage, {Right::kDescribe, Right::kRead, Right::kManage}},
  };
  for (const auto& [role, token] : one.tokens) {
    for (const Right right : {Right::kInfer, Right::kDescribe, Right::kRead, Right::kManage}) {
      const bool granted = allowed.at(role).contains(right);
      EXPECT_EQ(grants(role, right), granted);
      const TokenVerdict verdict = table.check("Bearer " + token, right);
      EXPECT_EQ(verdict.access, granted ? Access::kGranted : Access::kForbidden) << name(role);
      EXPECT_EQ(verdict.identity.name, "for-" + std::string(name(role)));
      EXPECT_EQ(verdict.message.empty(), granted);
    }
  }
}

TEST(Tokens, MayHaveSeveralRoles) {
  const TemporaryFolder folder;
  const std::string token = add_token(folder / "t", entry_of("both", {Role::kInfer, Role::kManage}));
  TokenTable table(folder / "t");
  for (const Right right : {Right::kInfer, Right::kDescribe, Right::kRead, Right::kManage})
    EXPECT_EQ(access_of(table, token, right), Access::kGranted);
}

TEST(Tokens, AreRefusedWhereTheyAreMissingWrongOrMalformed) {
  const OneOfEach one;
  TokenTable table(one.file);
  const std::string good = one.tokens.at(Role::kInfer);
  for (const std::string& header : std::vector<std::string>{
           "", std::string("Bearer"), std::string("Bearer "), "Basic " + good, good, "Bearer" + good,
           "Bearer " + good + "x", "Bearer " + good.substr(0, good.size() - 1), "Bearer " + good + " " + good,
           "Bearer " + good + "\n", "Bearer " + good + std::string(1, '\0'), "Bearer \xff", "Bearer recast_",
           "Bearer " + std::string(100'000, 'a'), "Bearer '" + good + "'"}) {
    const TokenVerdict verdict = table.check(header, Right::kDescribe);
    EXPECT_EQ(verdict.access, Access::kUnauthenticated) << header.substr(0, 100);
    EXPECT_THAT(verdict.message, HasSubstr("[auth]"));
    EXPECT_THAT(verdict.message, Not(HasSubstr(good.substr(7, 20)))) << "a message must not repeat a token";
    EXPECT_THAT(verdict.identity.name, IsEmpty());
  }
  EXPECT_EQ(table.check("bearer  " + good, Right::kInfer).access, Access::kGranted);
  EXPECT_EQ(table.check("BEARER " + good, Right::kInfer).access, Access::kGranted);
}

TEST(Tokens, EndWhenTheyExpire) {
  const TemporaryFolder folder;
  TokenEntry entry = entry_of("short", {Role::kInfer});
  entry.expires = parse_utc("2030-01-01T00:00:00Z");
  const std::string token = add_token(folder / "t", entry);
  TokenTable table(folder / "t");
  const auto at = [&](const char* time) {
    return table.check("Bearer " + token, Right::kInfer, *parse_utc(time)).access;
  };
  EXPECT_EQ(at("2029-12-31T23:59:59Z"), Access::kGranted);
  EXPECT_EQ(at("2030-01-01T00:00:00Z"), Access::kUnauthenticated);
  EXPECT_EQ(at("2029-12-31T23:59:59Z"), Access::kGranted);
}

TEST(Tokens, ReachTheTasksOfTheirGlobs) {
  const TokenIdentity identity{"x", {Role::kInfer}, {"cars*", "pet?", "vit@flowers"}};
  for (const char* model :
       {"cars", "cars-2", "cars:3", "vit@cars", "vit@cars:best", "pets", "vit@flowers", "vit@flowers:2", "recast"}) {
    EXPECT_TRUE(identity.may_use(model)) << model;
  }
  for (const char* model :
       {"car", "pet", "pets2", "flowers", "resnet@flowers", "xcars", "vit@recast", "", ":1", "cars@x"}) {
    EXPECT_FALSE(identity.may_use(model)) << model;
  }
  EXPECT_TRUE((TokenIdentity{"x", {}, {"*"}}.may_use("any@thing:1")));
  EXPECT_FALSE((TokenIdentity{"x", {}, {"*@cars"}}.may_use("cars")));
  EXPECT_TRUE((TokenIdentity{"x", {}, {"*@cars"}}.may_use("vit@cars")));
}

TEST(Globs, MatchTheWholeText) {
  for (const auto& [glob, text] : std::vector<std::pair<std::string, std::string>>{{"", ""},
                                                                                   {"*", ""},
                                                                                   {"*", "abc"},
                                                                                   {"a*c", "abbc"},
                                                                                   {"a**c", "ac"},
                                                                                   {"?", "x"},
                                                                                   {"*b*", "abc"},
                                                                                   {"a*b*c", "abxbc"},
                                                                                   {"*.x", "a.x.x"}}) {
    EXPECT_TRUE(glob_matches(glob, text)) << glob << " " << text;
  }
  for (const auto& [glob, text] : std::vector<std::pair<std::string, std::string>>{
           {"", "a"}, {"a", ""}, {"?", ""}, {"a*c", "abcd"}, {"a", "A"}, {"a?c", "ac"}, {"*b", "abc"}, {"abc", "ab"}}) {
    EXPECT_FALSE(glob_matches(glob, text)) << glob << " " << text;
  }
  std::string bomb;
  for (int i = 0; i < 100; ++i) bomb += "*a";
  EXPECT_FALSE(glob_matches(bomb + "b", std::string(10'000, 'a')));  // at once
}

TEST(TokenFile, IsReadWhereItIsWellFormed) {
  const std::string salt(32, 'a'), digest(64, '0');
  const std::vector<TokenEntry> entries = parse_token_file(
      "# who may do what\nci:\n  role: infer\n  tasks: [cars*, pets]\n"
      "  expires: 2030-01-31T00:00:00Z\n  salt: " +
          salt + "\n  sha256: " + digest + "\nops:\n  role: [read, manage]\n  tasks: '*'\n  salt: " + salt +
          "\n  sha256: " + digest + "\n",
      "tokens.yaml");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0],
            (TokenEntry{"ci", {Role::kInfer}, {"cars*", "pets"}, parse_utc("2030-01-31T00:00:00Z"), salt, digest}));
  EXPECT_EQ(entries[1], (TokenEntry{"ops", {Role::kRead, Role::kManage}, {"*"}, {}, salt, digest}));
  for (const TokenEntry& entry : entries)
    EXPECT_THAT(parse_token_file(token_entry_yaml(entry), "t"), ElementsAre(entry));
  EXPECT_THAT(parse_token_file("", "t"), IsEmpty());
}

TEST(TokenFile, IsRefusedWithEntryAndField) {
  const std::string salt = "  salt: " + std::string(32, 'a') + "\n",
                    digest = "  sha256: " + std::string(64, '0') + "\n";
  const std::string role = "ci:\n  role: infer\n", tasks = "  tasks: ['*']\n";
  const auto said = [](const std::string& text) {
    return error_of(Code::kInvalidArgument, [&] { parse_token_file(text, "tokens.yaml"); });
  };
  EXPECT_THAT(said("[1]"), HasSubstr("[tokens] tokens.yaml: expected a map of names"));
  EXPECT_THAT(said("ci: 1"), HasSubstr("'ci': it: expected role"));
  EXPECT_THAT(said("a/b:\n  role: infer\n"), HasSubstr("'a/b': its name: expected"));
  EXPECT_THAT(said("ci:\n" + tasks + salt + digest), HasSubstr("'ci': role: expected infer, read or manage"));
  EXPECT_THAT(said("ci:\n  role: admin\n" + tasks + salt + digest), HasSubstr("'ci': role"));
  EXPECT_THAT(said("ci:\n  role: [infer, infer]\n" + tasks + salt + digest), HasSubstr("each once"));
  EXPECT_THAT(said(role + salt + digest), HasSubstr("'ci': tasks: expected 1 to 100 globs"));
  EXPECT_THAT(said(role + "  tasks: []\n" + salt + digest), HasSubstr("'ci': tasks"));
  EXPECT_THAT(said(role + "  tasks: ['a b']\n" + salt + digest), HasSubstr("'ci': tasks"));
  EXPECT_THAT(said(role + tasks + digest), HasSubstr("'ci': salt: expected one value"));
  EXPECT_THAT(said(role + tasks + "  salt: abc\n" + digest), HasSubstr("'ci': salt: expected 16 to 64"));
  EXPECT_THAT(said(role + tasks + salt + "  sha256: " + std::string(64, 'A') + "\n"), HasSubstr("'ci': sha256"));
  EXPECT_THAT(said(role + tasks + salt + digest + "  expires: tomorrow\n"),
              HasSubstr("'ci': expires: expected a time"));
  EXPECT_THAT(said(role + tasks + salt + digest + "  expire: 2030-01-31T00:00:00Z\n"),
              HasSubstr("did you mean 'expires'"));
  EXPECT_THAT(said(role + tasks + salt + digest + role), HasSubstr("'ci' twice"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [] { parse_token_file("a: [", "tokens.yaml"); }),
              HasSubstr("tokens.yaml"));
  std::string many;
  for (int i = 0; i < 1001; ++i) many += "t" + std::to_string(i) + ": {}\n";
  EXPECT_THAT(error_of(Code::kExhausted, [&] { parse_token_file(many, "t"); }), HasSubstr("1001 tokens; at most 1000"));
}

TEST(TokenFile, MustBeItsOwnersAlone) {
  const OneOfEach one;
  for (const ::mode_t mode : {0604, 0620, 0660, 0602, 0644, 0777}) {
    ::chmod(one.file.c_str(), mode);
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { TokenTable table(one.file); }), HasSubstr("run chmod 600"));
  }
  ::chmod(one.file.c_str(), 0640);
  if (::geteuid() == 0) {
    EXPECT_NO_THROW(TokenTable table(one.file)) << "a group that root chose";
  } else {
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { TokenTable table(one.file); }), HasSubstr("run chmod 600"));
  }
  ::chmod(one.file.c_str(), 0400);
  EXPECT_NO_THROW(TokenTable table(one.file));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { TokenTable table(one.folder / "none"); }), HasSubstr("no such file"));
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(one.file.c_str(), 12345, 12345), 0);
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { TokenTable table(one.file); }),
                HasSubstr("belongs to user 12345"));
  }
}

TEST(AddToken, MakesAFileForItsOwnerAlone) {
  const OneOfEach one;
  struct stat status {};
  ASSERT_EQ(::stat(one.file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777u, 0600u);
  EXPECT_EQ(one.folder.entries(), 1u);
  const std::string text = read_file(one.file, 1 << 20);
  for (const auto& [role, token] : one.tokens) {
    EXPECT_EQ(token.size(), 71u);
    EXPECT_THAT(text, Not(HasSubstr(token.substr(7)))) << "the file holds digests, no tokens";
  }
}

TEST(AddToken, KeepsTheGroupThatMayReadTheFile) {
  if (::geteuid() != 0) GTEST_SKIP() << "only of root a group may read it";
  const OneOfEach one;
  const auto seen = [&](::gid_t group, ::mode_t mode) {
    struct stat status {};
    EXPECT_EQ(::stat(one.file.c_str(), &status), 0);
    EXPECT_EQ(status.st_gid, group);
    EXPECT_EQ(status.st_mode & 07777u, mode);
  };
  const ::gid_t group = 12345;
  if (::chown(one.file.c_str(), 0, group) != 0) GTEST_SKIP() << "no file may be given to another group here";
  add_token(one.file, entry_of("private", {Role::kRead}));
  seen(group, 0600);
  ::chmod(one.file.c_str(), 0640);
  add_token(one.file, entry_of("shared", {Role::kRead}));
  seen(group, 0640);
  EXPECT_NO_THROW(TokenTable table(one.file));
}

TEST(AddToken, KeepsWhatTheFileHeldAndRefusesANameThatIsThere) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "tokens.yaml";
  add_token(file, entry_of("first", {Role::kRead}));
  write_private(file, "# ours\n" + read_file(file, 1 << 20) + "# end");
  const std::string token = add_token(file, entry_of("second", {Role::kInfer}));
  EXPECT_THAT(read_file(file, 1 << 20), testing::StartsWith("# ours\n"));
  EXPECT_EQ(parse_token_file(read_file(file, 1 << 20), "t").size(), 2u);
  TokenTable table(file);
  EXPECT_EQ(access_of(table, token, Right::kInfer), Access::kGranted);
  const std::string before = read_file(file, 1 << 20);
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { add_token(file, entry_of("first", {Role::kRead})); }),
              HasSubstr("has a token called 'first'"));
  error_of(Code::kInvalidArgument, [&] { add_token(file, entry_of("a b", {Role::kRead})); });
  error_of(Code::kInvalidArgument, [&] { add_token(file, entry_of("third", {})); });
  EXPECT_EQ(read_file(file, 1 << 20), before);
}

TEST(AddToken, RefusesAFileToWhichNothingCanBeAdded) {
  const TemporaryFolder folder;
  write_private(folder / "t", "{}\n");
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { add_token(folder / "t", entry_of("a", {Role::kRead})); }),
              HasSubstr("cannot be added behind its last line"));
  EXPECT_EQ(read_file(folder / "t", 100), "{}\n");
}

TEST(TokenTable, FollowsItsFile) {
  OneOfEach one;
  TokenTable table(one.file, {.reread_every = std::chrono::milliseconds(0)});
  const std::string first = one.tokens.at(Role::kInfer);
  EXPECT_EQ(access_of(table, first, Right::kInfer), Access::kGranted);
  const LogCapture events(LogLevel::kInfo);
  const std::string second = add_token(one.file, entry_of("second", {Role::kInfer}));
  EXPECT_EQ(access_of(table, second, Right::kInfer), Access::kGranted);
  EXPECT_EQ(access_of(table, first, Right::kInfer), Access::kGranted);
  std::filesystem::remove(one.file);
  const std::string third = add_token(one.file, entry_of("third", {Role::kInfer}));
  EXPECT_EQ(access_of(table, third, Right::kInfer), Access::kGranted);
  EXPECT_EQ(access_of(table, first, Right::kInfer), Access::kUnauthenticated) << "taken out of the file";
  EXPECT_THAT(events.names(), ElementsAre("tokens.reread", "tokens.reread"));
}

TEST(TokenTable, FollowsAFileThatIsExchangedBehindLinks) {
  // As Kubernetes does with secrets: t -> now/t, now -> first, and then now -> second.
  const TemporaryFolder folder;
  for (const char* name : {"first", "second"}) std::filesystem::create_directory(folder / name);
  const std::string first = add_token(folder / "first/t", entry_of("one", {Role::kInfer})),
                    second = add_token(folder / "second/t", entry_of("two", {Role::kInfer}));
  std::filesystem::create_symlink("first", folder / "now");
  std::filesystem::create_symlink("now/t", folder / "t");
  TokenTable table(folder / "t", {.reread_every = std::chrono::milliseconds(0)});
  EXPECT_EQ(access_of(table, first, Right::kInfer), Access::kGranted);
  std::filesystem::create_symlink("second", folder / "next");
  std::filesystem::rename(folder / "next", folder / "now");
  EXPECT_EQ(access_of(table, second, Right::kInfer), Access::kGranted);
  EXPECT_EQ(access_of(table, first, Right::kInfer), Access::kUnauthenticated);
}

TEST(TokenTable, SeesAChangeInPlaceWithinTheSameMoment) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "t";
  const std::string token = add_token(file, entry_of("one", {Role::kInfer}));
  TokenTable table(file, {.reread_every = std::chrono::milliseconds(0)});
  EXPECT_EQ(access_of(table, token, Right::kInfer), Access::kGranted);
  std::string text = read_file(file, 1 << 20);
  text.replace(text.find("infer"), 5, "read ");
  std::ofstream(file, std::ios::in | std::ios::out) << text;  // same file, same size
  EXPECT_EQ(access_of(table, token, Right::kInfer), Access::kForbidden);
}

TEST(TokenTable, KeepsTheLastGoodTableAndSaysSoOnce) {
  const OneOfEach one;
  TokenTable table(one.file, {.reread_every = std::chrono::milliseconds(0)});
  const std::string token = one.tokens.at(Role::kInfer);
  const std::string good = read_file(one.file, 1 << 20);
  const LogCapture events(LogLevel::kInfo);
  write_private(one.file, "broken: [");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(access_of(table, token, Right::kInfer), Access::kGranted);
  EXPECT_EQ(events.names().back(), "tokens.kept_old");
  const std::size_t broken = events.names().size();
  EXPECT_LE(broken, 2u);  // renamed and then its mode changed, if a check falls between
  std::filesystem::remove(one.file);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(access_of(table, token, Right::kInfer), Access::kGranted);
  EXPECT_EQ(events.names().size(), broken + 1);
  write_private(one.file, good + "\n# changed\n");
  EXPECT_EQ(access_of(table, token, Right::kInfer), Access::kGranted);
  EXPECT_EQ(events.names().back(), "tokens.reread");
}

TEST(TokenTable, LooksAtItsFileNoOftenerThanItIsTold) {
  OneOfEach one;
  TokenTable table(one.file, {.reread_every = std::chrono::hours(1)});
  const std::string second = add_token(one.file, entry_of("second", {Role::kInfer}));
  EXPECT_EQ(access_of(table, second, Right::kInfer), Access::kUnauthenticated);
}

TEST(TokenTable, AFloodOfWrongTokensCostsNoSearchBeyondTheRateAndNobodyElse) {
  const OneOfEach one;
  TokenTable table(one.file, {.unknown_burst = 20, .unknown_per_second = 0});
  const std::string infer = one.tokens.at(Role::kInfer);
  EXPECT_EQ(access_of(table, infer, Right::kInfer), Access::kGranted);
  int looked_at = 0, turned_away = 0;
  for (int i = 0; i < 1000; ++i) {
    const Access access = access_of(table, "recast_" + std::to_string(i), Right::kInfer);
    looked_at += access == Access::kUnauthenticated;
    turned_away += access == Access::kTooMany;
    EXPECT_EQ(access_of(table, infer, Right::kInfer), Access::kGranted) << i;
  }
  EXPECT_EQ(looked_at, 20);
  EXPECT_EQ(turned_away, 980);
  // One that this table has not seen yet waits for the next free search.
  EXPECT_EQ(access_of(table, one.tokens.at(Role::kRead), Right::kRead), Access::kTooMany);
}

TEST(TokenTable, TakesRightTokensOutOfNoBucket) {
  const OneOfEach one;
  TokenTable table(one.file,
                   {.reread_every = std::chrono::milliseconds(0), .unknown_burst = 1, .unknown_per_second = 0});
  for (int i = 0; i < 100; ++i)
    for (const auto& [role, token] : one.tokens) EXPECT_EQ(access_of(table, token, Right::kDescribe), Access::kGranted);
}

TEST(TokenTable, AnswersManyThreadsWhileItsFileChanges) {
  OneOfEach one;
  TokenTable table(one.file, {.reread_every = std::chrono::milliseconds(0), .unknown_burst = 1e9});
  const std::string token = one.tokens.at(Role::kInfer);
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        wrong += access_of(table, token, Right::kInfer) != Access::kGranted;
        wrong += access_of(table, "x" + std::to_string(t * 1'000'000 + i), Right::kInfer) != Access::kUnauthenticated;
      }
    });
  }
  for (int i = 0; i < 20; ++i) add_token(one.file, entry_of("t" + std::to_string(i), {Role::kRead}));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace recast
