// CIFAR binary and IDX files.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <map>
#include <nlohmann/json.hpp>

#include "data/data_files.h"
#include "format/expect_error.h"
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/data/dataset.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using ::testing::HasSubstr;

std::string open_refusal(Code code, const fs::path& path) {
  return error_of(code, [&] { open_dataset(path); });
}

std::string big_endian(std::uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8), static_cast<char>(v)};
}

// Image i is plain i; its label is i % classes.
std::string idx_images(std::uint32_t count, std::uint32_t side = 5) {
  std::string bytes = big_endian(0x00000803) + big_endian(count) + big_endian(side) + big_endian(side);
  for (std::uint32_t i = 0; i < count; ++i) bytes += std::string(std::size_t{side} * side, static_cast<char>(i));
  return bytes;
}

std::string idx_labels(std::uint32_t count, std::uint32_t classes = 2) {
  std::string bytes = big_endian(0x00000801) + big_endian(count);
  for (std::uint32_t i = 0; i < count; ++i) bytes += static_cast<char>(i % classes);
  return bytes;
}

std::string cifar(int count, bool hundred, int classes = 10) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    if (hundred) bytes += static_cast<char>(7);
    bytes += static_cast<char>(i % classes);
    for (int c = 0; c < 3; ++c) bytes += std::string(1024, static_cast<char>(i + c));
  }
  return bytes;
}

void write_gz(const fs::path& file, const std::string& bytes) {
  gzFile out = gzopen(file.c_str(), "wb");
  gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(out);
}

TEST(IdxDataset, ReadsTrainAndTestPlainAndZipped) {
  const TemporaryFolder plain, zipped;
  for (const auto& [prefix, count] : {std::pair{"train", 40u}, {"t10k", 10u}}) {
    const std::string images = std::string(prefix) + "-images-idx3-ubyte",
                      labels = std::string(prefix) + "-labels-idx1-ubyte";
    write_bytes(plain / images, idx_images(count));
    write_bytes(plain / labels, idx_labels(count));
    write_gz(zipped / (images + ".gz"), idx_images(count));
    write_gz(zipped / (labels + ".gz"), idx_labels(count));
  }
  const auto data = open_dataset(plain.path()), same = open_dataset(zipped.path());
  EXPECT_EQ(data->kind(), "idx");
  EXPECT_EQ(data->examples(Split::kTrain).size(), 36u);
  EXPECT_EQ(data->examples(Split::kValidation).size(), 4u);
  EXPECT_EQ(data->examples(Split::kTest).size(), 10u);
  for (const Split split : kSplits) {
    for (std::size_t i = 0; i < data->examples(split).size(); ++i) {
      const auto& example = data->examples(split)[i];
      EXPECT_EQ(example.id, same->examples(split)[i].id);
      const auto number = std::stoi(example.id.substr(example.id.find('#') + 1));
      EXPECT_EQ(example.label, number % 2);
      EXPECT_TRUE(at::equal(same->image(split, i), at::full({3, 5, 5}, number, at::kByte)));
    }
  }
}

TEST(IdxDataset, ReadsOneFileWithItsLabelsBesideIt) {
  const TemporaryFolder folder;
  write_bytes(folder / "my-images-idx3-ubyte", idx_images(30));
  EXPECT_THAT(open_refusal(Code::kNotFound, folder / "my-images-idx3-ubyte"), HasSubstr("my-labels-idx1-ubyte[.gz]"));
  write_bytes(folder / "my-labels-idx1-ubyte", idx_labels(30));
  EXPECT_EQ(open_dataset(folder / "my-images-idx3-ubyte")->examples(Split::kTest).size(), 6u);
  EXPECT_EQ(open_dataset(folder.path())->examples(Split::kTest).size(), 6u);
  EXPECT_THAT(open_refusal(Code::kUnsupported, folder / "my-labels-idx1-ubyte"), HasSubstr("give the file of images"));
}

TEST(IdxDataset, RefusesFilesThatLie) {
  const TemporaryFolder folder;
  const auto images = folder / "train-images-idx3-ubyte", labels = folder / "train-labels-idx1-ubyte";
  const auto with = [&](const std::string& i, const std::string& l) {
    write_bytes(images, i);
    write_bytes(labels, l);
    return open_refusal(Code::kDataCorruption, folder.path());
  };
  EXPECT_THAT(with("abc", idx_labels(20)), HasSubstr("3 bytes are too few"));
  EXPECT_THAT(with(idx_labels(20), idx_labels(20)), HasSubstr("begins with 00 00 08 01, expected 00 00 08 03"));
  EXPECT_THAT(with(idx_images(20).substr(0, 99), idx_labels(20)), HasSubstr("announces 20 x 5 x 5: truncated?"));
  EXPECT_THAT(with(idx_images(20) + "x", idx_labels(20)), HasSubstr("announces"));
  EXPECT_THAT(with(big_endian(0x803) + std::string(12, '\xff'), idx_labels(20)), HasSubstr("announces"));
  EXPECT_THAT(with(big_endian(0x803) + std::string(12, '\0'), idx_labels(20)), HasSubstr("announces"));
  EXPECT_THAT(with(idx_images(20), idx_labels(19)), HasSubstr("19 labels for the 20 images"));
  EXPECT_THAT(with(std::string("\x1f\x8b\x08", 3), idx_labels(20)), HasSubstr("train-images"));
}

TEST(IdxDataset, RefusesAFolderOfManySets) {
  const TemporaryFolder folder;
  for (const auto* prefix : {"a", "b"}) {
    write_bytes(folder / (std::string(prefix) + "-images-idx3-ubyte"), idx_images(20));
    write_bytes(folder / (std::string(prefix) + "-labels-idx1-ubyte"), idx_labels(20));
  }
  EXPECT_THAT(open_refusal(Code::kUnsupported, folder.path()), HasSubstr("a-images-idx3-ubyte, b-images-idx3-ubyte"));
}

TEST(IdxDataset, ReadsFashionMnistOfDebian) {
  const fs::path folder = "/usr/share/datasets/fashion-mnist";
  RECAST_NEED_PATH(folder);  // Debian package dataset-fashion-mnist
  const auto data = open_dataset(folder);
  EXPECT_EQ(data->classes().size(), 10u);
  EXPECT_EQ(data->examples(Split::kTrain).size(), 54000u);
  EXPECT_EQ(data->examples(Split::kValidation).size(), 6000u);
  EXPECT_EQ(data->examples(Split::kTest).size(), 10000u);
  EXPECT_EQ(data->examples(Split::kTest)[0].label, 9);  // an ankle boot
  EXPECT_EQ(data->image(Split::kTest, 0).sizes(), at::IntArrayRef({3, 28, 28}));
}

TEST(CifarDataset, ReadsTheFilesOfCifar10) {
  const TemporaryFolder folder;
  for (int i = 1; i <= 2; ++i) write_bytes(folder / ("data_batch_" + std::to_string(i) + ".bin"), cifar(50, false));
  write_bytes(folder / "test_batch.bin", cifar(20, false));
  write_bytes(folder / "batches.meta.txt", "airplane\ncar\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
  const auto data = open_dataset(folder.path());
  EXPECT_EQ(data->kind(), "cifar10");
  EXPECT_EQ(data->classes()[1], "bird");  // sorted by name
  EXPECT_EQ(data->examples(Split::kTest)[2].id, "test_batch.bin#2");
  EXPECT_EQ(data->classes()[data->examples(Split::kTest)[2].label], "bird");
  EXPECT_EQ(data->image(Split::kTest, 2).sizes(), at::IntArrayRef({3, 32, 32}));
  for (int c = 0; c < 3; ++c) EXPECT_TRUE(data->image(Split::kTest, 2)[c].eq(2 + c).all().item<bool>());
  EXPECT_EQ(data->examples(Split::kTrain).size() + data->examples(Split::kValidation).size(), 100u);
}

TEST(CifarDataset, ReadsFineLabelsOfCifar100) {
  const TemporaryFolder folder;
  write_bytes(folder / "train.bin", cifar(400, true, 100));
  write_bytes(folder / "test.bin", cifar(100, true, 100));
  const auto data = open_dataset(folder.path());
  EXPECT_EQ(data->kind(), "cifar100");
  EXPECT_EQ(data->classes().size(), 100u);
  EXPECT_EQ(data->examples(Split::kTest)[42].label, 42);
  EXPECT_EQ(open_dataset(folder / "train.bin")->kind(), "cifar100");
}

// Class i lies in superclass i / 5; of each class three images to train with and one to test.
void write_cifar100_with_superclasses(const fs::path& folder) {
  std::string fine, coarse, train, test;
  for (int i = 0; i < 20; ++i) coarse += "group-" + std::string(1, static_cast<char>('a' + i)) + "\n";
  for (int i = 0; i < 100; ++i) fine += "class-" + std::to_string(100 + i) + "\n";
  for (int i = 0; i < 400; ++i) {
    std::string record(2 + 3 * 1024, static_cast<char>(i));
    record[0] = static_cast<char>(i % 100 / 5);
    record[1] = static_cast<char>(i % 100);
    (i < 300 ? train : test) += record;
  }
  write_bytes(folder / "train.bin", train);
  write_bytes(folder / "test.bin", test);
  write_bytes(folder / "fine_label_names.txt", fine);
  write_bytes(folder / "coarse_label_names.txt", coarse);
}

TEST(CifarDataset, TellsTheClassesOfASuperclass) {
  const TemporaryFolder folder;
  write_cifar100_with_superclasses(folder.path());
  const auto groups = open_dataset(folder.path())->superclasses();
  ASSERT_EQ(groups.size(), 20u);
  EXPECT_EQ(groups.at("group-b"),
            (std::vector<std::string>{"class-105", "class-106", "class-107", "class-108", "class-109"}));
  fs::remove(folder / "coarse_label_names.txt");
  EXPECT_EQ(open_dataset(folder.path())->superclasses().count("19"), 1u);
  write_bytes(folder / "train.bin", cifar(400, true, 100));  // superclass 7 throughout; test.bin says otherwise
  const auto torn = open_dataset(folder.path());
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { torn->superclasses(); }),
              HasSubstr("'class-100' has images of 2 superclasses"));
}

TEST(ChooseClasses, LeavesEveryImageInItsSplit) {
  const TemporaryFolder folder;
  write_cifar100_with_superclasses(folder.path());
  const auto whole = open_dataset(folder.path());
  const auto some = choose_classes(open_dataset(folder.path()), {"class-199", "class-100"}, {"group-b"});
  EXPECT_EQ(some->classes(), (std::vector<std::string>{"class-100", "class-105", "class-106", "class-107", "class-108",
                                                       "class-109", "class-199"}));
  EXPECT_TRUE(some->chosen());
  for (const Split split : kSplits) {
    std::map<std::string, std::string> classes;
    for (const Example& example : whole->examples(split))
      classes[example.id] = whole->classes()[static_cast<std::size_t>(example.label)];
    std::size_t wanted = 0;
    for (const auto& [id, name] : classes)
      wanted += std::count(some->classes().begin(), some->classes().end(), name) > 0;
    ASSERT_EQ(some->examples(split).size(), wanted) << name(split);
    for (std::size_t row = 0; row < some->examples(split).size(); ++row) {
      const Example& example = some->examples(split)[row];
      EXPECT_EQ(some->classes()[static_cast<std::size_t>(example.label)], classes.at(example.id));
    }
  }
  const int number = std::stoi(some->examples(Split::kTest)[0].id.substr(9)) + 300;  // test.bin#N
  EXPECT_EQ(some->image(Split::kTest, 0)[0][0][0].item<int>(), number % 256);
  const auto limited = limit_per_class(choose_classes(open_dataset(folder.path()), {}, {"group-b"}), 1, 1);
  EXPECT_EQ(limited->examples(Split::kTrain).size(), 5u);
  EXPECT_EQ(describe_splits(*limited)["chosen"], true);
  EXPECT_FALSE(describe_splits(*whole).contains("chosen"));
  EXPECT_EQ(choose_classes(open_dataset(folder.path()), {}, {})->classes().size(), 100u);
}

TEST(ChooseClasses, SuggestsTheNearestName) {
  const TemporaryFolder folder, plain;
  write_cifar100_with_superclasses(folder.path());
  const auto chosen = [&](const fs::path& path, std::vector<std::string> classes, std::vector<std::string> groups) {
    return [=] { choose_classes(open_dataset(path), classes, groups); };
  };
  EXPECT_THAT(error_of(Code::kNotFound, chosen(folder.path(), {"class-1oo"}, {})),
              HasSubstr("no class 'class-1oo', did you mean 'class-1"));
  EXPECT_THAT(error_of(Code::kNotFound, chosen(folder.path(), {}, {"grup-a"})), HasSubstr("did you mean 'group-a'?"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, chosen(folder.path(), {"class-100"}, {})), HasSubstr("at least two"));
  for (const char* name : {"a", "b"}) write_images(plain / name, 5);
  EXPECT_THAT(error_of(Code::kUnsupported, chosen(plain.path(), {}, {"people"})), HasSubstr("no superclasses"));
}

TEST(CifarDataset, RefusesFilesThatLie) {
  const TemporaryFolder folder;
  const auto file = folder / "train.bin";
  write_bytes(file, cifar(40, true).substr(0, 5000));
  EXPECT_THAT(open_refusal(Code::kDataCorruption, folder.path()), HasSubstr("5000 bytes, not a whole number"));
  write_bytes(file, "");
  EXPECT_THAT(open_refusal(Code::kDataCorruption, folder.path()), HasSubstr("0 bytes"));
  write_bytes(file, cifar(128, true, 128));
  EXPECT_THAT(open_refusal(Code::kDataCorruption, folder.path()),
              HasSubstr("record 100 has label 100, cifar100 has 0 to 99"));
  write_bytes(file, cifar(400, true, 100));
  write_bytes(folder / "fine_label_names.txt", "one\ntwo\n");
  EXPECT_THAT(open_refusal(Code::kDataCorruption, folder.path()), HasSubstr("2 class names, expected 100"));
}

TEST(CifarDataset, ReadsTheSharedCifar100) {
  RECAST_NEED_PYTHON("PIL, numpy");
  const auto unpack = shared_data() / "cifar100/unpack.py";
  RECAST_NEED_PATH(unpack);
  const TemporaryFolder folder;
  const auto outcome = run_program({python_path(), unpack.string(), folder.path().string()});
  ASSERT_EQ(outcome.status, 0) << outcome.text;
  const auto data = open_dataset(folder.path());
  EXPECT_EQ(data->classes().front(), "apple");
  EXPECT_EQ(data->examples(Split::kTrain).size(), 45000u);
  EXPECT_EQ(data->examples(Split::kValidation).size(), 5000u);
  EXPECT_EQ(data->examples(Split::kTest).size(), 10000u);
  EXPECT_EQ(data->superclasses().at("people"), (std::vector<std::string>{"baby", "boy", "girl", "man", "woman"}));
}

}  // namespace
}  // namespace recast
