// Pixels against Pillow and torchvision, run by reference.py in the same test.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "data/data_files.h"
#include "data/jpeg_files.h"
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/data/augment.h"
#include "recast/data/preprocess.h"
#include "recast/format/files.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

struct Expected {
  std::string name, file;
  at::Tensor pixels;
};

// What `reference.py WHAT folder REST...` writes; nothing if it fails.
std::vector<Expected> reference(const std::string& what, const fs::path& folder, std::vector<std::string> rest = {}) {
  std::vector<std::string> command = {python_path(), RECAST_SOURCE_DIR "/tests/data/reference.py", what,
                                      folder.string()};
  command.insert(command.end(), rest.begin(), rest.end());
  const auto outcome = run_program(command);
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  std::vector<Expected> out;
  if (outcome.status != 0) return out;
  for (const auto& entry : nlohmann::json::parse(read_file(folder / "index.json", 1 << 26))) {
    const auto bytes = read_file(folder / (entry.at("name").get<std::string>() + ".bin"), 1 << 28);
    const auto shape = entry.at("shape").get<std::vector<std::int64_t>>();
    out.push_back({entry.at("name"), entry.at("file"), at::empty(shape, at::kByte)});
    std::memcpy(out.back().pixels.data_ptr(), bytes.data(), bytes.size());
  }
  return out;
}

std::vector<std::string> some_photos(std::size_t step) {
  std::vector<std::string> all, some;
  for (const auto& entry : fs::directory_iterator(shared_data() / "photos")) {
    if (entry.path().extension() == ".JPEG") all.push_back(entry.path().string());
  }
  std::sort(all.begin(), all.end());
  for (std::size_t i = 0; i < all.size(); i += step) some.push_back(all[i]);
  return some;
}

at::Tensor decoded(const std::string& file) { return decode_image(read_file(file, kMaxImageBytes), file); }

// Largest and mean difference in steps of 1/255, and the share of values that differ.
struct Difference {
  int largest;
  double mean, share;
};

Difference difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return {255, 255, 1};
  const auto d = (a.to(at::kInt) - b.to(at::kInt)).abs();
  return {d.max().item<int>(), d.to(at::kDouble).mean().item<double>(), d.ne(0).to(at::kDouble).mean().item<double>()};
}

const std::map<std::string, Preprocessing> kEvaluations = {{"vit", {224, 1.0, "bicubic"}},
                                                           {"deit", {224, 0.875, "bicubic"}},
                                                           {"resnet", {224, 0.875, "bilinear"}},
                                                           {"small", {98, 0.95, "bicubic"}},
                                                           {"large", {518, 1.0, "bicubic"}}};

TEST(ImageParity, EveryKindOfFileHasPillowsPixels) {
  RECAST_NEED_PYTHON("PIL, numpy");
  const TemporaryFolder folder;
  const auto expected = reference("kinds", folder.path());
  EXPECT_GE(expected.size(), 70u);
  for (const auto& e : expected) EXPECT_EQ(difference(decoded(e.file), e.pixels).largest, 0) << e.name;
}

TEST(ImageParity, EveryOrientationIsTurnedAsPillowTurnsIt) {
  RECAST_NEED_PYTHON("PIL, numpy");
  const TemporaryFolder folder;
  const auto expected = reference("turned", folder.path());
  EXPECT_GE(expected.size(), 36u);
  for (const auto& e : expected) EXPECT_EQ(difference(decoded(e.file), e.pixels).largest, 0) << e.name;
}

TEST(ImageParity, EverySamplingOfColourHasPillowsPixels) {
  RECAST_NEED_PYTHON("PIL, numpy");
  const TemporaryFolder folder;
  std::vector<std::string> files;
  for (const auto& [across, down] : {std::pair{1, 1}, {2, 1}, {2, 2}, {4, 1}, {1, 2}, {4, 2}}) {
    for (const bool progressive : {false, true}) {
      files.push_back((folder / fmt::format("{}{}{}.jpg", across, down, progressive ? "p" : "")).string());
      write_bytes(files.back(), encode_jpeg(61, 43, progressive, {}, across, down));
    }
  }
  const auto expected = reference("read", folder.path(), files);
  EXPECT_EQ(expected.size(), files.size());
  for (const auto& e : expected) EXPECT_EQ(difference(decoded(e.file), e.pixels).largest, 0) << e.name;
}

TEST(PreprocessParity, PhotographsEqualTorchvisionsEvaluationTransform) {
  RECAST_NEED_PYTHON("PIL, numpy, torch");
  RECAST_NEED_PATH(shared_data() / "photos");
  const TemporaryFolder folder;
  const auto expected = reference("photos", folder.path(), some_photos(8));
  EXPECT_GE(expected.size(), 100u);
  for (const auto& e : expected) {
    const auto setting = e.name.substr(e.name.rfind('.') + 1);
    auto pixels = decoded(e.file);
    if (setting != "decoded") pixels = evaluation_pixels(pixels, kEvaluations.at(setting));
    const auto d = difference(pixels, e.pixels);
    EXPECT_EQ(d.largest, 0) << e.name << ": a share of " << d.share << " differs";
  }
}

at::Tensor step(const std::string& name, const at::Tensor& x) {
  std::vector<double> numbers;
  for (auto at = name.find('_'); at != name.npos; at = name.find('_', at + 1)) {
    numbers.push_back(std::stod(name.substr(at + 1)));
  }
  if (name.starts_with("brightness")) return adjust_brightness(x, numbers.at(0));
  if (name.starts_with("contrast")) return adjust_contrast(x, numbers.at(0));
  if (name.starts_with("saturation")) return adjust_saturation(x, numbers.at(0));
  if (name.starts_with("hue")) return adjust_hue(x, numbers.at(0));
  if (name.starts_with("flip")) return flip_horizontally(x);
  return affine(x, numbers.at(0), numbers.at(1), numbers.at(2), numbers.at(3));
}

// Colours follow torchvision on tensors, up to one step where a value falls on the border that is cut at. Pillow's own
// differ from those by a rounded grey and by a hue of 8 bits: less than one step on average. Affine positions are
// Pillow's to the bit; torchvision's grid on tensors picks another neighbour at ties.
TEST(AugmentParity, StepsMatchTorchvision) {
  RECAST_NEED_PYTHON("PIL, numpy, torch");
  RECAST_NEED_PATH(shared_data() / "photos");
  const TemporaryFolder folder;
  const auto expected = reference("steps", folder.path(), {some_photos(200).at(0)});
  ASSERT_EQ(expected.size(), 25u);
  ASSERT_EQ(expected[0].name, "input");
  for (std::size_t i = 1; i < expected.size(); ++i) {
    const auto& e = expected[i];
    const bool moved = e.name.starts_with("affine") || e.name.starts_with("flip");
    const bool pillow = e.name.ends_with(".pillow");
    const auto d = difference(step(e.name.substr(0, e.name.rfind('.')), expected[0].pixels), e.pixels);
    if (moved && pillow) {
      EXPECT_EQ(d.largest, 0) << e.name;
    } else if (moved) {
      EXPECT_LT(d.share, 0.01) << e.name;
    } else if (pillow) {
      EXPECT_LE(d.mean, 1.0) << e.name;
    } else {
      EXPECT_LE(d.largest, 1) << e.name;
      EXPECT_LT(d.mean, 0.01) << e.name;
    }
  }
}

}  // namespace
}  // namespace recast
