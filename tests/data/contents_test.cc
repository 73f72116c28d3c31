// Hashes of images, the cache of hashes, and images that lie in two splits.
#include "recast/data/contents.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/data_files.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/data/dataset.h"
#include "recast/format/files.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto kUnsettled = std::chrono::milliseconds(2100);

// Files that changed just now are not remembered, and their times of change cannot be set back. So that not every test
// waits two seconds, all datasets are written before the first, and one wait does for them.
class Datasets {
 public:
  static const fs::path& next() {
    static Datasets all;
    return all.folders_.at(all.used_++)->path();
  }

 private:
  Datasets() {
    for (int i = 0; i < 16; ++i) {
      folders_.push_back(std::make_unique<TemporaryFolder>());
      for (const std::string name : {"cats", "dogs"}) {
        // What an image holds does not matter here.
        for (int k = 0; k < 10; ++k)
          write_bytes(*folders_.back() / name / fmt::format("{}.png", k), name + char('0' + k));
      }
    }
    std::this_thread::sleep_for(kUnsettled);
  }

  std::vector<std::unique_ptr<TemporaryFolder>> folders_;
  std::size_t used_ = 0;
};

// A dataset of class folders whose hashes are cached in a folder of the test's own.
class ScanContents : public ::testing::Test {
 protected:
  ScanContents() { ::setenv("RECAST_CACHE", cache_.path().c_str(), 1); }
  ~ScanContents() override { ::unsetenv("RECAST_CACHE"); }

  std::unique_ptr<Dataset> open() const { return open_dataset(data_); }
  Contents scan() const { return scan_contents(*open()); }
  fs::path cache_file() const {
    for (const auto& entry : fs::directory_iterator(cache_ / "scan")) return entry.path();
    return {};
  }

  const TemporaryFolder cache_;
  const fs::path data_ = Datasets::next();
};

std::vector<std::optional<Digest>> all(const Contents& contents) {
  std::vector<std::optional<Digest>> out;
  for (const auto& split : contents.digests) out.insert(out.end(), split.begin(), split.end());
  return out;
}

TEST_F(ScanContents, HashesOnceAndRemembers) {
  const Contents first = scan(), second = scan();
  EXPECT_EQ(first.hashed, 20);
  EXPECT_EQ(first.remembered, 0);
  EXPECT_EQ(second.hashed, 0);
  EXPECT_EQ(second.remembered, 20);
  EXPECT_EQ(all(first), all(second));
  EXPECT_THAT(first.notes, IsEmpty());
  EXPECT_THAT(second.notes, IsEmpty());
  const auto data = open();
  const auto bytes = read_file(data->stored(Split::kTest, 0).file, 100);
  std::string hex;
  for (const auto byte : *first.digests[2].at(0)) hex += fmt::format("{:02x}", byte);
  EXPECT_EQ(hex, sha256_hex(bytes));

  // What changed is hashed again, though its size is the same and its time was set back.
  const auto times = fs::last_write_time(data_ / "cats/3.png");
  write_bytes(data_ / "cats/3.png", "catsX");
  fs::last_write_time(data_ / "cats/3.png", times);
  const Contents third = scan();
  EXPECT_EQ(third.hashed, 1);
  EXPECT_NE(all(third), all(second));
}

TEST_F(ScanContents, WhatWasJustWrittenIsHashedAgain) {
  write_bytes(data_ / "cats/3.png", "catsX");
  scan();
  EXPECT_EQ(scan().hashed, 1);  // a change within the same tick of the clock would leave no trace
}

TEST_F(ScanContents, TimesInTheFutureAreTimesLikeOthers) {
  // The clock went back: files from next year.
  for (const auto& entry : fs::recursive_directory_iterator(data_)) {
    if (entry.is_regular_file()) {
      fs::last_write_time(entry, fs::file_time_type::clock::now() + std::chrono::hours(24 * 365));
    }
  }
  std::this_thread::sleep_for(kUnsettled);
  EXPECT_EQ(scan().hashed, 20);
  EXPECT_EQ(scan().hashed, 0);
  write_bytes(data_ / "cats/3.png", "catsX");
  EXPECT_EQ(scan().hashed, 1);
}

TEST_F(ScanContents, ADamagedCacheIsMadeAnew) {
  const auto right = all(scan());
  const auto good = read_file(cache_file(), 1 << 20);
  std::vector<std::string> damaged = {"", "RECAST SCAN 1\n", good + "x", good + good, good.substr(0, good.size() - 1)};
  for (std::size_t i = 0; i < good.size(); i += 29) {
    damaged.push_back(good);
    damaged.back()[i] = static_cast<char>(damaged.back()[i] ^ (1 << i % 8));
  }
  for (std::size_t keep = 0; keep < good.size(); keep += 211) damaged.push_back(good.substr(0, keep));
  for (const auto& bytes : damaged) {
    write_bytes(cache_file(), bytes);
    const Contents contents = scan();
    EXPECT_EQ(all(contents), right);
    EXPECT_EQ(contents.hashed, 20);
    EXPECT_THAT(contents.notes, ElementsAre(HasSubstr("was damaged: it is made anew")));
    EXPECT_EQ(read_file(cache_file(), 1 << 20), good);
  }
}

TEST_F(ScanContents, AnotherDatasetsCacheIsNotUsed) {
  scan();
  const auto mine = cache_file();
  const auto bytes = read_file(mine, 1 << 20);
  const auto other = open_dataset(Datasets::next());
  fs::remove(mine);
  scan_contents(*other);
  EXPECT_EQ(scan_contents(*other).remembered, 20);
  write_bytes(cache_file(), bytes);
  EXPECT_EQ(scan_contents(*other).remembered, 0);
}

TEST_F(ScanContents, WorksWithoutAPlaceForTheCache) {
  ::setenv("RECAST_CACHE", "off", 1);
  const Contents without = scan();
  EXPECT_THAT(without.notes, IsEmpty());
  write_bytes(cache_ / "file", "");
  ::setenv("RECAST_CACHE", (cache_ / "file").c_str(), 1);
  const Contents contents = scan();
  EXPECT_EQ(all(contents), all(without));
  EXPECT_THAT(contents.notes, ElementsAre(HasSubstr("hashes were not kept")));
}

TEST_F(ScanContents, AFullDiskCostsTheCacheOnly) {
  struct rlimit before;
  ::getrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 100, before.rlim_max };
  ::setrlimit(RLIMIT_FSIZE, &small);
  const Contents contents = scan();
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(contents.hashed, 20);
  EXPECT_THAT(contents.notes, ElementsAre(HasSubstr("hashes were not kept")));
  EXPECT_TRUE(fs::is_empty(cache_ / "scan"));
}

TEST_F(ScanContents, AFileThatCannotBeReadIsCountedAndNoError) {
  const auto data = open();
  const auto file = data->stored(Split::kTest, 0).file;
  fs::remove(file);
  const Contents contents = scan_contents(*data);
  EXPECT_EQ(contents.unreadable, 1);
  EXPECT_FALSE(contents.digests[2][0].has_value());
  error_of(Code::kNotFound, [&] { data->image(Split::kTest, 0); });
}

TEST_F(ScanContents, AStopKeepsWhatWasHashed) {
  std::atomic<bool> stop = false;
  for (const std::string name : {"large.png", "larger.png", "largest.png"}) {
    write_bytes(data_ / "cats" / name, "");
    fs::resize_file(data_ / "cats" / name, 250 << 20);
  }
  const auto data = open();
  error_of(Code::kCancelled, [&] { scan_contents(*data, {1, &stop, [&](auto, auto) { stop = true; }}); });
  for (const std::string name : {"large.png", "larger.png", "largest.png"}) fs::remove(data_ / "cats" / name);
  EXPECT_GT(scan().remembered, 0);
}

TEST_F(ScanContents, FindsTheSameImageInTwoSplits) {
  const auto data = open();
  EXPECT_FALSE(find_duplicates(*data, scan_contents(*data)).any());
  EXPECT_EQ(warning_of({}), "");
  const auto copy = [&](Split from, int i, Split to, int j) {
    fs::copy_file(data->stored(from, i).file, data->stored(to, j).file, fs::copy_options::overwrite_existing);
  };
  const auto label = [&](Split split, int i) { return data->examples(split).at(i).label; };
  ASSERT_EQ(label(Split::kTrain, 0), label(Split::kTest, 0));
  ASSERT_NE(label(Split::kTrain, 13), label(Split::kValidation, 0));
  copy(Split::kTrain, 0, Split::kTest, 0);
  copy(Split::kTrain, 13, Split::kValidation, 0);
  copy(Split::kTrain, 2, Split::kTrain, 3);  // twice in training, with the same label: no figure is wrong
  const Duplicates found = find_duplicates(*data, scan_contents(*data));
  EXPECT_EQ(found.test_in_train, 1);
  EXPECT_EQ(found.validation_in_train, 1);
  EXPECT_EQ(found.test_in_validation, 0);
  EXPECT_EQ(found.with_other_label, 2);
  ASSERT_THAT(found.examples, SizeIs(2));
  EXPECT_EQ(found.examples[0].first, data->examples(Split::kTrain)[0].id);
  EXPECT_EQ(found.examples[0].second, data->examples(Split::kTest)[0].id);
  EXPECT_THAT(warning_of(found), HasSubstr("1 test images are training images, too, 1 validation images are training"));
  EXPECT_THAT(warning_of(found), HasSubstr(data->examples(Split::kTrain)[0].id));
  EXPECT_EQ(describe(found)["examples"][0]["second"], "test: " + data->examples(Split::kTest)[0].id);
  EXPECT_THAT(find_duplicates(*data, scan_contents(*data), 1).examples, SizeIs(1));
}

TEST_F(ScanContents, FindsTheSamePixelsInIdxFiles) {
  const TemporaryFolder folder;
  const auto write_split = [&](const std::string& prefix, const std::string& pixels, const std::string& labels) {
    const auto size = std::string(1, static_cast<char>(labels.size()));
    write_bytes(folder / (prefix + "-images-idx3-ubyte"),
                std::string("\0\0\x08\x03\0\0\0", 7) + size + std::string("\0\0\0\1\0\0\0\2", 8) + pixels);
    write_bytes(folder / (prefix + "-labels-idx1-ubyte"), std::string("\0\0\x08\x01\0\0\0", 7) + size + labels);
  };
  write_split("train", "aabbccddeeff", std::string("\0\0\0\1\1\1", 6));
  write_split("t10k", "xxff", std::string("\0\1", 2));
  const auto data = open_dataset(folder.path());
  const Contents contents = scan_contents(*data);
  EXPECT_EQ(contents.hashed, 8);
  const Duplicates found = find_duplicates(*data, contents);
  EXPECT_EQ(found.test_in_train + found.test_in_validation, 1);
  EXPECT_EQ(found.examples.at(0).second, "t10k-images-idx3-ubyte#1");
  EXPECT_FALSE(fs::exists(cache_ / "scan"));  // in memory anyway
}

TEST_F(ScanContents, TheSecondStartOnAFolderOfThousandsHashesNothing) {
  // In small what docs/data.md says of 200,000 images; five seconds for those are 50 ms for these.
  for (int i = 0; i < 2000; ++i) {
    write_bytes(data_ / (i % 2 ? "cats" : "dogs") / fmt::format("n{}.png", i), std::to_string(i));
  }
  std::this_thread::sleep_for(kUnsettled);
  EXPECT_EQ(scan().hashed, 2020);
  const auto start = std::chrono::steady_clock::now();
  const auto data = open();
  const Contents contents = scan_contents(*data);
  find_duplicates(*data, contents);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));  // the machine may be busy
  EXPECT_EQ(contents.hashed, 0);
}

TEST_F(ScanContents, OfALimitedDatasetIsOfItsRows) {
  const auto data = limit_per_class(open(), 2, 1);
  const Contents contents = scan_contents(*data);
  for (const Split split : kSplits) {
    EXPECT_THAT(contents.digests[static_cast<std::size_t>(split)], SizeIs(data->examples(split).size()));
  }
}

}  // namespace
}  // namespace recast
