// Folders, splits, limits and records of splits.
#include "recast/data/dataset.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "data/data_files.h"
#include "format/expect_error.h"
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/data/left_out.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> ids(const Dataset& data, Split split) {
  std::vector<std::string> out;
  for (const auto& example : data.examples(split)) out.push_back(example.id);
  return out;
}

std::array<std::size_t, 3> counts(const Dataset& data) {
  return {data.examples(Split::kTrain).size(), data.examples(Split::kValidation).size(),
          data.examples(Split::kTest).size()};
}

using Counts = std::array<std::size_t, 3>;

std::string refusal(Code code, const fs::path& path) {
  return error_of(code, [&] { open_dataset(path); });
}

TEST(FolderDataset, ReadsClassesSortedAndImagesByName) {
  const TemporaryFolder folder;
  write_images(folder / "zebra", 10);
  write_images(folder / "ant/nested", 10);
  write_bytes(folder / "ant/notes.txt", "ignored");
  write_bytes(folder / "ant/.hidden.png", "ignored");
  const auto data = open_dataset(folder.path());
  EXPECT_EQ(data->kind(), "folder");
  EXPECT_THAT(data->classes(), ElementsAre("ant", "zebra"));
  EXPECT_EQ(counts(*data), (Counts{14, 2, 4}));  // of 10 each: 2 test, then 10 % of 8
  for (const Split split : kSplits) {
    const auto& examples = data->examples(split);
    EXPECT_TRUE(std::is_sorted(examples.begin(), examples.end(), [](auto& a, auto& b) { return a.id < b.id; }));
    for (std::size_t i = 0; i < examples.size(); ++i) {
      const auto& id = examples[i].id;
      EXPECT_EQ(examples[i].label, id.starts_with("zebra/"));
      const auto image = data->image(split, static_cast<std::int64_t>(i));
      EXPECT_EQ(image.sizes(), at::IntArrayRef({3, 4, 6}));
      EXPECT_EQ(image[0][0][0].item<int>(), std::stoi(fs::path(id).stem().string())) << id;
    }
  }
}

TEST(FolderDataset, ReadsWhatAFileHoldsWhateverItIsCalled) {
  const TemporaryFolder folder;
  for (const auto* name : {"a/x.JPG", "a/y.jpeg", "a/z.PNG", "b/x.jpg", "b/y.jpg", "b/z.jpg"}) {
    write_bytes(folder / name, plain_png(9));
  }
  EXPECT_EQ(open_dataset(folder.path())->image(Split::kTest, 0)[0][0][0].item<int>(), 9);
}

TEST(FolderDataset, NamesTheFileThatIsDamaged) {
  const TemporaryFolder folder;
  for (const auto* name : {"a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png"}) {
    write_bytes(folder / name, plain_png(9).substr(0, 40));
  }
  const auto data = open_dataset(folder.path());
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { data->image(Split::kTest, 1); }),
              testing::AllOf(HasSubstr("/b/"), HasSubstr("truncated PNG")));
}

TEST(FolderDataset, FollowsLinksAndDetectsLoops) {
  const TemporaryFolder folder, elsewhere;
  write_images(elsewhere / "cats", 5);
  write_images(folder / "dogs", 5);
  fs::create_directory_symlink(elsewhere / "cats", folder / "cats");
  EXPECT_THAT(open_dataset(folder.path())->classes(), ElementsAre("cats", "dogs"));
  fs::create_directory_symlink(folder / "dogs", folder / "dogs/again");
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("leads back to"));
  fs::remove(folder / "dogs/again");
  fs::create_symlink(folder / "gone.png", folder / "dogs/x.png");
  EXPECT_THAT(refusal(Code::kNotFound, folder.path()), HasSubstr("leads nowhere"));
}

TEST(FolderDataset, RefusesWhatCannotBeLearntFrom) {
  const TemporaryFolder folder;
  EXPECT_THAT(refusal(Code::kNotFound, folder / "missing"), HasSubstr("no such file or folder"));
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr(".jpg, .jpeg, .png"));
  write_bytes(folder / "loose.png", plain_png(1));
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("directly"));
  write_images(folder / "cats", 5);
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("one class ('cats')"));
  fs::create_directories(folder / "dogs");
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("class folder 'dogs' holds no image"));
  write_images(folder / "dogs", 2);
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("class 'dogs' has 2 images to split, at least 3"));
  write_images(folder / "dogs", 3);
  EXPECT_EQ(counts(*open_dataset(folder.path())), (Counts{4, 2, 2}));
  write_bytes(folder / "dogs/new.gif", "GIF89a");
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("gif images are not read; convert"));
  EXPECT_THAT(refusal(Code::kUnsupported, folder / "loose.png"), HasSubstr("not a dataset"));
}

TEST(FolderDataset, CountsImagesThatLieBesideItsClasses) {
  const TemporaryFolder folder;
  write_images(folder / "ant", 10);
  write_images(folder / "zebra", 10);
  EXPECT_EQ(images_beside_classes(*open_dataset(folder.path())).count, 0);
  EXPECT_EQ(warning_of(LeftOut{}), "");
  for (const char* name : {"b.png", "a.JPG", ".hidden.png", "notes.txt"}) write_bytes(folder / name, plain_png(1));
  const auto data = limit_per_class(open_dataset(folder.path()), 3, 0);
  const LeftOut found = images_beside_classes(*data);
  EXPECT_EQ(found.count, 2);
  EXPECT_EQ(found.first, "a.JPG");
  EXPECT_THAT(warning_of(found), HasSubstr("2 images lie directly in the data folder"));
  EXPECT_EQ(counts(*data)[0], 6u) << "they are no training images";

  const TemporaryFolder split;
  for (const char* name : {"train/ant", "train/zebra", "test/ant", "test/zebra"}) write_images(split / name, 5);
  write_images(split.path(), 1);
  EXPECT_THAT(warning_of(images_beside_classes(*open_dataset(split.path()))),
              HasSubstr("1 image lies directly in the data folder, beside its class folders, and is left out: 0.png"));
}

TEST(FolderDataset, RefusesNamesThatAreNotUtf8) {
  const TemporaryFolder folder;
  write_images(folder / "a", 3);
  write_images(folder / "b\xff", 3);
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("not UTF-8"));
}

// Names as people and archives make them, all of them fine.
const std::vector<std::string> kOddNames = {"with space",
                                            " leading and trailing ",
                                            "quote\"s and 'quotes'",
                                            "comma, semicolon; tab\t",
                                            "line\nbreak",
                                            "-dash",
                                            "--help",
                                            "\xf0\x9f\x90\xb1 emoji",
                                            "caf\xc3\xa9",   // one code point
                                            "cafe\xcc\x81",  // the same to the eye
                                            "\xe2\x80\xae"
                                            "right to left",
                                            "*?[a]\\$HOME%s{}",
                                            "#0",
                                            std::string(251, 'n')};

TEST(FolderDataset, TakesOddNamesOfClassesAndImages) {
  const TemporaryFolder folder;
  for (const auto& class_name : kOddNames) {
    for (std::size_t i = 0; i < 3; ++i) {
      write_bytes(folder / class_name / (kOddNames[i * 4] + ".png"), plain_png(static_cast<int>(i)));
    }
  }
  write_images(folder / std::string(255, 'c'), 3);  // the longest that Linux takes
  const auto data = open_dataset(folder.path());
  EXPECT_EQ(data->classes().size(), kOddNames.size() + 1);
  for (const auto& name : kOddNames) EXPECT_THAT(data->classes(), testing::Contains(name));
  for (const Split split : kSplits) {
    const auto rows = static_cast<std::int64_t>(data->examples(split).size());
    for (std::int64_t row = 0; row < rows; ++row) EXPECT_EQ(data->image(split, row).size(0), 3);
  }
  EXPECT_EQ(describe_splits(*data).dump().find('\n'), std::string::npos);
}

TEST(CsvDataset, TakesOddNamesInQuotes) {
  const TemporaryFolder folder;
  std::string csv = "path,label\r\n";
  const auto quoted = [](std::string text) {
    for (auto at = text.find('"'); at != text.npos; at = text.find('"', at + 2)) text.insert(at, 1, '"');
    return '"' + text + '"';
  };
  for (const auto& name : kOddNames) {
    for (int i = 0; i < 3; ++i) {
      const auto file = std::to_string(i) + name + "";
      write_bytes(folder / file, plain_png(i));
      csv += quoted(file) + "," + quoted(name) + "\r\n";
    }
  }
  write_bytes(folder / "list.csv", csv);
  const auto data = open_dataset(folder / "list.csv");
  EXPECT_EQ(data->classes().size(), kOddNames.size());
  EXPECT_EQ(counts(*data), (Counts{kOddNames.size(), kOddNames.size(), kOddNames.size()}));
}

TEST(FolderDataset, SaysPrintablyWhichOddNameIsWrong) {
  const TemporaryFolder folder;
  write_images(folder / "a", 3);
  write_images(folder / "b", 3);
  for (const std::string name : {"\xff\xfe.png", "caf\xe9.png", "\xed\xa0\x80.png"}) {
    write_bytes(folder / "b" / name, plain_png(1));
    const auto message = refusal(Code::kUnsupported, folder.path());
    EXPECT_THAT(message, HasSubstr("the name is not UTF-8; rename it"));
    EXPECT_THAT(message, HasSubstr("\\x"));
    fs::remove(folder / "b" / name);
  }
  write_bytes(folder / "b/line\nbreak.png", "damaged");
  const auto data = open_dataset(folder.path());
  for (const Split split : kSplits) {
    const auto& examples = data->examples(split);
    for (std::size_t i = 0; i < examples.size(); ++i) {
      if (examples[i].id != "b/line\nbreak.png") continue;
      EXPECT_THAT(error_of(Code::kUnsupported, [&] { data->image(split, static_cast<std::int64_t>(i)); }),
                  HasSubstr("b/line\\x0abreak.png"));
    }
  }
}

TEST(FolderDataset, AFolderThatCannotBeListedIsAnError) {
  const TemporaryFolder folder;
  write_images(folder / "a", 3);
  write_images(folder / "b", 3);
  fs::create_directory_symlink("a", folder / "c");  // a link to a folder is a folder
  EXPECT_EQ(open_dataset(folder.path())->classes().size(), 3u);
  fs::remove(folder / "c");
  fs::create_symlink("nowhere", folder / "b/x.png");
  EXPECT_THAT(refusal(Code::kNotFound, folder.path()), HasSubstr("a link that leads nowhere"));
  fs::remove(folder / "b/x.png");
  if (::geteuid() == 0) GTEST_SKIP() << "root may list any folder";
  fs::permissions(folder / "b", fs::perms::none);
  EXPECT_THAT(refusal(Code::kUnavailable, folder.path()), HasSubstr("Permission denied"));
  fs::permissions(folder / "b", fs::perms::owner_all);
}

TEST(Splits, TakeSeedsUpTo64Bits) {
  const TemporaryFolder folder;
  write_images(folder / "a", 30);
  write_images(folder / "b", 30);
  constexpr std::uint64_t kLarge = 0xFFFFFFFFFFFFFFFF;
  const auto data = open_dataset(folder.path(), kLarge);
  const auto record = nlohmann::json::parse(describe_splits(*data).dump());
  EXPECT_EQ(record["split_seed"].get<std::uint64_t>(), kLarge);
  EXPECT_EQ(ids(*open_dataset(folder.path(), kLarge), Split::kTest), ids(*data, Split::kTest));
  EXPECT_NE(ids(*open_dataset(folder.path(), kLarge - (1ull << 63)), Split::kTest), ids(*data, Split::kTest));
}

TEST(Splits, ManyClassesAreTakenUpToTheLimit) {
  const TemporaryFolder folder;
  write_bytes(folder / "x.png", plain_png(1));
  // The same image by ever new names: a CSV refuses one path twice.
  const auto csv = [&](std::size_t classes) {
    std::string text = "path,label\n", path = "x.png";
    for (std::size_t i = 0; i < classes; ++i) {
      const auto file = std::to_string(i) + ".png";
      if (!fs::exists(folder / file)) fs::create_hard_link(folder / "x.png", folder / file);
      text += file + "," + std::to_string(i) + "\n";
    }
    write_bytes(folder / "list.csv", text);
    return folder / "list.csv";
  };
  EXPECT_THAT(refusal(Code::kUnsupported, csv(2000)), HasSubstr("class '0' has 1 images to split"));
  EXPECT_THAT(refusal(Code::kExhausted, csv(kMaxClasses + 1)), HasSubstr("32769 classes, at most 32768"));
}

TEST(Splits, OwnTestAndValidationFoldersAreTaken) {
  const TemporaryFolder folder;
  for (const auto* name : {"a", "b"}) {
    write_images(folder / "train" / name, 20);
    write_images(folder / "test" / name, 3);
  }
  EXPECT_EQ(counts(*open_dataset(folder.path())), (Counts{36, 4, 6}));  // 10 % of train validates
  write_images(folder / "validation/a", 5);
  EXPECT_EQ(counts(*open_dataset(folder.path())), (Counts{40, 5, 6}));  // validation may lack a class
  write_images(folder / "val/a", 5);
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("both val/ and validation/"));
}

TEST(Splits, FoldersOfAnotherSpellingAreNoClasses) {
  const TemporaryFolder folder;
  for (const auto* name : {"Train/a", "Train/b", "TEST/a", "TEST/b"}) write_images(folder / name, 3);
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()), HasSubstr("'Train' and 'TEST' hold class folders"));
  const TemporaryFolder classes;
  for (const auto* name : {"Train", "Test"}) write_images(classes / name, 5);
  EXPECT_EQ(open_dataset(classes.path())->classes(), (std::vector<std::string>{"Test", "Train"}));
}

TEST(Splits, ValidationAloneIsTheTestSet) {
  const TemporaryFolder folder;
  for (const auto* name : {"a", "b"}) {
    write_images(folder / "train" / name, 20);
    write_images(folder / "val" / name, 3);
  }
  const auto data = open_dataset(folder.path());
  EXPECT_EQ(counts(*data), (Counts{36, 4, 6}));
  for (const auto& id : ids(*data, Split::kTest)) EXPECT_TRUE(id.starts_with("val/")) << id;
}

TEST(Splits, AClassMayBeCalledTrain) {
  const TemporaryFolder folder;
  write_images(folder / "train", 5);
  write_images(folder / "test", 5);
  EXPECT_THAT(open_dataset(folder.path())->classes(), ElementsAre("test", "train"));
}

TEST(Splits, LabelsMustBeTheSameInTrainAndTest) {
  const TemporaryFolder folder;
  for (const auto* name : {"a", "b"}) write_images(folder / "train" / name, 5);
  for (const auto* name : {"b", "c"}) write_images(folder / "test" / name, 5);
  EXPECT_THAT(refusal(Code::kUnsupported, folder.path()),
              HasSubstr("labels differ between train and test: only test has 'c', only train has 'a'"));
}

TEST(Splits, DependOnSeedAndPathAlone) {
  const TemporaryFolder folder, copy;
  for (const auto* name : {"a", "b"}) {
    write_images(folder / name, 40);
    write_images(copy / name, 40);
  }
  const auto one = open_dataset(folder.path()), same = open_dataset(copy.path()),
             other = open_dataset(folder.path(), 7);
  for (const Split split : kSplits) EXPECT_EQ(ids(*one, split), ids(*same, split));
  EXPECT_NE(ids(*one, Split::kTest), ids(*other, Split::kTest));
}

TEST(Splits, AreDisjointStratifiedAndComplete) {
  const TemporaryFolder folder;
  write_images(folder / "big", 200);
  write_images(folder / "small", 3);
  const auto data = open_dataset(folder.path());
  std::set<std::string> seen;
  std::size_t total = 0;
  for (const Split split : kSplits) {
    std::array<int, 2> of_class{};
    for (const auto& example : data->examples(split)) ++of_class[example.label], ++total, seen.insert(example.id);
    EXPECT_EQ(of_class[1], 1) << name(split);
    EXPECT_EQ(of_class[0], split == Split::kTest ? 40 : split == Split::kValidation ? 16 : 144);
  }
  EXPECT_EQ(seen.size(), 203u);
  EXPECT_EQ(total, 203u);
}

// Guards the definition itself: stored tasks name their splits by it.
TEST(Splits, StayAsTheyAreToday) {
  const TemporaryFolder folder;
  for (const auto* name : {"a", "b"}) write_images(folder / name, 6);
  const auto data = open_dataset(folder.path());
  EXPECT_THAT(ids(*data, Split::kTest), ElementsAre("a/2.png", "b/5.png"));
}

TEST(LimitPerClass, KeepsTheFirstInSplitOrder) {
  const TemporaryFolder folder;
  for (const auto* name : {"a", "b"}) write_images(folder / name, 50);
  const auto whole = open_dataset(folder.path());  // per class: 36 train, 4 validation, 10 test
  const auto nine = limit_per_class(open_dataset(folder.path()), 9, 4);
  EXPECT_EQ(counts(*nine), (Counts{18, 2, 8}));
  const auto three = limit_per_class(open_dataset(folder.path()), 3, 0);
  EXPECT_EQ(counts(*three), (Counts{6, 2, 20}));
  EXPECT_EQ(three->limits(), (std::array<std::int64_t, 3>{3, 0, 0}));
  const auto one = limit_per_class(open_dataset(folder.path()), 9, 4, 3);
  EXPECT_EQ(counts(*one), (Counts{18, 6, 8}));
  EXPECT_EQ(describe_splits(*one)["limits"], (nlohmann::json{{"train", 9}, {"validation", 3}, {"test", 4}}));
  EXPECT_EQ(describe_splits(*nine)["limits"], (nlohmann::json{{"train", 9}, {"test", 4}}));
  const auto more = ids(*nine, Split::kTrain);
  for (const auto& id : ids(*three, Split::kTrain)) EXPECT_THAT(more, testing::Contains(id));
  for (std::int64_t i = 0; i < 6; ++i) {
    const auto stem = fs::path(three->examples(Split::kTrain)[i].id).stem().string();
    EXPECT_EQ(three->image(Split::kTrain, i)[0][0][0].item<int>(), std::stoi(stem));
  }
  EXPECT_EQ(ids(*limit_per_class(open_dataset(folder.path()), 0, 0), Split::kTrain), ids(*whole, Split::kTrain));
  error_of(Code::kInvalidArgument, [&] { limit_per_class(open_dataset(folder.path()), -1, 0); });
}

TEST(DescribeSplits, ChangesWithTheImagesOnly) {
  const TemporaryFolder folder, copy;
  for (const auto* name : {"a", "b"}) {
    write_images(folder / name, 10);
    write_images(copy / name, 10);
  }
  const auto record = describe_splits(*open_dataset(folder.path()));
  EXPECT_EQ(record["kind"], "folder");
  EXPECT_EQ(record["split_seed"], 42);
  EXPECT_EQ(record["counts"], (nlohmann::json{{"train", 14}, {"validation", 2}, {"test", 4}}));
  EXPECT_EQ(record["sha256"], describe_splits(*open_dataset(copy.path()))["sha256"]);
  EXPECT_NE(record["sha256"], describe_splits(*open_dataset(folder.path(), 1))["sha256"]);
  write_bytes(copy / "a/new.png", plain_png(3));
  EXPECT_NE(record["sha256"], describe_splits(*open_dataset(copy.path()))["sha256"]);
}

}  // namespace
}  // namespace recast
