// Names that are paths, devices, or look like others: refused wherever a name comes in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "store_place.h"

namespace recast {
namespace {

using namespace std::string_literals;

const std::vector<std::string> kBadNames = {"",
                                            "../x",
                                            "..\\x",
                                            "%2e%2e%2f",
                                            "%252e",
                                            "/etc/passwd",
                                            "C:",
                                            "C:\\x",
                                            "a\0b"s,
                                            "a\nb",
                                            "a\tb",
                                            "\u202egnp.exe",
                                            "a\u200bb",
                                            "K\u00e4fer",   // composed
                                            "Ka\u0308fer",  // its decomposed twin
                                            "\xff\xfe",
                                            std::string(300, 'a'),
                                            std::string(129, 'a'),
                                            ".",
                                            "..",
                                            ".hidden",
                                            "con",
                                            "CON",
                                            "nul.txt",
                                            "Com1",
                                            "lpt9.tar.gz",
                                            "a b",
                                            "a:b",
                                            "a/b",
                                            "a@b",
                                            "-\u2010"};

const std::vector<std::string> kGoodNames = {
    std::string(128, 'a'), "a..b", "-", "_", "0", "console", "com0", "com10", "a.con", "x.", "A"};

class NamesTest : public EveryStore {
 protected:
  void SetUp() override {
    EveryStore::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) store_ = place().open();
  }
  std::unique_ptr<TaskStore> store_;
};

TEST_P(NamesTest, AreRefusedByCommitImportSharedStatesAndTags) {
  store_->commit(sample_task("good"));
  const Numbers shared = sample_shared(1);
  for (const std::string& name : kBadNames) {
    TaskRecord task = sample_task("good");
    task.name = name;
    error_of(Code::kInvalidArgument, [&] { store_->commit(task); });
    error_of(Code::kInvalidArgument, [&] { import_task(*store_, task); });
    error_of(Code::kInvalidArgument, [&] { encode_task(task); });
    error_of(Code::kInvalidArgument, [&] { store_->commit(sample_task("good"), &shared, name); });
    error_of(Code::kInvalidArgument, [&] { store_->tag("good", 1, name); });
    if (!name.empty()) {
      EXPECT_FALSE(store_->load(name));
      error_of(Code::kNotFound, [&] { store_->remove(name); });
      error_of(Code::kNotFound, [&] { store_->purge(name); });
      error_of(Code::kNotFound, [&] { store_->log(name); });
      error_of(Code::kNotFound, [&] { store_->untag("good", name); });
    }
  }
  ASSERT_EQ(store_->list(true).size(), 1u);
  EXPECT_EQ(store_->list(true)[0].versions, 1);
}

TEST_P(NamesTest, AreTakenWhereTheyAreFileNamesEverywhere) {
  for (const std::string& name : kGoodNames) EXPECT_EQ(store_->commit(sample_task(name)), 1) << name;
  EXPECT_EQ(store_->list().size(), kGoodNames.size());
  for (const std::string& twin : {"CONSOLE"s, "a.CON"s, "a"s, std::string(128, 'A')}) {
    error_of(Code::kAlreadyExists, [&] { store_->commit(sample_task(twin)); });
  }
}

RECAST_FOR_EVERY_STORE(NamesTest);

}  // namespace
}  // namespace recast
