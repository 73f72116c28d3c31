#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "recast/base/error.h"
#include "recast/run/import_checkpoint.h"
#include "table.h"

namespace recast {
namespace {

struct ImportFlags {
  std::string checkpoint, labels, out;
  std::vector<double> mean, std;
  ImportRequest request;
};

std::optional<std::array<double, 3>> triple(const std::vector<double>& values) {
  if (values.empty()) return {};
  return std::array<double, 3>{values.at(0), values.at(1), values.at(2)};
}

std::string import_text(const nlohmann::json& report) {
  std::string out = fmt::format("{}: {} ({} names), {} parameters, {}\nfingerprint {}\n",
                                report["directory"].get<std::string>(), report["architecture"].get<std::string>(),
                                report["naming"].get<std::string>(), report["parameters"].get<std::int64_t>(),
                                bytes_text(report["bytes"].get<double>()), report["fingerprint"].get<std::string>());
  const auto& p = report["preprocessing"];
  out += fmt::format("images: {} px, {}, crop {}, mean {}, std {}\n", p["size_px"].get<std::int64_t>(),
                     p["interpolation"].get<std::string>(), p["crop_pct"].get<double>(), p["mean"].dump(),
                     p["std"].dump());
  if (!report["task"].is_null())
    out += fmt::format("its classifier is the task '{}' with {} classes\n", report["task"]["name"].get<std::string>(),
                       report["task"]["classes"].get<std::int64_t>());
  return out;
}

}  // namespace

void add_import(CommandLine& line) {
  auto flags = std::make_shared<ImportFlags>();
  Command& command = line.add("import", "turn a checkpoint into a model directory",
                              "recast import vit.safetensors --arch vit_small_patch16_224 --out base", true);
  command
      .option("checkpoint", flags->checkpoint,
              "safetensors with names of timm, Hugging Face, torchvision or efficientnet_pytorch")
      .required();
  command
      .option(
          "--arch", flags->request.architecture,
          "timm's name of the architecture, perhaps with a tag of timm's weights, which says how images were prepared: "
          "vit_small_patch16_224, resnet34.tv_in1k, tf_efficientnet_lite0, resnet20_cifar",
          "NAME")
      .required();
  command.option("--out", flags->out, "the new model directory", "DIR").required();
  command.flag("--force", flags->request.force, "replace an existing model directory");
  command.triple("--mean", flags->mean, "mean of R G B in 0..1", "R,G,B");
  command.triple("--std", flags->std, "standard deviation of R G B", "R,G,B");
  command.option("--interpolation", flags->request.interpolation, "bicubic or bilinear", "NAME");
  command.option("--crop-pct", flags->request.crop_pct, "share of the resized image that the crop keeps", "SHARE");
  command.option("--image-size", flags->request.image_size, "side of the images in pixels", "PX");
  command
      .option("--pooling", flags->request.pooling,
              "what a transformer's features are (default: what its classifier reads)", "NAME")
      .one_of({"token", "average", "token+average"});
  command.option("--labels", flags->labels, "names of the checkpoint's own classes, one a line", "FILE");
  command.on([&line, flags] {
    flags->request.checkpoint = flags->checkpoint;
    flags->request.labels = flags->labels;
    flags->request.out = flags->out;
    flags->request.mean = triple(flags->mean);
    flags->request.std = triple(flags->std);
    line.print(import_model(flags->request), import_text);
  });
}

}  // namespace recast
