#pragma once
// Learning a real task on the real backbone of the zoo, for tests of what a method gains.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/learn_task.h"
#include "recast/run/mimic_directory.h"

namespace recast {

/// ./test --effects asks for the full form: more images, three seeds.
inline bool full_effects() {
  const char* form = std::getenv("RECAST_EFFECTS");
  return form != nullptr && std::string_view(form) == "full";
}

inline const std::filesystem::path kZooVitSmall = RECAST_SOURCE_DIR "/build/zoo/vit_small_patch14_imgfocus.safetensors";
inline const std::filesystem::path kFashion = "/usr/share/datasets/fashion-mnist";

/// What keeps an effect test from running, or empty.
inline std::string missing_for_effects() {
  if (!std::filesystem::exists(kZooVitSmall))
    return "no data: zoo/fetch_imgfocus.py has not made " + kZooVitSmall.string();
  if (!std::filesystem::exists(kFashion)) return "no data: Debian package dataset-fashion-mnist";
  return "";
}
#define RECAST_NEED_REAL_TASK()                                                \
  if (const std::string why = ::recast::missing_for_effects(); !why.empty()) { \
    if (::recast::on_ci()) {                                                   \
      FAIL() << why;                                                           \
    }                                                                          \
    GTEST_SKIP() << why;                                                       \
  }

/// The zoo's ViT-S/14 under templates.
inline void make_zoo_model(const std::filesystem::path& folder, const MimicryOptions& options) {
  ImportRequest import;
  import.checkpoint = kZooVitSmall;
  import.architecture = "vit_small_patch14_dinov2";
  import.out = folder / "base";
  import_model(import);
  MimicRequest mimic;
  mimic.directory = import.out;
  mimic.options = options;
  mimic.out = folder / "model";
  mimic_directory(mimic);
}

/// Learns Fashion-MNIST by the recipe `fast` and returns results.json.
inline nlohmann::json learn_fashion(const std::filesystem::path& folder, const std::string& plug, std::uint64_t seed) {
  LearnRequest request;
  request.directory = folder / "model";
  request.data = kFashion;
  request.task = "fashion";
  request.plugs = {plug};
  request.image_size = full_effects() ? 112 : 56;
  request.limit_train = full_effects() ? 200 : 20;
  request.limit_test = full_effects() ? 300 : 20;
  request.seed = request.split_seed = seed;
  return learn_task(request).results;
}

}  // namespace recast
