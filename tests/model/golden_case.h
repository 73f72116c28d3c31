#pragma once
// Backbones that tests/golden/make_backbones.py wrote, with what their own libraries answer.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recast/format/files.h"
#include "recast/model/model_files.h"

namespace recast {

/// $RECAST_GOLDEN, or build/golden below the sources.
inline std::filesystem::path golden_folder() {
  const char* chosen = std::getenv("RECAST_GOLDEN");
  return std::filesystem::path(chosen != nullptr ? chosen : RECAST_SOURCE_DIR "/build/golden") / "backbones";
}

inline std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder(), none)) {
    if (std::filesystem::exists(entry.path() / "case.json")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline bool in_ci() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && std::string(ci) == "true";
}

struct GoldenCase {
  nlohmann::json about;
  ImportedCheckpoint imported;
  NamedTensors images, expected;

  explicit GoldenCase(const std::string& name) {
    const std::filesystem::path folder = golden_folder() / name;
    about = nlohmann::json::parse(read_file(folder / "case.json", 1 << 20));
    const std::filesystem::path checkpoint = folder / "checkpoint.safetensors";
    imported = import_checkpoint(read_tensor_file(checkpoint).tensors, architecture(about.at("arch")), name);
    images = read_tensor_file(folder / "images.safetensors").tensors;
    expected = read_tensor_file(folder / "expected.safetensors").tensors;
  }
  std::vector<int> sizes() const { return about.at("sizes"); }
  at::Tensor images_at(int size) const { return images.at("images." + std::to_string(size)); }
  at::Tensor features_at(int size) const { return expected.at("features." + std::to_string(size)); }
};

/// Largest difference as a share of the largest expected value.
inline double difference(const at::Tensor& got, const at::Tensor& expected) {
  return (got - expected).abs().max().item<double>() / expected.abs().max().item<double>();
}

inline at::Tensor plain_features(const Backbone& backbone, const at::Tensor& images) {
  const c10::InferenceMode inference;
  PlainRoute route(backbone);
  return backbone.features(images, route);
}

}  // namespace recast

/// Ends a test that needs golden folders: skipped with the reason, failed where nothing may be missing.
#define RECAST_REQUIRE_GOLDEN(name)                                                                                    \
  do {                                                                                                                 \
    if (!std::filesystem::exists(::recast::golden_folder() / (name))) {                                                \
      const std::string reason = (::recast::golden_folder() / (name)).string() + " is missing: run make_backbones.py"; \
      if (::recast::in_ci()) FAIL() << reason;                                                                         \
      GTEST_SKIP() << reason;                                                                                          \
    }                                                                                                                  \
  } while (false)
