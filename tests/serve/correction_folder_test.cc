#include "serve/correction_folder.h"

#include "data/jpeg_files.h"
#include "format/expect_error.h"
#include "format/file_size_limit.h"
#include "recast/data/dataset.h"
#include "served_tasks.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using testing::HasSubstr;
using testing::MatchesRegex;

Correction cars(const std::string& label, const std::string& image) { return {"vit", "cars", label, image}; }

std::size_t files_below(const fs::path& folder) {
  std::size_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) count += entry.is_regular_file();
  return count;
}

TEST(CorrectionFolder, KeepsWhatLearnTakes) {
  const TemporaryFolder folder;
  CorrectionFolder corrections(folder / "corrections");
  for (std::uint64_t i = 0; i < 8; ++i) corrections.save(cars(i % 2 ? "vintage, red" : "new", image_file(i)));
  const auto data = open_dataset(folder / "corrections/vit/cars");
  EXPECT_EQ(data->classes(), (std::vector<std::string>{"new", "vintage, red"}));
  EXPECT_EQ(data->examples(Split::kTrain).size() + data->examples(Split::kValidation).size() +
                data->examples(Split::kTest).size(),
            8);
}

TEST(CorrectionFolder, NamesFilesByTheirContent) {
  const TemporaryFolder folder;
  CorrectionFolder corrections(folder.path());
  const SavedCorrection saved = corrections.save(cars("new", image_file(1)));
  EXPECT_THAT(saved.file, MatchesRegex("vit/cars/train/new/[0-9a-f]{32}\\.png"));
  EXPECT_EQ(saved.images, 1);
  EXPECT_EQ(read_file(folder / saved.file, 1 << 20), image_file(1));
  EXPECT_EQ(fs::status(folder / saved.file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_THAT(corrections.save(cars("new", encode_jpeg(16, 16))).file, MatchesRegex(".*\\.jpg"));
}

TEST(CorrectionFolder, HidesNoFolderOfABase) {
  const TemporaryFolder folder;
  CorrectionFolder corrections(folder.path());
  const Correction correction{".vit", "cars", "new", image_file(1)};
  const SavedCorrection saved = corrections.save(correction);
  EXPECT_THAT(saved.file, MatchesRegex("_vit/cars/train/new/[0-9a-f]{32}\\.png"));
  EXPECT_EQ(read_file(folder / saved.file, 1 << 20), image_file(1));
  EXPECT_EQ(corrections.save(correction).images, 1) << "said twice";
  EXPECT_EQ(folder.entries(), 1);
}

TEST(CorrectionFolder, LetsTheLastWordCount) {
  const TemporaryFolder folder;
  CorrectionFolder corrections(folder.path());
  const SavedCorrection first = corrections.save(cars("new", image_file(1)));
  EXPECT_EQ(corrections.save(cars("new", image_file(1))).images, 1) << "said twice";
  corrections.save(cars("new", image_file(2)));
  const SavedCorrection moved = corrections.save(cars("old", image_file(1)));
  EXPECT_EQ(moved.moved_from, "new");
  EXPECT_EQ(moved.images, 2);
  EXPECT_FALSE(fs::exists(folder / first.file));
  EXPECT_TRUE(fs::exists(folder / moved.file));
  corrections.save(cars("old", image_file(2)));
  EXPECT_FALSE(fs::exists(folder / "vit/cars/train/new")) << "a class without images is none";
  EXPECT_EQ(corrections.save({"vit", "pets", "new", image_file(1)}).images, 1) << "of another task";
  EXPECT_EQ(files_below(folder.path()), 3);
}

TEST(CorrectionFolder, RefusesLabelsThatAreNoFolders) {
  const TemporaryFolder folder;
  CorrectionFolder corrections(folder / "inside");
  for (const std::string& label :
       {std::string(), std::string("."), std::string(".."), std::string("../x"), std::string("/etc"),
        std::string("a/b"), std::string("a\\b"), std::string(".hidden"), std::string("a\nb"), std::string("a\0b", 3),
        std::string("\xff"), std::string("\u202e") + "abc", std::string(" a"), std::string("a "),
        std::string(201, 'a')})
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { corrections.save(cars(label, image_file(1))); }),
                HasSubstr("[corrections] label"));
  EXPECT_EQ(files_below(folder.path()), 0);
  for (const char* label : {"train", "caf\u00e9", "a b", "CON", "-rf", "x.png", "\u732b"})
    EXPECT_NO_THROW(corrections.save(cars(label, image_file(1)))) << label;
}

TEST(CorrectionFolder, TakesImagesAlone) {
  const TemporaryFolder folder;
  CorrectionFolder corrections(folder.path());
  const std::string image = image_file(1);
  error_of(Code::kInvalidArgument, [&] { corrections.save(cars("new", image.substr(0, image.size() / 2))); });
  error_of(Code::kInvalidArgument, [&] { corrections.save(cars("new", "")); });
  error_of(Code::kUnsupported, [&] { corrections.save(cars("new", "<script>alert(1)</script>")); });
  EXPECT_EQ(folder.entries(), 0);
}

TEST(CorrectionFolder, HoldsToItsLimits) {
  const TemporaryFolder folder;
  CorrectionFolder by_number(folder.path(), {.images = 2});
  by_number.save(cars("new", image_file(1)));
  by_number.save(cars("new", image_file(2)));
  EXPECT_THAT(error_of(Code::kExhausted, [&] { by_number.save(cars("new", image_file(3))); }),
              HasSubstr("learn from them first"));
  EXPECT_NO_THROW(by_number.save(cars("old", image_file(2)))) << "takes no more room";
  CorrectionFolder by_bytes(folder.path(), {.bytes = static_cast<std::int64_t>(2 * image_file(1).size())});
  error_of(Code::kExhausted, [&] { by_bytes.save(cars("new", image_file(3))); });
  fs::remove_all(folder / "vit");
  EXPECT_NO_THROW(by_number.save(cars("new", image_file(3)))) << "the folder is the operator's";
}

TEST(CorrectionFolder, LeavesNoClassWithoutImagesWhereAWriteFails) {
  const TemporaryFolder folder;
  CorrectionFolder corrections(folder.path());
  corrections.save(cars("new", image_file(1)));
  {
    const FileSizeLimit full(10);
    EXPECT_THAT(error_of(Code::kUnavailable, [&] { corrections.save(cars("old", image_file(2))); }),
                HasSubstr("cannot write"));
    error_of(Code::kUnavailable, [&] { corrections.save(cars("new", image_file(2))); });
  }
  EXPECT_FALSE(fs::exists(folder / "vit/cars/train/old"));
  EXPECT_TRUE(fs::exists(folder / "vit/cars/train/new")) << "it has an image";
}

TEST(CorrectionFolder, FollowsNoLinks) {
  const TemporaryFolder folder, elsewhere;
  CorrectionFolder corrections(folder.path());
  corrections.save(cars("new", image_file(1)));
  fs::create_directory_symlink(elsewhere.path(), folder / "vit/cars/train/old");
  error_of(Code::kUnavailable, [&] { corrections.save(cars("old", image_file(2))); });
  EXPECT_EQ(elsewhere.entries(), 0);
}

TEST(CorrectionFolder, CountsNothingBehindLinks) {
  const TemporaryFolder folder, elsewhere;
  CorrectionFolder(elsewhere.path()).save(cars("new", image_file(1)));
  fs::create_directories(folder / "vit/pets");
  fs::create_directory_symlink(elsewhere / "vit/cars/train", folder / "vit/pets/train");
  CorrectionFolder corrections(folder.path(), {.images = 1});
  EXPECT_NO_THROW(corrections.save(cars("new", image_file(2))));
}

}  // namespace
}  // namespace recast
