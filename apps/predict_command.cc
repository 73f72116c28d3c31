#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "progress.h"
#include "recast/run/predict_images.h"
#include "table.h"

namespace recast {
namespace {

struct PredictFlags {
  std::string directory, store, features, amp = "fp32", device = "cpu", out;
  std::vector<std::string> images;
  PredictRequest request;
};

std::string predict_text(const nlohmann::json& document) {
  Table table({"image", "label", "probability", "next"});
  for (const auto& row : document["predictions"]) {
    std::string next;
    for (std::size_t i = 1; i < row["top"].size(); ++i)
      next += fmt::format("{}{} {:.3f}", i > 1 ? ", " : "", row["top"][i]["label"].get<std::string>(),
                          row["top"][i]["probability"].get<double>());
    table.add({row["image"].get<std::string>(), row["label"].get<std::string>(),
               fmt::format("{:.3f}", row["probability"].get<double>()), next});
  }
  return table.text();
}

}  // namespace

void add_predict(CommandLine& line) {
  auto flags = std::make_shared<PredictFlags>();
  Command& command =
      line.add("predict", "classify images with a task", "recast predict model --task pets cat.jpg dog.png");
  command.option("dir", flags->directory, "the model directory").required();
  command.store(flags->store);
  command.option("images", flags->images, "JPEG, PNG or WebP files").required();
  command.option("--task", flags->request.task, "the task; without it, --features gives the bare backbone's",
                 "NAME[:VERSION]");
  command.option("--top", flags->request.top, "how many classes to name", "K");
  command.option("--features", flags->features, "write the features here as safetensors", "FILE");
  command.option("--amp", flags->amp, "number format of matrix products: bf16 or fp32", "FORMAT")
      .one_of({"bf16", "fp32"});
  command.option("--device", flags->device, "cpu, cuda or cuda:N", "NAME");
  command.on([&line, flags] {
    Progress progress(line.quiet(), line.verbose());
    PredictRequest& request = flags->request;
    request.images.assign(flags->images.begin(), flags->images.end());
    request.features = flags->features;
    request.force = line.force();
    request.bf16 = flags->amp == "bf16";
    request.stop = line.stop();
    request.listener = &progress;
    const ModelDirectory directory =
        ModelDirectory::open(flags->directory, true, parse_device(flags->device), flags->store);
    line.print(predict_images(directory, request), predict_text);
  });
}

}  // namespace recast
