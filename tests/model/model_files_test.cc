#include "recast/model/model_files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>
#include <thread>

#include "model/toy_vit.h"
#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/mimic/mimicry.h"

extern char** environ;

namespace recast {
namespace {

namespace fs = std::filesystem;

class ModelDirectory : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "recast-model-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(root_), fs::directory_iterator()));
  }
  fs::path root_;
};

std::string failure(const std::function<void()>& action, Code code) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(name(error.code()), name(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown, expected " << name(code);
  return "";
}

ModelFiles mimicked_toy(std::uint64_t seed = 1) { return mimic(toy_vit(seed), {.target = "all", .groups = 1}).files; }

TEST_F(ModelDirectory, ComesBackEqual) {
  for (const ModelFiles& files : {toy_vit(), mimicked_toy()}) {
    const fs::path path = root_ / fmt::format("model{}", files.bank.size());
    write_model_files(path, files, false);
    EXPECT_EQ(fs::exists(path / "bank.safetensors"), !files.bank.empty());
    const ModelFiles read = read_model_files(path);
    EXPECT_EQ(read.config.to_json(), files.config.to_json());
    EXPECT_EQ(read.fingerprint(), files.fingerprint());
    for (const auto& [name, tensor] : files.backbone) EXPECT_TRUE(read.backbone.at(name).equal(tensor)) << name;
    for (const auto& [name, tensor] : files.bank) EXPECT_TRUE(read.bank.at(name).equal(tensor)) << name;
  }
}

TEST_F(ModelDirectory, MakesParentsAndTakesATrailingSlash) {
  write_model_files(root_ / "a" / "b" / "", toy_vit(), false);
  EXPECT_NO_THROW(read_model_files(root_ / "a" / "b"));
}

TEST_F(ModelDirectory, IsNeverOverwrittenWithoutForce) {
  const fs::path path = root_ / "model";
  write_model_files(path, toy_vit(1), false);
  const std::string before = read_model_files(path).fingerprint();
  EXPECT_NE(failure([&] { write_model_files(path, toy_vit(2), false); }, Code::kAlreadyExists).find("--force"),
            std::string::npos);
  EXPECT_EQ(read_model_files(path).fingerprint(), before);
  write_model_files(path, toy_vit(2), true);
  EXPECT_EQ(read_model_files(path).fingerprint(), toy_vit(2).fingerprint());
  EXPECT_EQ(entries(), 1U);
}

TEST_F(ModelDirectory, ForceReplacesOnlyModelsAndEmptyFolders) {
  fs::create_directory(root_ / "empty");
  failure([&] { write_model_files(root_ / "empty", toy_vit(), false); }, Code::kAlreadyExists);
  write_model_files(root_ / "empty", toy_vit(), true);

  fs::create_directory(root_ / "photos");
  std::ofstream(root_ / "photos" / "a.jpg") << "precious";
  failure([&] { write_model_files(root_ / "photos", toy_vit(), true); }, Code::kAlreadyExists);
  std::ofstream(root_ / "photos" / "config.json") << "{\"model_type\": \"bert\"}";
  failure([&] { write_model_files(root_ / "photos", toy_vit(), true); }, Code::kAlreadyExists);
  EXPECT_TRUE(fs::exists(root_ / "photos" / "a.jpg"));

  std::ofstream(root_ / "file") << "x";
  failure([&] { write_model_files(root_ / "file", toy_vit(), true); }, Code::kAlreadyExists);
  EXPECT_EQ(entries(), 3U);
}

TEST_F(ModelDirectory, NothingIsLeftOfAWriteThatFails) {
  ModelFiles broken = toy_vit();
  broken.backbone.at("norm.bias")[0] = NAN;
  failure([&] { write_model_files(root_ / "model", broken, false); }, Code::kDataCorruption);
  EXPECT_EQ(entries(), 0U);
}

TEST_F(ModelDirectory, SaysWhatIsMissing) {
  failure([&] { read_model_files(root_ / "absent"); }, Code::kNotFound);
  EXPECT_NE(failure([&] { read_model_files(root_); }, Code::kNotFound).find("config.json"), std::string::npos);
  const fs::path path = root_ / "model";
  write_model_files(path, mimicked_toy(), false);
  for (const char* name : {"bank.safetensors", "backbone.safetensors"}) {
    fs::remove(path / name);
    EXPECT_NE(failure([&] { read_model_files(path); }, Code::kNotFound).find(name), std::string::npos);
  }
  failure([&] { read_model_files(path / "config.json"); }, Code::kNotFound);
}

TEST_F(ModelDirectory, RefusesTensorsThatDoNotFitTheConfig) {
  const auto refused = [&](const std::function<void(ModelFiles&)>& change, Code code) {
    ModelFiles files = mimicked_toy();
    change(files);
    const std::string text = failure([&] { make_backbone(files); }, code);
    failure([&] { write_model_files(root_ / "model", files, false); }, code);
    failure([&] { (void)files.fingerprint(); }, code);
    return text;
  };
  EXPECT_NE(
      refused([](ModelFiles& f) { f.backbone.erase("norm.bias"); }, Code::kShapeMismatch).find("1 missing (norm.bias)"),
      std::string::npos);
  refused([](ModelFiles& f) { f.backbone["odd"] = at::zeros({1}); }, Code::kShapeMismatch);
  refused([](ModelFiles& f) { f.backbone["norm.bias"] = at::zeros({31}); }, Code::kShapeMismatch);
  refused([](ModelFiles& f) { f.backbone["norm.bias"] = at::zeros({32}, at::kDouble); }, Code::kShapeMismatch);
  refused([](ModelFiles& f) { f.backbone["norm.bias"] = at::Tensor(); }, Code::kShapeMismatch);
  refused([](ModelFiles& f) { f.backbone["blocks.0.attn.qkv.weight"] = at::zeros({96, 32}); }, Code::kShapeMismatch);
  refused([](ModelFiles& f) { f.bank.at("attn.qkv.0.templates")[0][0][0] = NAN; }, Code::kDataCorruption);
  refused([](ModelFiles& f) { f.bank.erase("blocks.0.attn.qkv.coefficients"); }, Code::kShapeMismatch);
  refused([](ModelFiles& f) { f.config.bank.sets = 3; }, Code::kShapeMismatch);
  refused([](ModelFiles& f) { f.config.bank.members.clear(); }, Code::kDataCorruption);
  refused([](ModelFiles& f) { f.config.bank.members[0].slots.push_back("blocks.0.mlp.fc1"); }, Code::kDataCorruption);
  refused([](ModelFiles& f) { f.config.bank.members[0].slots[1] = "norm"; }, Code::kDataCorruption);
  refused([](ModelFiles& f) { f.config.bank.members[1] = f.config.bank.members[0]; }, Code::kDataCorruption);
  refused([](ModelFiles& f) { f.config.vit().heads = 5; }, Code::kInvalidArgument);
  EXPECT_EQ(entries(), 0U);
}

TEST_F(ModelDirectory, RefusesFilesThatWereChanged) {
  const fs::path path = root_ / "model";
  write_model_files(path, toy_vit(), false);
  write_tensor_file(path / "bank.safetensors", {{{"a", at::zeros({1})}}, {}});
  failure([&] { read_model_files(path); }, Code::kDataCorruption);
  fs::remove(path / "bank.safetensors");
  fs::resize_file(path / "backbone.safetensors", fs::file_size(path / "backbone.safetensors") - 1);
  failure([&] { read_model_files(path); }, Code::kDataCorruption);
  std::ofstream(path / "config.json") << "{";
  failure([&] { read_model_files(path); }, Code::kDataCorruption);
}

TEST(Fingerprint, ChangesWithEveryTensorNameShapeAndConfig) {
  const ModelFiles files = mimicked_toy();
  std::set<std::string> seen = {files.fingerprint()};
  EXPECT_EQ(files.fingerprint().size(), 64U);
  EXPECT_EQ(mimicked_toy().fingerprint(), files.fingerprint());
  const auto is_new = [&](const ModelFiles& changed) { return seen.insert(changed.fingerprint()).second; };

  for (const NamedTensors ModelFiles::*part : {&ModelFiles::backbone, &ModelFiles::bank}) {
    for (const auto& [name, tensor] : files.*part) {
      ModelFiles changed = files;
      const at::Tensor flipped = tensor.clone();
      static_cast<unsigned char*>(flipped.data_ptr())[flipped.nbytes() - 4] ^= 1;  // the last element's lowest bit
      (part == &ModelFiles::backbone ? changed.backbone : changed.bank)[name] = flipped;
      EXPECT_TRUE(is_new(changed)) << name;
    }
  }
  for (const auto& change : std::vector<std::function<void(ModelFiles&)>>{
           [](ModelFiles& f) { f.config.architecture = "other"; },
           [](ModelFiles& f) { f.config.vit().norm_eps = 1e-5; }, [](ModelFiles& f) { f.config.vit().heads = 4; },
           [](ModelFiles& f) { f.config.preprocessing.size_px = 20; },
           [](ModelFiles& f) { f.config.preprocessing.mean[1] = 0.25; },
           [](ModelFiles& f) { std::swap(f.config.bank.members[0].slots[0], f.config.bank.members[0].slots[1]); },
           [](ModelFiles& f) { f.config.vit().pos_interpolation = "bicubic"; }}) {
    ModelFiles changed = files;
    change(changed);
    EXPECT_TRUE(is_new(changed));
  }
}

TEST(Fingerprint, DoesNotChangeWithMetadataPaddingOrStrides) {
  const ModelFiles files = toy_vit();
  std::string name = (fs::temp_directory_path() / "recast-model-XXXXXX").string();
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  const fs::path path = fs::path(name) / "model";
  write_model_files(path, files, false);
  write_tensor_file(path / "backbone.safetensors", {files.backbone, {{"note", "written by somebody else"}}});
  EXPECT_EQ(read_model_files(path).fingerprint(), files.fingerprint());
  fs::remove_all(name);

  ModelFiles strided = files;
  at::Tensor& weight = strided.backbone.at("blocks.0.mlp.fc1.weight");
  weight = weight.t().contiguous().t();
  EXPECT_EQ(strided.fingerprint(), files.fingerprint());
}

TEST(Fingerprint, IsTheOneOfThisVersion) {
  // Written down so that a change of the definition is seen: it would orphan every task that was ever stored.
  ModelFiles files = toy_vit();
  for (auto& [name, tensor] : files.backbone) tensor = at::full(tensor.sizes(), 0.5);
  EXPECT_EQ(files.fingerprint(), "81e15b86cb2b4cc7173d85a1b7228603f6dc85248d633ed8c49d97ae39223882");
}

/// What the test below starts in a second process: two models written over each other without end.
[[noreturn]] void write_until_killed(const fs::path& path) {
  const ModelFiles models[] = {toy_vit(1), mimicked_toy(2)};
  for (int i = 0;; ++i) write_model_files(path, models[i % 2], true);
}

TEST_F(ModelDirectory, HoldsOneModelOrTheOtherWheneverTheWriterIsKilled) {
  if (const char* target = std::getenv("RECAST_TEST_MODEL")) write_until_killed(target);
  const fs::path path = root_ / "model";
  write_model_files(path, toy_vit(1), false);
  const std::set<std::string> whole = {toy_vit(1).fingerprint(), mimicked_toy(2).fingerprint()};
  setenv("RECAST_TEST_MODEL", path.c_str(), 1);
  std::string program = fs::read_symlink("/proc/self/exe"), filter = "--gtest_filter=ModelDirectory.HoldsOneModel*",
              brief = "--gtest_brief=1";
  char* arguments[] = {program.data(), filter.data(), brief.data(), nullptr};
  for (int round = 0; round < 8; ++round) {
    pid_t child = 0;
    const auto before = fs::last_write_time(path / "config.json");
    ASSERT_EQ(posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environ), 0);
    // The first write tells that it is under way; then any moment will do.
    for (int i = 0; i < 1000; ++i) {
      std::error_code absent;
      const auto now = fs::last_write_time(path / "config.json", absent);
      if (!absent && now != before) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(Key(9).fold("kill", round).below(30'000)));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    EXPECT_TRUE(whole.contains(read_model_files(path).fingerprint())) << round;
  }
  unsetenv("RECAST_TEST_MODEL");
}

}  // namespace
}  // namespace recast
