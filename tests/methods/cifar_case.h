#pragma once
// CIFAR-100 as a stream: features of the ResNet-20 that our own `finetune` trained on the first 50 classes of the order
// of seed 1993 (tests/fixtures/make_resnet20_base50.sh). Full form only: ./test --effects NAME.
#include "format/temporary_folder.h"
#include "methods/real_task.h"
#include "methods/stream_case.h"
#include "recast/data/contents.h"
#include "recast/run/feature_cache.h"
#include "recast/run/import_checkpoint.h"

namespace recast {

inline const std::filesystem::path kBase50 = RECAST_SOURCE_DIR "/tests/fixtures/resnet20_base50.safetensors";

inline std::filesystem::path cifar_sheets() {
  const char* shared = std::getenv("RECAST_SHARED");
  return std::filesystem::path(shared ? shared : RECAST_SOURCE_DIR "/../shared") / "data/cifar100";
}

/// Why the full form cannot run, or empty.
inline std::string missing_for_cifar() {
  if (!full_effects()) return "only in the full form (RECAST_EFFECTS=full)";
  if (!std::filesystem::exists(kBase50))
    return "the base network is not made yet: tests/fixtures/make_resnet20_base50.sh trains it";
  if (!std::filesystem::exists(cifar_sheets() / "unpack.py")) return "no data: " + cifar_sheets().string();
  return missing_python("numpy, PIL");
}
#define RECAST_NEED_CIFAR_STREAM() \
  if (const std::string why = ::recast::missing_for_cifar(); !why.empty()) GTEST_SKIP() << why

/// The official binary files, unpacked once.
inline std::filesystem::path cifar_binaries() {
  const std::filesystem::path folder = RECAST_SOURCE_DIR "/build/cifar100";
  if (!std::filesystem::exists(folder / "fine_label_names.txt")) {
    const Outcome unpacked = run_program({python_path(), (cifar_sheets() / "unpack.py").string(), folder.string()});
    if (unpacked.status != 0) fail(Code::kUnavailable, "[test] unpack.py: {}", unpacked.text);
  }
  return folder;
}

/// The network and the features of all images; training rows are those of train and validation.
struct CifarCase {
  CifarCase() : directory(imported(folder / "model")) {
    const auto dataset = open_dataset(cifar_binaries());
    const Contents contents = scan_contents(*dataset);
    const auto features = [&](Split split) {
      const SplitFeatures made =
          feature_cache().features({directory, *dataset, contents, split, directory.files().config.preprocessing});
      return Table{made.features, made.labels};
    };
    data = {joined(features(Split::kTrain), features(Split::kValidation)), features(Split::kTest)};
  }
  Model model(const std::string& plug) const {
    const Anatomy& anatomy = directory.backbone()->anatomy();
    return Model(directory.backbone(), compose(merge_plugs(find_recipe("steps"), {parse_plug(plug)}, anatomy), anatomy),
                 {});
  }
  ClassIncremental stream(const std::string& plug, std::int64_t increment, StreamKind kind = StreamKind::kDisjoint,
                          std::uint64_t seed = 42) const {
    StreamOptions options;
    options.base = 50;
    options.increment = increment;
    options.kind = kind;
    return stream_of(model(plug), data, 100, options, seed);
  }

  TemporaryFolder folder;
  ModelDirectory directory;
  Digits data;

 private:
  static ModelDirectory imported(const std::filesystem::path& out) {
    ImportRequest request;
    request.checkpoint = kBase50;
    request.architecture = "resnet20_cifar.cifar100";
    request.out = out;
    import_model(request);
    return ModelDirectory::open(out, false);
  }
};

}  // namespace recast
