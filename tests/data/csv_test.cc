#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "data/data_files.h"
#include "format/expect_error.h"
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/data/dataset.h"

namespace recast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A folder with images/0.png .. 9.png and list.csv.
struct Csv {
  TemporaryFolder folder;
  Csv() { write_images(folder / "images", 10); }

  std::unique_ptr<Dataset> open(std::string_view text) {
    write_bytes(folder / "list.csv", text);
    return open_dataset(folder / "list.csv");
  }
  std::string refusal(Code code, std::string_view text) {
    return error_of(code, [&] { open(text); });
  }
};

std::string rows(std::string_view ending = "\n") {
  std::string text;
  for (int i = 0; i < 10; ++i) {
    text += "images/" + std::to_string(i) + ".png," + (i % 2 ? "odd" : "even") + std::string(ending);
  }
  return text;
}

TEST(CsvDataset, ReadsPathsRelativeToTheFile) {
  Csv csv;
  const auto data = csv.open("path,label\n" + rows());
  EXPECT_EQ(data->kind(), "csv");
  EXPECT_THAT(data->classes(), ElementsAre("even", "odd"));
  for (const Split split : kSplits) {
    for (std::size_t i = 0; i < data->examples(split).size(); ++i) {
      EXPECT_EQ(data->image(split, i)[0][0][0].item<int>() % 2, data->examples(split)[i].label);
    }
  }
}

TEST(CsvDataset, UnderstandsQuotesBomCarriageReturnsAndOtherColumns) {
  Csv csv;
  write_bytes(csv.folder / "images/a,\"b\".png", plain_png(77));
  const auto data = csv.open(
      "\xef\xbb\xbf"
      "id, Label ,\"PATH\"\r\n1,\"x, y\",\"images/a,\"\"b\"\".png\"\r\n\r\n2,\"x, y\",images/1.png\r\n"
      "3,\"x, y\",images/2.png\r\n4,\"line\nbreak\",images/3.png\r\n5,\"line\nbreak\",images/4.png\r\n"
      "6,\"line\nbreak\" ,./images/5.png");
  EXPECT_THAT(data->classes(), ElementsAre("line\nbreak", "x, y"));
  std::size_t total = 0;
  for (const Split split : kSplits) total += data->examples(split).size();
  EXPECT_EQ(total, 6u);
}

TEST(CsvDataset, SortsLabelsThatAreNumbersAsNumbers) {
  Csv csv;
  std::string text = "path,label\n";
  for (int i = 0; i < 10; ++i) text += "images/" + std::to_string(i) + ".png," + (i < 5 ? "10" : "9") + "\n";
  EXPECT_THAT(csv.open(text)->classes(), ElementsAre("9", "10"));
}

TEST(CsvDataset, TakesItsSplitFromTheColumn) {
  Csv csv;
  std::string text = "path,label,split\n";
  for (int i = 0; i < 10; ++i) {
    const auto* split = i < 2 ? "test" : i < 4 ? "val" : "train";
    text += "images/" + std::to_string(i) + ".png," + (i % 2 ? "odd," : "even,") + split + "\n";
  }
  const auto data = csv.open(text);
  EXPECT_EQ(data->examples(Split::kTest).size(), 2u);
  EXPECT_EQ(data->examples(Split::kValidation).size(), 2u);
  EXPECT_EQ(data->examples(Split::kTrain).size(), 6u);
  EXPECT_THAT(csv.refusal(Code::kDataCorruption, "path,label,split\nimages/1.png,a,dev\n"),
              HasSubstr("line 2: split 'dev'"));
}

TEST(CsvDataset, RefusesByLine) {
  Csv csv;
  using enum Code;
  EXPECT_THAT(csv.refusal(kUnsupported, "file,label\n" + rows()),
              HasSubstr("no column 'path'; its first line must name the columns path and label, found: file, label"));
  EXPECT_THAT(csv.refusal(kUnsupported, "path;label\n"), HasSubstr("found: path;label"));
  EXPECT_THAT(csv.refusal(kUnsupported, "path,label,Path\n"), HasSubstr("columns 1 and 3 are both called 'path'"));
  EXPECT_THAT(csv.refusal(kNotFound, "path,label\n\n" + rows() + "images/none.png,odd\n"),
              testing::AllOf(HasSubstr("list.csv line 13: no file"), HasSubstr("images/none.png")));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\n" + rows() + "images/../images/3.png,odd\n"),
              HasSubstr("line 12: images/../images/3.png is listed already on line 5"));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\nimages/1.png\n"), HasSubstr("line 2: 1 fields"));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\nimages/1.png,\n"), HasSubstr("line 2: no label"));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\n,a\n"), HasSubstr("line 2: no path"));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\n\"images/1.png,a\nx,y\n"),
              HasSubstr("line 2: a quote is never"));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\n\"images/1.png\"x,a\n"), HasSubstr("after a closing quote"));
  EXPECT_THAT(csv.refusal(kDataCorruption, std::string("path,label\nimages/1.png,a\0b\n", 28)), HasSubstr("NUL"));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\nimages/1.png,\xff\n"), HasSubstr("not UTF-8"));
  EXPECT_THAT(csv.refusal(kUnsupported, "\xff\xfep"), HasSubstr("UTF-16"));
  EXPECT_THAT(csv.refusal(kDataCorruption, ""), HasSubstr("is empty"));
  EXPECT_THAT(csv.refusal(kUnsupported, "path,label\n"), HasSubstr("no rows"));
  EXPECT_THAT(csv.refusal(kUnsupported, "path,label\nimages/1.png,a\nimages/2.png,a\n"), HasSubstr("one class"));
}

TEST(CsvDataset, RefusesRowsTwiceWhateverTheirLabelsAndMarks) {
  Csv csv;
  using enum Code;
  const auto twice = "images/3.png is listed already on line 5";
  EXPECT_THAT(csv.refusal(kDataCorruption, "\xef\xbb\xbfpath,label\r\n" + rows() + "\"images/3.png\",odd\r\n"),
              HasSubstr(twice));
  EXPECT_THAT(csv.refusal(kDataCorruption, "path,label\n" + rows() + "./images//3.png,even\n"), HasSubstr("on line 5"));
  EXPECT_THAT(csv.refusal(kDataCorruption, std::string("path,label\n\0\n", 13)), HasSubstr("line 2: holds a NUL"));
}

TEST(CsvDataset, ReadsTheSharedPhotographs) {
  const auto list = shared_data() / "photos/labels.csv";
  RECAST_NEED_PATH(list);
  // One photograph a class: everything is read, and then there is nothing to split.
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { open_dataset(list); }), HasSubstr("has 1 images to split"));
}

}  // namespace
}  // namespace recast
