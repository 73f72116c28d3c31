#pragma once
// What an adapter gains on a real task, alone and beside recast.
#include <fmt/ranges.h>

#include <cstdio>

#include "methods/real_task.h"

namespace recast {

/// Learns with these plug-ins while the head stands still once it is fitted, and expects that test images are told
/// apart better than by chance and that what is stored is what is said. bytes: of each plug-in, by alias. The short
/// form takes steps over all images at once, so that its training losses are of the same rows and fall by the plug-ins
/// alone; the full form is the recipe's own, over three seeds.
inline void expect_learns_a_real_task(const std::filesystem::path& folder, const std::vector<std::string>& plugs,
                                      const std::map<std::string, std::int64_t>& bytes) {
  SCOPED_TRACE(plugs.back() + " of " + std::to_string(plugs.size()));
  constexpr double kChance = 0.1;  // ten classes
  for (const std::uint64_t seed :
       full_effects() ? std::vector<std::uint64_t>{42, 1998, 3142592} : std::vector<std::uint64_t>{42}) {
    LearnRequest request = fashion_request(folder, seed);
    request.plugs = plugs;
    request.head_lr = 0;
    request.bf16 = false;  // the same on every processor
    if (!full_effects()) {
      request.epochs = 4;
      request.batch_size = 100;
      request.augmentation = "none";
      request.lr = 3e-4;  // no step so long that the loss rises on the way
    }
    const nlohmann::json results = learn_task(request).results;
    const auto& history = results["history"];  // head, epochs, refit
    const double before = history[1]["train_loss"], after = history[history.size() - 2]["train_loss"];
    if (!full_effects()) {
      EXPECT_LT(after, before) << "training loss after three steps and before the first";
    }
    EXPECT_GT(results["test"]["top1_interval95"][0], kChance);
    std::int64_t stored = 0;
    for (const auto& [plug, numbers] : results["numbers"].items()) {
      stored += numbers["bytes"].get<std::int64_t>();
      if (const auto known = bytes.find(plug); known != bytes.end()) {
        EXPECT_EQ(numbers["bytes"], known->second) << plug;
      }
    }
    EXPECT_EQ(results["stored_bytes"], stored);
    EXPECT_GE(results["file_bytes"], stored);
    std::printf("%s, seed %d: head %.4f, kept %s %.4f (validation), test %.4f, training loss %.4f to %.4f, %.1f s\n",
                fmt::format("{}", fmt::join(plugs, " + ")).c_str(), static_cast<int>(seed),
                results["candidates"]["head"].get<double>(), results["kept"].get<std::string>().c_str(),
                results["validation"]["top1"].get<double>(), results["test"]["top1"].get<double>(), before, after,
                results["seconds"].get<double>());
  }
}

/// Beside recast, and in the full form alone too, on the zoo's ViT-S/14 under templates.
inline void expect_learns_on_vit(const std::string& plug, std::int64_t bytes) {
  const TemporaryFolder folder;
  MimicryOptions options;
  options.target = "all";
  options.sets = 1;
  make_zoo_model(folder.path(), options);
  const std::string alias = parse_plug(plug).alias;
  if (full_effects()) expect_learns_a_real_task(folder.path(), {plug}, {{alias, bytes}});
  expect_learns_a_real_task(folder.path(), {"recast:grain=block", plug}, {{alias, bytes}, {"recast", 4 * 1728}});
}

/// EfficientNet-Lite0: weights of all convolutions, and channels behind them.
inline constexpr std::int64_t kLite0Weights = 3'328'992, kLite0Channels = 21'008;

/// The same on the zoo's EfficientNet-Lite0.
inline void expect_learns_on_cnn(const std::string& plug, std::int64_t bytes) {
  const TemporaryFolder folder;
  MimicryOptions options;
  options.target = "conv";
  make_zoo_cnn(folder.path(), options);
  const std::string alias = parse_plug(plug).alias;
  if (full_effects()) expect_learns_a_real_task(folder.path(), {plug}, {{alias, bytes}});
  expect_learns_a_real_task(folder.path(), {"recast", plug}, {{alias, bytes}});
}

}  // namespace recast
