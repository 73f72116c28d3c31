#pragma once
// Small models, images and checkpoints on disk, for tests of whole commands.
#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "format/temporary_folder.h"
#include "model/toy_vit.h"
#include "recast/data/image.h"
#include "recast/format/files.h"
#include "recast/format/tensor_file.h"
#include "recast/mimic/mimicry.h"

namespace recast {

/// A mimicked toy ViT of depth 4 for 16 px images as a model directory.
inline void write_toy_model(const std::filesystem::path& directory, std::uint64_t seed = 1) {
  MimicryOptions options;
  options.groups = 2;
  write_model_files(directory, mimic(toy_vit(seed, toy_vit_config(4)), options).files, false);
}

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

/// FOLDER/NAME/0.png ...: noisy images of one colour a class, so that there is something to learn.
inline void write_toy_images(const std::filesystem::path& folder, const std::vector<std::string>& classes,
                             int per_class, std::uint64_t seed = 5) {
  for (std::size_t c = 0; c < classes.size(); ++c) {
    std::filesystem::create_directories(folder / classes[c]);
    for (int i = 0; i < per_class; ++i) {
      at::Tensor noise = Key(seed).fold(classes[c], static_cast<std::uint64_t>(i)).uniform({3, 16, 16}) * 120;
      noise[static_cast<std::int64_t>(c % 3)] += 60 + 40.0 * static_cast<double>(c / 3);
      write_text(folder / classes[c] / (std::to_string(i) + ".png"), encode_png(noise.clamp(0, 255).to(at::kByte)));
    }
  }
}

/// A random checkpoint of timm's vit_tiny_patch16_224, with a classifier of so many classes (0: none).
inline NamedTensors tiny_checkpoint(std::int64_t classes) {
  const VitConfig vit = architecture("vit_tiny_patch16_224").vit();
  NamedTensors ours = toy_tensors(vit, 3), out;
  out["cls_token"] = ours.at("class_token").reshape({1, 1, vit.width});
  out["pos_embed"] = at::cat({ours.at("class_position").unsqueeze(0), ours.at("positions").flatten(0, 1)}).unsqueeze(0);
  out["patch_embed.proj.weight"] = ours.at("patch_embed.weight");
  out["patch_embed.proj.bias"] = ours.at("patch_embed.bias");
  for (const char* done : {"class_token", "class_position", "positions", "patch_embed.weight", "patch_embed.bias"})
    ours.erase(done);
  out.merge(ours);
  if (classes > 0) {
    out["head.weight"] = Key(4).normal({classes, vit.width}) * 0.1;
    out["head.bias"] = Key(5).normal({classes});
  }
  return out;
}

/// Every path below a folder, for tests that nothing was written.
inline std::set<std::string> paths_below(const std::filesystem::path& folder) {
  std::set<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) paths.insert(entry.path().string());
  return paths;
}

}  // namespace recast
