// What is opened may be damaged, old, replaced or somebody else's: the right answer or a typed error, nothing between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cstdlib>
#include <filesystem>

#include "expected_store.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

bool in_full() {
  const char* form = std::getenv("RECAST_FAULTS");
  return form != nullptr && std::string_view(form) == "full";
}

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

void flip_everywhere(unsigned char mask, std::size_t step) {
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
  EXPECT_GT(refused, 10u);
}

TEST(DamagedStore, GivesTheRightAnswerOrATypedErrorWhereverABitFlips) {
  for (const unsigned char mask : {0x01, 0x80, 0xff}) flip_everywhere(mask, in_full() ? 5 : 397);
}

TEST(DamagedStore, FindsAChangedFactInEveryColumn) {
  const TemporaryFolder folder;
  const ExpectedStore expected = fill(folder.path());
  for (const char* change :
       {"UPDATE versions SET metrics = '{\"validation_top1\":0.9}' WHERE task = 'a'",
        "UPDATE versions SET plugs = '[]' WHERE task = 'a' AND version = 1", "UPDATE versions SET parent = 5",
        "UPDATE versions SET state = (SELECT max(id) FROM states) WHERE task = 'a'",
        "UPDATE versions SET created_utc = '2020-01-01T00:00:00Z'", "UPDATE versions SET classes = 4",
        "UPDATE versions SET state_bytes = 1", "UPDATE versions SET file_bytes = 1",
        "UPDATE tasks SET removed_utc = NULL", "UPDATE tags SET version = 2", "UPDATE tags SET tag = 'worst'",
        "UPDATE blobs SET shape = '[1,262145]'", "UPDATE blobs SET bytes = 4", "UPDATE shared_versions SET parent = 9",
        "UPDATE shared_versions SET fingerprint = 'x'", "UPDATE states SET sha256 = 'x'",
        "UPDATE versions SET seal = ''", "UPDATE tasks SET seal = 'x'"}) {
    const TemporaryFolder copy;
    fs::copy(folder.path(), copy.path(), fs::copy_options::recursive);
    run_sql(copy.path(), change);
    for (const bool read_only : {false, true}) {
      EXPECT_THAT(error_of(Code::kDataCorruption, [&] { open_store(copy.path(), read_only); }), HasSubstr("tasks.db"))
          << change;
    }
  }
}

TEST(DamagedStore, RefusesTablesTriggersAndViewsThatRecastDidNotMake) {
  for (const char* change :
       {"CREATE TABLE more (x)", "CREATE VIEW seen AS SELECT * FROM tasks", "DROP INDEX tasks_without_case",
        "CREATE TRIGGER t AFTER INSERT ON versions BEGIN DELETE FROM tasks; END", "ALTER TABLE tasks ADD COLUMN x TEXT",
        "DROP TABLE tags", "CREATE INDEX more ON versions (plugs)"}) {
    const TemporaryFolder folder;
    fill(folder.path());
    run_sql(folder.path(), change);
    EXPECT_THAT(error_of(Code::kDataCorruption, [&] { open_store(folder.path(), true); }), HasSubstr("recast"))
        << change;
  }
  const TemporaryFolder analysed;
  const ExpectedStore expected = fill(analysed.path());
  run_sql(analysed.path(), "ANALYZE");
  EXPECT_EQ(answer(expected, analysed.path()), "");
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
