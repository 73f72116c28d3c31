// What is opened may be damaged, old, replaced or somebody else's: the right answer or a typed error, nothing between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>

#include "expected_store.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::unique_ptr<TaskStore> open_store(const fs::path& folder, bool read_only) {
  return open_sqlite_store(folder, fingerprint_of("base"), read_only);
}

void run_sql(const fs::path& folder, const std::string& sql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((folder / "tasks.db").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
  sqlite3_close(database);
}

/// A store with a row in each table.
ExpectedStore fill(const fs::path& folder) {
  using O = Operation;
  ExpectedStore expected;
  const auto store = open_store(folder, false);
  for (const Operation& operation :
       std::vector<Operation>{{.kind = O::kCommit, .name = "a", .seed = 1},
                              {.kind = O::kCommit, .name = "a", .seed = 2, .large = true},
                              {.kind = O::kCommit, .name = "b", .shared = "common", .seed = 3, .with_shared = true},
                              {.kind = O::kCommit, .name = "c", .seed = 4},
                              {.kind = O::kTag, .name = "a", .tag = "best", .version = 1},
                              {.kind = O::kRemove, .name = "c"}}) {
    perform(*store, operation);
    expected.apply(operation);
  }
  return expected;
}

/// What a reader of a damaged store says; empty: everything, and everything right.
std::string answer(const ExpectedStore& expected, const fs::path& folder) {
  try {
    const std::string text = difference(expected, *open_store(folder, true));
    return text.empty() ? "" : "silently wrong: " + text;
  } catch (const Error& error) {
    const bool typed =
        error.code() == Code::kDataCorruption || error.code() == Code::kUnsupported || error.code() == Code::kExhausted;
    return typed ? "refused" : fmt::format("{}: {}", name(error.code()), error.what());
  }
}

using Answer = std::string (*)(const ExpectedStore& expected, const fs::path& folder);

void flip_everywhere(unsigned char mask, std::size_t step, Answer answer) {
  const TemporaryFolder folder;
  const ExpectedStore expected = fill(folder.path());
  const std::string good = read_file(folder / "tasks.db", 1 << 24);
  std::size_t refused = 0, unharmed = 0;
  for (std::size_t at = mask % step; at < good.size(); at += step) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ mask);
    write_file_atomically(folder / "tasks.db", bad);
    const std::string said = answer(expected, folder.path());
    ASSERT_TRUE(said.empty() || said == "refused") << "byte " << at << " xor " << int{mask} << ": " << said;
    ++(said.empty() ? unharmed : refused);
  }
  fmt::print("xor {}: {} flips refused, {} where nothing was stored\n", int{mask}, refused, unharmed);
  EXPECT_GT(refused, 5u);
}

TEST(DamagedStore, GivesTheRightAnswerOrATypedErrorWhereverABitFlips) {
  for (const unsigned char mask : {0x01, 0x80, 0xff}) flip_everywhere(mask, in_full() ? 5 : 397, answer);
}

constexpr const char* kRenamedTag = "UPDATE tags SET tag = 'worst'";
constexpr const char* kChangedFacts[] = {"UPDATE versions SET metrics = '{\"validation_top1\":0.9}' WHERE task = 'a'",
                                         "UPDATE versions SET plugs = '[]' WHERE task = 'a' AND version = 1",
                                         "UPDATE versions SET parent = 5",
                                         "UPDATE versions SET state = (SELECT max(id) FROM states) WHERE task = 'a'",
                                         "UPDATE versions SET created_utc = '2020-01-01T00:00:00Z'",
                                         "UPDATE versions SET classes = 4",
                                         "UPDATE versions SET state_bytes = 1",
                                         "UPDATE versions SET file_bytes = 1",
                                         "UPDATE tasks SET removed_utc = NULL",
                                         "UPDATE tags SET version = 2",
                                         kRenamedTag,
                                         "UPDATE blobs SET shape = '[1,262145]'",
                                         "UPDATE blobs SET bytes = 4",
                                         "UPDATE shared_versions SET parent = 9",
                                         "UPDATE shared_versions SET fingerprint = 'x'",
                                         "UPDATE states SET sha256 = 'x'",
                                         "UPDATE versions SET seal = ''",
                                         "UPDATE tasks SET seal = 'x'"};

TEST(DamagedStore, FindsAChangedFactInEveryColumn) {
  const TemporaryFolder folder;
  const ExpectedStore expected = fill(folder.path());
  for (const char* change : kChangedFacts) {
    const TemporaryFolder copy;
    fs::copy(folder.path(), copy.path(), fs::copy_options::recursive);
    run_sql(copy.path(), change);
    for (const bool read_only : {false, true}) {
      EXPECT_THAT(error_of(Code::kDataCorruption, [&] { open_store(copy.path(), read_only); }), HasSubstr("tasks.db"))
          << change;
    }
  }
}

// ---- opened for serving: nothing is checked before it is read ----

/// One answer to a server, judged: "" as expected, "refused", or what is wrong.
std::string judged(const std::function<bool()>& as_expected, const std::string& what) {
  try {
    return as_expected() ? "" : what + " is silently wrong; ";
  } catch (const Error& error) {
    return error.code() == Code::kDataCorruption ? "refused" : fmt::format("{}: {}; ", what, error.what());
  }
}

bool names_are_right(const ExpectedStore& expected, const TaskStore& store) {
  std::map<std::string, std::int64_t> wanted, listed;
  for (const auto& [name, task] : expected.tasks)
    if (!task.hidden) wanted[name] = static_cast<std::int64_t>(task.versions.size());
  for (const TaskName& task : store.names_after("", 100)) listed[task.name] = task.version;
  return wanted == listed;
}

/// What the answers of a version are made of, as the undamaged store has it.
using Digests = std::map<std::pair<std::string, std::int64_t>, std::string>;

Digests digests_of(const ExpectedStore& expected, const TaskStore& store) {
  Digests digests;
  for (const auto& [name, task] : expected.tasks) {
    for (std::int64_t version = 1; version <= static_cast<std::int64_t>(task.versions.size()); ++version)
      digests[{name, version}] = store.resolve(name, version)->digest;
  }
  return digests;
}

std::int64_t version_in(const std::optional<Resolved>& resolved) { return resolved ? resolved->version : 0; }

std::vector<std::string> answers_about(const ExpectedStore& expected, const std::string& name, const TaskStore& store,
                                       const Digests& digests) {
  const ExpectedTask& task = expected.tasks.at(name);
  const auto last = static_cast<std::int64_t>(task.versions.size());
  std::vector<std::string> said;
  for (std::int64_t version = 1; version <= last; ++version) {
    said.push_back(judged([&] { return difference_of_version(expected, name, version, store, false).empty(); },
                          fmt::format("version {} of {}", version, name)));
    said.push_back(judged(
        [&] {
          const auto resolved = store.resolve(name, version);
          if (!resolved || resolved->removed != task.hidden) return false;
          // A row of a blob that is lost shows when the task is loaded.
          return resolved->digest == digests.at({name, version}) || (store.load(*resolved), false);
        },
        fmt::format("what version {} of {} is", version, name)));
  }
  said.push_back(judged([&] { return !store.load(name, last + 1); }, "a version too many"));
  said.push_back(judged(
      [&] {
        if (task.hidden) return !store.load(name) && !store.resolve(name);
        return difference_of_version(expected, name, last, store, true).empty() &&
               version_in(store.resolve(name)) == last;
      },
      "the newest of " + name));
  for (const auto& [tag, version] : task.tags)
    said.push_back(judged([&] { return version_in(store.resolve(name, 0, tag)) == version; }, "a tag of " + name));
  said.push_back(judged([&] { return !store.resolve(name, 0, "absent"); }, "a tag that there is not"));
  return said;
}

/// Empty: all answers right; "refused": some refused, the others right; otherwise those that are wrong.
std::string served_answer(const ExpectedStore& expected, const fs::path& folder) {
  static const Digests digests = [] {
    const TemporaryFolder whole;
    const ExpectedStore filled = fill(whole.path());
    return digests_of(filled, *open_store(whole.path(), true));
  }();
  std::vector<std::string> said;
  try {
    const auto store = open_sqlite_store(folder, fingerprint_of("base"), true, Disk::kLocal, Verify::kAsRead);
    said.push_back(judged([&] { return names_are_right(expected, *store); }, "the list of names"));
    said.push_back(judged([&] { return !store->load("absent") && !store->resolve("absent"); }, "an absent task"));
    for (const auto& [name, task] : expected.tasks) {
      for (std::string& text : answers_about(expected, name, *store, digests)) said.push_back(std::move(text));
    }
  } catch (const Error& error) {
    const bool typed = error.code() == Code::kDataCorruption || error.code() == Code::kUnsupported;
    return typed ? "refused" : error.what();
  }
  std::string wrong;
  for (const std::string& text : said)
    if (text != "refused") wrong += text;
  if (!wrong.empty()) return wrong;
  return std::count(said.begin(), said.end(), "refused") > 0 ? "refused" : "";
}

TEST(DamagedStore, ServesNoWrongFactWhereverABitFlips) {
  for (const unsigned char mask : {0x01, 0x80, 0xff}) flip_everywhere(mask, in_full() ? 5 : 797, served_answer);
}

TEST(DamagedStore, ServesNoChangedFact) {
  const TemporaryFolder folder;
  const ExpectedStore expected = fill(folder.path());
  ASSERT_EQ(served_answer(expected, folder.path()), "");
  for (const std::string change : kChangedFacts) {
    if (change == kRenamedTag) continue;  // in both indexes at once, as no accident does
    const TemporaryFolder copy;
    fs::copy(folder.path(), copy.path(), fs::copy_options::recursive);
    run_sql(copy.path(), change);
    EXPECT_EQ(served_answer(expected, copy.path()), "refused") << change;
  }
}

/// Two bytes of a page's header say how many rows lie in it: with one less the last is gone, and no seal with it.
TEST(DamagedStore, ServesNothingElseWherePagesHideTheirRows) {
  constexpr std::size_t kPage = 4096;
  const TemporaryFolder folder;
  const ExpectedStore expected = fill(folder.path());
  const std::string good = read_file(folder / "tasks.db", 1 << 24);
  int refused = 0;
  for (std::size_t page = kPage; page < good.size(); page += kPage) {
    const auto kind = static_cast<unsigned char>(good[page]);
    const int rows = static_cast<unsigned char>(good[page + 3]) * 256 + static_cast<unsigned char>(good[page + 4]);
    if ((kind != 10 && kind != 13) || rows == 0 || rows > 255) continue;  // leaves; others are chained or interior
    for (const int left : {rows - 1, 0}) {
      std::string bad = good;
      bad[page + 4] = static_cast<char>(left);
      write_file_atomically(folder / "tasks.db", bad);
      const std::string said = served_answer(expected, folder.path());
      EXPECT_TRUE(said.empty() || said == "refused") << "page " << page / kPage << ", " << left << " rows: " << said;
      refused += said == "refused" ? 1 : 0;
    }
  }
  EXPECT_GT(refused, 12);
}

TEST(DamagedStore, RefusesTablesTriggersAndViewsThatRecastDidNotMake) {
  for (const char* change :
       {"CREATE TABLE more (x)", "CREATE VIEW seen AS SELECT * FROM tasks", "DROP INDEX tasks_without_case",
        "CREATE TRIGGER t AFTER INSERT ON versions BEGIN DELETE FROM tasks; END", "ALTER TABLE tasks ADD COLUMN x TEXT",
        "DROP TABLE tags", "CREATE INDEX more ON versions (plugs)"}) {
    const TemporaryFolder folder;
    fill(folder.path());
    run_sql(folder.path(), change);
    for (const Verify verify : {Verify::kWhole, Verify::kAsRead}) {
      const auto open = [&] { open_sqlite_store(folder.path(), fingerprint_of("base"), true, Disk::kLocal, verify); };
      EXPECT_THAT(error_of(Code::kDataCorruption, open), HasSubstr("recast")) << change;
    }
  }
  const TemporaryFolder analysed;
  const ExpectedStore expected = fill(analysed.path());
  run_sql(analysed.path(), "ANALYZE");
  EXPECT_EQ(answer(expected, analysed.path()), "");
}

TEST(DamagedStore, NamesNoVersionThatWasLost) {
  const TemporaryFolder folder;
  for (int i = 1; i <= 3; ++i) open_store(folder.path(), false)->commit(sample_task("pets", i));
  run_sql(folder.path(), "DELETE FROM versions WHERE version = 2");
  const auto store = open_store(folder.path(), false);
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { store->rollback("pets", 2); }), HasSubstr("missing"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { store->tag("pets", 2, "best"); }), HasSubstr("missing"));
}

TEST(DamagedStore, ErasesNothingWhileAnIndexIsWrong) {
  const TemporaryFolder folder;
  fill(folder.path());
  run_sql(folder.path(),
          "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE "
          "name = 'tags_unsealed') WHERE name = 'blobs_by_content'");
  const auto blobs = std::distance(fs::directory_iterator(folder / "blobs"), {});
  EXPECT_THROW({ open_store(folder.path(), false)->collect_garbage(); }, Error);
  EXPECT_THROW({ open_store(folder.path(), false)->purge("c"); }, Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "blobs"), {}), blobs);
}

TEST(DamagedStore, RefusesASymbolicLink) {
  const TemporaryFolder folder, elsewhere;
  fill(elsewhere.path());
  fs::create_symlink(elsewhere / "tasks.db", folder / "tasks.db");
  for (const bool read_only : {false, true}) {
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { open_store(folder.path(), read_only); }), HasSubstr("symbolic"));
  }
  const TemporaryFolder dangling;
  fs::create_symlink(dangling / "nowhere", dangling / "tasks.db");
  error_of(Code::kUnsupported, [&] { open_store(dangling.path(), false); });
  EXPECT_FALSE(fs::exists(dangling / "nowhere"));
}

/// A copy of the folder while its store is open: the last commits are in the log alone.
void copy_with_log(const fs::path& to, ExpectedStore& before, ExpectedStore& after) {
  const TemporaryFolder folder;
  const auto store = open_store(folder.path(), false);
  const Operation first{.name = "a", .seed = 1}, second{.name = "a", .seed = 2};
  perform(*store, first);
  before.apply(first);
  run_sql(folder.path(), "PRAGMA wal_checkpoint(TRUNCATE)");
  perform(*store, second);
  after = before;
  after.apply(second);
  for (const char* file : {"tasks.db", "tasks.db-wal"}) fs::copy(folder / file, to / file);
}

TEST(DamagedStore, ReadsItsLogAndShowsTheStateBeforeWhereTheLogIsMissing) {
  const TemporaryFolder with, without;
  ExpectedStore before, after;
  copy_with_log(with.path(), before, after);
  fs::copy(with / "tasks.db", without / "tasks.db");
  EXPECT_EQ(difference(after, *open_store(with.path(), true)), "");
  EXPECT_EQ(difference(before, *open_store(without.path(), true)), "");
  EXPECT_EQ(open_store(without.path(), false)->commit(sample_task("a", 7)), 2);
}

TEST(DamagedStore, TakesNothingHalfFromALogWithFlippedBits) {
  const TemporaryFolder whole;
  ExpectedStore before, after;
  copy_with_log(whole.path(), before, after);
  const std::string good = read_file(whole / "tasks.db-wal", 1 << 24);
  for (std::size_t at = 0; at < good.size(); at += in_full() ? 7 : 1201) {
    const TemporaryFolder folder;
    fs::copy(whole / "tasks.db", folder / "tasks.db");
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    write_file_atomically(folder / "tasks.db-wal", bad);
    const std::string said = answer(after, folder.path());
    EXPECT_TRUE(said.empty() || said == "refused" || answer(before, folder.path()).empty()) << at << ": " << said;
  }
}

TEST(DamagedStore, NamesTheFileOfATensorThatIsMissingOrDamaged) {
  const TemporaryFolder folder;
  fill(folder.path());
  const fs::path blob = fs::directory_iterator(folder / "blobs")->path();
  const std::string good = read_file(blob, 1 << 24);
  const auto refused = [&] {
    return error_of(Code::kDataCorruption, [&] { open_store(folder.path(), true)->load("a", 2); });
  };
  for (const std::string& bad : {std::string(), good.substr(1), good + "x", "x" + good.substr(1)}) {
    write_file_atomically(blob, bad);
    EXPECT_THAT(refused(), HasSubstr(blob.filename().string()));
    EXPECT_TRUE(open_store(folder.path(), true)->load("a", 1)) << "another version is not concerned";
  }
  fs::remove(blob);
  EXPECT_THAT(refused(), HasSubstr(blob.filename().string()));
}

}  // namespace
}  // namespace recast
