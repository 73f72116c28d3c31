#include "recast/run/export_onnx.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "onnx_weights.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"
#include "recast/format/tensor_file.h"
#include "recast/run/linear_head.h"
#include "recast/run/machine.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr const char *kImage = "image", *kLogits = "logits", *kCoefficients = "coefficients",
                     *kHeadWeight = "head_weight", *kHeadBias = "head_bias", *kBatchAxis = "batch",
                     *kClassesAxis = "classes";

void check_target(const fs::path& file, bool force) {
  if (file.empty()) fail(Code::kInvalidArgument, "[export] no file to write to was given");
  for (const fs::path& target : {file, onnx_data_path(file)})
    if (!force && fs::exists(target))
      fail(Code::kAlreadyExists, "[export] {} exists: choose another file, or --force to replace it",
           printable_path(target));
}

/// What acts beside the weights is not in a graph of the backbone.
void require_weights_only(const Model& model) {
  const Composition& recipe = model.recipe();
  for (const Slot& slot : model.backbone().anatomy().slots)
    if (!recipe.branches(slot.name).empty())
      fail(Code::kUnsupported,
           "[export] plug-in '{}' puts layers of its own into the network (at {}); only what acts on weights, and a "
           "linear head, can be exported",
           recipe.branches(slot.name).front()->alias(), slot.name);
  if (!recipe.varies_by().empty())
    fail(Code::kUnsupported, "[export] the weights of this task depend on the batch's column '{}', which a graph lacks",
         *recipe.varies_by().begin());
}

bool is_cut_as(const CoefficientPlace& a, const CoefficientPlace& b) {
  return a.slot == b.slot && a.count == b.count && a.templates == b.templates &&
         (a.count == 1 || (a.blocks.length == b.blocks.length && a.blocks.of_columns == b.blocks.of_columns));
}

/// A task as the inputs of a graph.
struct TaskInputs {
  LoadedTask task;
  std::map<std::string, BankSum, std::less<>> sums;
  CoefficientLayout layout;

  std::string name() const { return task.record.name; }
  std::int64_t image_size() const { return task.preprocessing.size_px; }
};

TaskInputs task_inputs(const ModelDirectory& directory, const std::string& name) {
  TaskInputs inputs{directory.load(name), {}, {}};
  require_weights_only(inputs.task.model);
  inputs.sums = bank_sums(inputs.task.model);
  inputs.layout = coefficient_layout(directory.backbone()->anatomy(), inputs.sums);
  linear_head(inputs.task.model);
  return inputs;
}

/// One slot's coefficients of a task [B, n] as a layout has them: those of the backbone where the task leaves the slot
/// alone, a whole slot's for each of its blocks. Nothing where the task cuts the slot otherwise.
std::optional<at::Tensor> fitted(const TaskInputs& inputs, const CoefficientPlace& place, const Anatomy& anatomy) {
  const auto sum = inputs.sums.find(place.slot);
  if (sum == inputs.sums.end())
    return anatomy.at(place.slot).coefficients.mean(0, /*keepdim=*/true).expand({place.count, place.templates});
  const at::Tensor& c = sum->second.coefficients;
  if (c.size(0) == 1) return c.expand({place.count, place.templates});
  const CoefficientPlace own{place.slot, sum->second.blocks, c.size(0), c.size(1), 0};
  return is_cut_as(own, place) ? std::optional(c) : std::nullopt;
}

/// [count] fp32; nothing where the task does not fit.
std::optional<at::Tensor> coefficients(const TaskInputs& inputs, const CoefficientLayout& layout,
                                       const Anatomy& anatomy) {
  std::vector<at::Tensor> pieces = {at::empty({0})};
  for (const CoefficientPlace& place : layout) {
    const auto piece = fitted(inputs, place, anatomy);
    if (!piece) return {};
    pieces.push_back(piece->reshape({-1}).to(at::kCPU, at::kFloat));
  }
  for (const auto& [slot, sum] : inputs.sums)
    if (std::none_of(layout.begin(), layout.end(), [&](const auto& place) { return place.slot == slot; })) return {};
  return at::cat(pieces);
}

nlohmann::json layout_json(const CoefficientLayout& layout) {
  nlohmann::json places = nlohmann::json::array();
  for (const CoefficientPlace& place : layout)
    places.push_back({{"slot", place.slot},
                      {"blocks", place.count},
                      {"templates", place.templates},
                      {"offset", place.offset},
                      {"block_length", place.blocks.length},
                      {"of_columns", place.blocks.of_columns}});
  return places;
}

/// The graph that the stored tasks are inputs of.
struct Frame {
  CoefficientLayout layout;
  std::int64_t image_size = 0;
  std::vector<std::string> tasks;  ///< that fit
  nlohmann::json others = nlohmann::json::array();
};

/// Every stored task that can be inputs; why not, of the others.
std::vector<TaskInputs> stored_inputs(const ModelDirectory& directory, nlohmann::json& others) {
  std::vector<TaskInputs> found;
  for (const TaskSummary& task : directory.store().list()) {
    try {
      found.push_back(task_inputs(directory, task.name));
    } catch (const Error& error) {
      others.push_back({{"task", task.name}, {"reason", error.what()}});
    }
  }
  return found;
}

/// The layout into which all tasks fit: that of one of them.
CoefficientLayout common_layout(const std::vector<TaskInputs>& tasks, const Anatomy& anatomy) {
  const TaskInputs* misfit = nullptr;
  for (const TaskInputs& candidate : tasks) {
    const auto outside = std::find_if(tasks.begin(), tasks.end(), [&](const TaskInputs& task) {
      return !coefficients(task, candidate.layout, anatomy);
    });
    if (outside == tasks.end()) return candidate.layout;
    misfit = &*outside;
  }
  fail(
      Code::kInvalidArgument,
      "[export] tasks '{}' and '{}' cut the weights into different blocks, so they cannot be inputs of one graph: name "
      "the one to follow with --like",
      tasks.front().name(), misfit == &tasks.front() ? tasks.back().name() : misfit->name());
}

std::int64_t common_image_size(const std::vector<TaskInputs>& tasks) {
  for (const TaskInputs& task : tasks)
    if (task.image_size() != tasks.front().image_size())
      fail(Code::kInvalidArgument,
           "[export] task '{}' was learned on images of {} pixels and '{}' on {}: choose with --image-size or --like",
           tasks.front().name(), tasks.front().image_size(), task.name(), task.image_size());
  return tasks.front().image_size();
}

Frame find_frame(const ModelDirectory& directory, const std::string& like, std::int64_t image_size) {
  Frame frame;
  const Anatomy& anatomy = directory.backbone()->anatomy();
  const std::vector<TaskInputs> tasks = stored_inputs(directory, frame.others);
  if (like.empty() && tasks.empty())
    fail(Code::kNotFound, "[export] {} has no task that could be inputs of a graph{}", directory.path().string(),
         frame.others.empty() ? ": learn one first, its plug-ins say how the coefficients are laid out"
                              : fmt::format(": {}", frame.others[0]["reason"].get<std::string>()));
  if (like.empty()) {
    frame.layout = common_layout(tasks, anatomy);
    frame.image_size = image_size > 0 ? image_size : common_image_size(tasks);
  } else {
    const TaskInputs model = task_inputs(directory, like);
    frame.layout = model.layout;
    frame.image_size = image_size > 0 ? image_size : model.image_size();
  }
  for (const TaskInputs& task : tasks) {
    if (coefficients(task, frame.layout, anatomy))
      frame.tasks.push_back(task.name());
    else
      frame.others.push_back({{"task", task.name()}, {"reason", "it cuts the weights into other blocks"}});
  }
  return frame;
}

void describe(OnnxGraph& graph, const ModelDirectory& directory, const std::string& form, std::int64_t image_size) {
  Preprocessing preprocessing = directory.files().config.preprocessing;
  preprocessing.size_px = image_size;
  graph.describe("recast.version", std::string(kRecastVersion));
  graph.describe("recast.form", form);
  graph.describe("recast.architecture", directory.files().config.architecture);
  graph.describe("recast.fingerprint", directory.fingerprint());
  graph.describe("recast.preprocessing", canonical_json(preprocessing));
}

nlohmann::json ports_json(const std::vector<OnnxGraph::Port>& ports) {
  nlohmann::json out = nlohmann::json::array();
  for (const OnnxGraph::Port& port : ports) {
    nlohmann::json shape = nlohmann::json::array();
    for (const OnnxDim& dim : port.shape) std::visit([&](const auto& size) { shape.push_back(size); }, dim);
    out.push_back({{"name", port.name}, {"shape", shape}});
  }
  return out;
}

std::string draw_image_features(OnnxGraph& graph, const ModelDirectory& directory, std::int64_t side_px,
                                OnnxWeights& weights) {
  return draw_features(graph, directory.files().config.network, directory.backbone()->anatomy(), side_px, kImage,
                       weights);
}

nlohmann::json write(const ModelDirectory& directory, const OnnxRequest& request, const OnnxGraph& graph,
                     const std::string& form, std::int64_t image_size) {
  const bool beside = request.external_data || graph.tensor_bytes() > kMostOnnxTensorBytes;
  const std::uint64_t bytes = write_onnx(request.file, graph, beside);
  log_event(LogLevel::kInfo, "onnx.exported", {{"path", request.file.string()}, {"form", form}, {"bytes", bytes}});
  return {{"file", request.file.string()},
          {"data", beside ? nlohmann::json(onnx_data_path(request.file).string()) : nlohmann::json()},
          {"bytes", bytes},
          {"form", form},
          {"architecture", directory.files().config.architecture},
          {"fingerprint", directory.fingerprint()},
          {"image_size", image_size},
          {"inputs", ports_json(graph.inputs())},
          {"outputs", ports_json(graph.outputs())}};
}

nlohmann::json export_baked(const ModelDirectory& directory, const OnnxRequest& request) {
  const LoadedTask task = directory.load(request.task);
  require_weights_only(task.model);
  const LinearHead head = linear_head(task.model);
  const std::int64_t size = request.image_size > 0 ? request.image_size : task.preprocessing.size_px;
  const State weights = task.model.weights();
  OnnxGraph graph(task.record.name, std::string(kRecastVersion));
  graph.input(kImage, {kBatchAxis, std::int64_t{3}, size, size});
  OnnxWeights constants(graph, [&](const Slot& slot) { return weights.tensor(slot.name); }, {}, {}, false);
  const std::string features = draw_image_features(graph, directory, size, constants);
  graph.node("Gemm", {features, graph.tensor(kHeadWeight, head.weight), graph.tensor(kHeadBias, head.bias)},
             {{"transB", std::int64_t{1}}}, kLogits);
  graph.output(kLogits, {kBatchAxis, head.bias.size(0)});
  describe(graph, directory, "baked", size);
  graph.describe("recast.task", task.record.name);
  graph.describe("recast.task_version", std::to_string(task.record.version));
  graph.describe("recast.labels", canonical_json(task.record.labels));
  nlohmann::json report = write(directory, request, graph, "baked", size);
  report.update({{"task", task.record.name}, {"version", task.record.version}, {"labels", task.record.labels}});
  return report;
}

nlohmann::json export_with_inputs(const ModelDirectory& directory, const OnnxRequest& request) {
  const Frame frame = find_frame(directory, request.like, request.image_size);
  const std::int64_t size = frame.image_size, width = directory.backbone()->feature_width(),
                     count = coefficient_count(frame.layout);
  const std::string form = request.per_row ? "inputs_per_row" : "inputs";
  OnnxGraph graph(directory.files().config.architecture, std::string(kRecastVersion));
  const auto input = [&](const char* name, OnnxShape shape) {
    if (request.per_row) shape.insert(shape.begin(), OnnxDim(kBatchAxis));
    graph.input(name, std::move(shape));
  };
  graph.input(kImage, {kBatchAxis, std::int64_t{3}, size, size});
  if (count > 0) input(kCoefficients, {count});
  input(kHeadWeight, {kClassesAxis, width});
  input(kHeadBias, {kClassesAxis});
  OnnxWeights weights(
      graph, [&](const Slot& slot) { return directory.backbone()->weight(slot); }, frame.layout, kCoefficients,
      request.per_row);
  const std::string features = draw_image_features(graph, directory, size, weights);
  if (request.per_row) {
    const std::string column = graph.node("Unsqueeze", {features, graph.numbers({2})});
    const std::string products = graph.node("MatMul", {kHeadWeight, column});
    graph.node("Add", {graph.node("Squeeze", {products, graph.numbers({2})}), kHeadBias}, {}, kLogits);
  } else {
    graph.node("Gemm", {features, kHeadWeight, kHeadBias}, {{"transB", std::int64_t{1}}}, kLogits);
  }
  graph.output(kLogits, {kBatchAxis, kClassesAxis});
  describe(graph, directory, form, size);
  graph.describe("recast.layout", canonical_json(layout_json(frame.layout)));
  nlohmann::json report = write(directory, request, graph, form, size);
  report.update({{"coefficients", count},
                 {"layout", layout_json(frame.layout)},
                 {"tasks", frame.tasks},
                 {"other_tasks", frame.others}});
  return report;
}

}  // namespace

nlohmann::json export_onnx(const ModelDirectory& directory, const OnnxRequest& request) {
  const at::NoGradGuard no_grad;
  check_target(request.file, request.force);
  if (request.image_size < 0)
    fail(Code::kInvalidArgument, "[export] --image-size must be at least 1, got {}", request.image_size);
  if (request.task.empty()) return export_with_inputs(directory, request);
  if (request.per_row || !request.like.empty())
    fail(Code::kInvalidArgument,
         "[export] --task bakes one task in, so there is nothing for --per-row or --like to choose: leave it out for a "
         "graph whose inputs are tasks");
  return export_baked(directory, request);
}

nlohmann::json export_onnx_inputs(const ModelDirectory& directory, const std::string& task, const fs::path& file,
                                  const std::string& like, bool force) {
  const at::NoGradGuard no_grad;
  check_target(file, force);
  const TaskInputs inputs = task_inputs(directory, task);
  // Of the size nothing depends here: tasks of several sizes may still share a layout.
  const Frame frame = find_frame(directory, like, inputs.image_size());
  const auto numbers = coefficients(inputs, frame.layout, directory.backbone()->anatomy());
  if (!numbers)
    fail(Code::kUnsupported,
         "[export] task '{}' cuts the weights into other blocks than '{}': it needs a graph of its "
         "own, exported with --like {}",
         task, like, task);
  const LinearHead head = linear_head(inputs.task.model);
  TensorFile out;
  if (numbers->numel() > 0) out.tensors[kCoefficients] = *numbers;
  out.tensors[kHeadWeight] = head.weight;
  out.tensors[kHeadBias] = head.bias;
  const TaskRecord& record = inputs.task.record;
  out.metadata = {{"task", record.name},
                  {"version", std::to_string(record.version)},
                  {"labels", canonical_json(record.labels)},
                  {"fingerprint", directory.fingerprint()},
                  {"layout", canonical_json(layout_json(frame.layout))},
                  {"image_size", std::to_string(inputs.image_size())}};
  write_tensor_file(file, out);
  return {{"file", file.string()},
          {"bytes", fs::file_size(file)},
          {"task", record.name},
          {"version", record.version},
          {"classes", record.labels.size()},
          {"coefficients", numbers->numel()},
          {"image_size", inputs.image_size()}};
}

}  // namespace recast
