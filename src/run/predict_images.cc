#include "recast/run/predict_images.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "recast/base/error.h"
#include "recast/data/image.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/tensor_file.h"

namespace recast {
namespace {

/// Matrix kernels are chosen by the number of rows, and with them the last bit. So the model always sees this many
/// images, black ones where there are fewer: an answer does not depend on how many others were asked for.
constexpr std::size_t kBatch = 8;

at::Tensor read_pixels(const std::filesystem::path& image, const Preprocessing& preprocessing) {
  return evaluation_pixels(decode_image(read_file(image, kMaxImageBytes), printable_path(image)), preprocessing);
}

nlohmann::json describe_row(const std::filesystem::path& image, const at::Tensor& logits,
                            const std::vector<std::string>& labels, std::int64_t top) {
  const at::Tensor probabilities = at::softmax(logits.to(at::kDouble), 0);
  const auto [values, places] = probabilities.sort(/*stable=*/true, 0, /*descending=*/true);
  nlohmann::json best = nlohmann::json::array();
  for (std::int64_t i = 0; i < std::min<std::int64_t>(top, places.size(0)); ++i)
    best.push_back({{"label", labels.at(places[i].item<std::int64_t>())}, {"probability", values[i].item<double>()}});
  const at::Tensor row = logits.contiguous();
  return {{"image", printable_path(image)},
          {"label", best[0]["label"]},
          {"probability", best[0]["probability"]},
          {"top", best},
          {"logits", std::vector<float>(row.data_ptr<float>(), row.data_ptr<float>() + row.numel())}};
}

void write_features(const PredictRequest& request, const LoadedTask& task, const at::Tensor& features) {
  nlohmann::json images = nlohmann::json::array();
  for (const auto& image : request.images) images.push_back(printable_path(image));
  write_tensor_file(request.features, {{{"features", features}},
                                       {{"images", images.dump()},
                                        {"task", task.record.name},
                                        {"version", std::to_string(task.record.version)},
                                        {"fingerprint", task.record.fingerprint}}});
}

/// The bare backbone in a task's place: it has features and no head.
LoadedTask bare_backbone(const ModelDirectory& directory) {
  TaskRecord record;
  record.fingerprint = directory.fingerprint();
  return {std::move(record), Model(directory.backbone(), compose({}, directory.backbone()->anatomy()), {}),
          directory.files().config.preprocessing};
}

void check_request(const PredictRequest& request) {
  if (request.task.empty() && request.features.empty())
    fail(Code::kInvalidArgument,
         "[predict] --task NAME is missing (without it, --features FILE gives those of the bare backbone)");
  if (request.images.empty()) fail(Code::kInvalidArgument, "[predict] no image given");
  if (request.top < 1) fail(Code::kInvalidArgument, "[predict] --top must be at least 1, got {}", request.top);
  for (const auto& image : request.images)
    if (!std::filesystem::exists(image)) fail(Code::kNotFound, "[predict] {}: no such image", printable_path(image));
  if (!request.features.empty() && !request.force && std::filesystem::exists(request.features))
    fail(Code::kAlreadyExists, "[predict] {} exists: choose another --features, or --force to replace it",
         printable_path(request.features));
}

}  // namespace

nlohmann::json predict_images(const ModelDirectory& directory, const PredictRequest& request) {
  check_request(request);
  const bool bare = request.task.empty();
  const LoadedTask task = bare ? bare_backbone(directory) : directory.load(request.task);
  const at::NoGradGuard no_grad;
  Run run;
  run.dtype = request.bf16 ? at::kBFloat16 : at::kFloat;
  nlohmann::json predictions = nlohmann::json::array();
  std::vector<at::Tensor> features;
  if (request.listener) request.listener->stage("predict", static_cast<std::int64_t>(request.images.size()));
  for (std::size_t begin = 0; begin < request.images.size(); begin += kBatch) {
    const std::size_t end = std::min(begin + kBatch, request.images.size());
    std::vector<at::Tensor> pixels;
    for (std::size_t i = begin; i < end; ++i) pixels.push_back(read_pixels(request.images[i], task.preprocessing));
    pixels.resize(kBatch, at::zeros_like(pixels.front()));
    Batch batch;
    batch.rows = static_cast<std::int64_t>(kBatch);
    batch.at["input"] = normalise(at::stack(pixels).to(directory.device()), task.preprocessing);
    const Fields out = bare ? Fields{{"features", task.model.features(batch, run)}} : task.model.forward(batch, run);
    const at::Tensor logits = bare ? at::Tensor() : out.at("logits").to(at::kCPU, at::kFloat);
    for (std::size_t i = begin; i < end && !bare; ++i)
      predictions.push_back(describe_row(request.images[i], logits[static_cast<std::int64_t>(i - begin)],
                                         task.record.labels, request.top));
    if (!request.features.empty())
      features.push_back(out.at("features").slice(0, 0, end - begin).to(at::kCPU, at::kFloat));
    if (request.stop && *request.stop) fail(Code::kCancelled, "[predict] stopped on request");
    if (request.listener)
      request.listener->step(static_cast<std::int64_t>(end), static_cast<std::int64_t>(request.images.size()));
  }
  if (!request.features.empty()) write_features(request, task, at::cat(features));
  return {{"task", bare ? nlohmann::json() : nlohmann::json(task.record.name)},
          {"version", bare ? nlohmann::json() : nlohmann::json(task.record.version)},
          {"labels", task.record.labels},
          {"predictions", predictions}};
}

}  // namespace recast
