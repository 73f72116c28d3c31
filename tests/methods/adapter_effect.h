#pragma once
// What an adapter gains on a real task, alone and beside recast.
#include <cstdio>

#include "methods/real_task.h"

namespace recast {

/// Whether any of these plug-ins has numbers that gradients move.
inline bool any_trains(const std::vector<std::string>& plugs) {
  return std::any_of(plugs.begin(), plugs.end(), [](const std::string& plug) {
    const auto& families = Registry::instance().find(parse_plug(plug).method).families;
    return std::any_of(families.begin(), families.end(), [](const Family& family) { return family.trains; });
  });
}

/// Learns with these plug-ins while the head stands still once it is fitted, so that the training loss falls by theirs
/// alone; expects that it falls, that test images are told apart better than by chance, and that what is stored is what
/// is said. bytes: of each plug-in, by alias.
inline void expect_learns_a_real_task(const std::filesystem::path& folder, const std::vector<std::string>& plugs,
                                      const std::map<std::string, std::int64_t>& bytes) {
  SCOPED_TRACE(plugs.back() + " of " + std::to_string(plugs.size()));
  constexpr double kChance = 0.1;  // ten classes
  for (const std::uint64_t seed :
       full_effects() ? std::vector<std::uint64_t>{42, 1998, 3142592} : std::vector<std::uint64_t>{42}) {
    LearnRequest request = fashion_request(folder, seed);
    request.plugs = plugs;
    request.head_lr = 0;
    const nlohmann::json results = learn_task(request).results;
    const auto& history = results["history"];  // head, three epochs, refit
    if (any_trains(plugs)) {
      EXPECT_LT(history[3]["train_loss"], history[1]["train_loss"]) << "of the last epoch against the first";
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
    std::string names;
    for (const std::string& plug : plugs) names += (names.empty() ? "" : " + ") + plug;
    std::printf("%s, seed %d: head %.4f, kept %s %.4f (validation), test %.4f, training loss %.3f to %.3f, %.1f s\n",
                names.c_str(), static_cast<int>(seed), results["candidates"]["head"].get<double>(),
                results["kept"].get<std::string>().c_str(), results["validation"]["top1"].get<double>(),
                results["test"]["top1"].get<double>(), history[1]["train_loss"].get<double>(),
                history[3]["train_loss"].get<double>(), results["seconds"].get<double>());
  }
}

/// Alone and beside recast, on the zoo's ViT-S/14 under templates.
inline void expect_learns_on_vit(const std::string& plug, std::int64_t bytes) {
  const TemporaryFolder folder;
  MimicryOptions options;
  options.target = "all";
  options.sets = 1;
  make_zoo_model(folder.path(), options);
  const std::string alias = parse_plug(plug).alias;
  expect_learns_a_real_task(folder.path(), {plug}, {{alias, bytes}});
  expect_learns_a_real_task(folder.path(), {"recast:grain=block", plug}, {{alias, bytes}, {"recast", 4 * 1728}});
}

/// The same on the zoo's EfficientNet-Lite0.
inline void expect_learns_on_cnn(const std::string& plug, std::int64_t bytes) {
  const TemporaryFolder folder;
  MimicryOptions options;
  options.target = "conv";
  make_zoo_cnn(folder.path(), options);
  const std::string alias = parse_plug(plug).alias;
  expect_learns_a_real_task(folder.path(), {plug}, {{alias, bytes}});
  expect_learns_a_real_task(folder.path(), {"recast", plug}, {{alias, bytes}});
}

}  // namespace recast
