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
inline const std::filesystem::path kZooLite0 = RECAST_SOURCE_DIR "/build/zoo/efficientnet_lite0_imagenet.safetensors";
inline const std::filesystem::path kFashion = "/usr/share/datasets/fashion-mnist";

/// What keeps an effect test from running, or empty.
inline std::string missing_for_effects(const std::filesystem::path& checkpoint) {
  if (!std::filesystem::exists(checkpoint))
    return "no data: the program in zoo/ that fetches it has not made " + checkpoint.string();
  if (!std::filesystem::exists(kFashion)) return "no data: Debian package dataset-fashion-mnist";
  return "";
}
#define RECAST_NEED_REAL_TASK_ON(CHECKPOINT)                                             \
  if (const std::string why = ::recast::missing_for_effects(CHECKPOINT); !why.empty()) { \
    if (::recast::on_ci()) {                                                             \
      FAIL() << why;                                                                     \
    }                                                                                    \
    GTEST_SKIP() << why;                                                                 \
  }
#define RECAST_NEED_REAL_TASK() RECAST_NEED_REAL_TASK_ON(::recast::kZooVitSmall)

/// A checkpoint under templates: folder/model.
inline void make_mimicked(const std::filesystem::path& checkpoint, const std::string& architecture,
                          const std::filesystem::path& folder, const MimicryOptions& options) {
  ImportRequest import;
  import.checkpoint = checkpoint;
  import.architecture = architecture;
  import.out = folder / "base";
  import_model(import);
  MimicRequest mimic;
  mimic.directory = import.out;
  mimic.options = options;
  mimic.out = folder / "model";
  mimic_directory(mimic);
}

/// The zoo's ViT-S/14.
inline void make_zoo_model(const std::filesystem::path& folder, const MimicryOptions& options) {
  make_mimicked(kZooVitSmall, "vit_small_patch14_dinov2", folder, options);
}
/// The zoo's EfficientNet-Lite0.
inline void make_zoo_cnn(const std::filesystem::path& folder, const MimicryOptions& options) {
  make_mimicked(kZooLite0, "tf_efficientnet_lite0", folder, options);
}

/// Fashion-MNIST by the recipe `fast`, few images unless the full form is asked for; the plug-ins are the caller's.
inline LearnRequest fashion_request(const std::filesystem::path& folder, std::uint64_t seed) {
  LearnRequest request;
  request.directory = folder / "model";
  request.data = kFashion;
  request.task = "fashion";
  request.image_size = full_effects() ? 112 : 56;
  request.limit_train = full_effects() ? 200 : 10;
  request.limit_test = full_effects() ? 300 : 10;
  request.seed = request.split_seed = seed;
  return request;
}

/// Learns it with one plug-in and returns results.json.
inline nlohmann::json learn_fashion(const std::filesystem::path& folder, const std::string& plug, std::uint64_t seed) {
  LearnRequest request = fashion_request(folder, seed);
  request.plugs = {plug};
  return learn_task(request).results;
}

}  // namespace recast
