#include "report_facts.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "recast/base/error.h"
#include "recast/base/utc.h"
#include "recast/data/dataset.h"
#include "recast/data/image.h"
#include "recast/format/printable.h"
#include "recast/run/evaluate_task.h"
#include "recast/run/figures.h"
#include "recast/run/image_pool.h"
#include "recast/run/inspect_directory.h"

namespace recast {
namespace {

constexpr std::int64_t kShownPx = 112;  ///< side of an example on the page at most

double cosine(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.flatten().to(at::kDouble), y = b.flatten().to(at::kDouble);
  const double norms = x.norm().item<double>() * y.norm().item<double>();
  return norms == 0 ? 1 : std::clamp(x.dot(y).item<double>() / norms, -1.0, 1.0);
}

std::vector<WeightChange> compare_weights(const Model& model) {
  std::vector<WeightChange> changes;
  const State effective = model.weights();
  for (const Slot& slot : model.backbone().anatomy().slots) {
    if (slot.kind != SlotKind::kWeight || !effective.has(slot.name)) continue;
    const at::Tensor own = model.backbone().weight(slot), now = effective.tensor(slot.name);
    if (slot.group < 0 && at::equal(own, now)) continue;
    const double size = own.to(at::kDouble).norm().item<double>();
    const double moved = (now.to(at::kDouble) - own.to(at::kDouble)).norm().item<double>();
    changes.push_back({slot.name, size == 0 ? 0 : moved / size, cosine(now, own)});
  }
  return changes;
}

std::vector<FeatureLikeness> compare_features(const Model& model, const at::Tensor& input, const Fields& out,
                                              const std::vector<std::string>& layers) {
  ListeningRoute bare(model.backbone(), layers);
  const at::Tensor features = model.backbone().features(input, bare);
  std::vector<FeatureLikeness> likeness;
  for (const std::string& layer : layers) {
    const auto tap = out.find("tap." + layer);
    const at::Tensor& own = bare.outputs.at(layer);
    if (tap != out.end() && own.defined() && own.sizes() == tap->second.sizes())
      likeness.push_back({layer, mean_cosine(tap->second, own)});
  }
  likeness.push_back({"features", mean_cosine(out.at("features"), features)});
  return likeness;
}

/// Rows of the test split class by class in turn, the first of each first: chosen before anything is predicted.
std::vector<std::int64_t> choose_rows(const Dataset& dataset, std::int64_t count) {
  const std::vector<Example>& examples = dataset.examples(Split::kTest);
  std::vector<std::vector<std::int64_t>> of_class(dataset.classes().size());
  for (std::size_t row = 0; row < examples.size(); ++row)
    of_class.at(static_cast<std::size_t>(examples[row].label)).push_back(static_cast<std::int64_t>(row));
  const auto classes = static_cast<std::int64_t>(of_class.size());
  std::vector<std::int64_t> rows;
  for (std::size_t turn = 0; turn < examples.size() && static_cast<std::int64_t>(rows.size()) < count; ++turn) {
    // Of more classes than images, evenly spaced ones.
    const std::int64_t shown = std::min(classes, count);
    for (std::int64_t i = 0; i < shown && static_cast<std::int64_t>(rows.size()) < count; ++i) {
      const auto& own = of_class[static_cast<std::size_t>(i * classes / shown)];
      if (turn < own.size()) rows.push_back(own[turn]);
    }
  }
  return rows;
}

std::string digest_of_test(const nlohmann::json& data) {
  return data.is_object() && data.contains("sha256") ? text_at(data["sha256"], "test") : "";
}

struct Chosen {
  at::Tensor input;  ///< normalised [N, 3, S, S]
  std::vector<ExampleImage> examples;
};

Chosen read_examples(const LoadedTask& task, const Dataset& dataset, const ReportOptions& options) {
  Preprocessing shown = task.preprocessing;
  shown.size_px = std::min(shown.size_px, kShownPx);
  std::vector<at::Tensor> pixels;
  Chosen chosen;
  for (const std::int64_t row : choose_rows(dataset, options.examples)) {
    const Example& example = dataset.examples(Split::kTest).at(static_cast<std::size_t>(row));
    const at::Tensor image = dataset.image(Split::kTest, row);
    pixels.push_back(evaluation_pixels(image, task.preprocessing));
    ExampleImage out;
    out.id = example.id;
    out.png = encode_png(evaluation_pixels(image, shown));
    out.truth = dataset.classes().at(static_cast<std::size_t>(example.label));
    chosen.examples.push_back(std::move(out));
    if (options.stop && *options.stop) fail(Code::kCancelled, "[report] stopped on request");
  }
  if (!pixels.empty()) chosen.input = normalise(at::stack(pixels), task.preprocessing);
  return chosen;
}

void answer(ExampleImage& example, const at::Tensor& logits, const std::vector<std::string>& labels) {
  const at::Tensor probabilities = at::softmax(logits.to(at::kCPU, at::kDouble), 0);
  const std::int64_t best = probabilities.argmax().item<std::int64_t>();
  example.answer = labels.at(static_cast<std::size_t>(best));
  example.probability = probabilities[best].item<double>();
}

/// Example images with predictions, and what the layers make of them.
void look_at_images(TaskFacts& facts, const LoadedTask& task, const ModelDirectory& directory,
                    const ReportOptions& options) {
  const nlohmann::json& data = task.record.data;
  if (options.examples == 0) return;
  if (!data.is_object() || !data.contains("path")) {
    facts.notes.push_back("No example images: this task was not learned from images here.");
    return;
  }
  const std::unique_ptr<Dataset> dataset = open_images(recorded_images(data));
  if (digest_of_test(describe_splits(*dataset)) != digest_of_test(data)) {
    facts.notes.push_back("No example images: the images at " + data["path"].get<std::string>() +
                          " are not those that the task was learned with.");
    return;
  }
  Chosen chosen = read_examples(task, *dataset, options);
  if (chosen.examples.empty()) return;
  const std::vector<std::string> layers = layers_of(directory.backbone()->anatomy());
  Batch batch;
  batch.rows = chosen.input.size(0);
  batch.at["input"] = chosen.input.to(directory.device());
  Run run;
  run.taps = layers;
  const Fields out = task.model.forward(batch, run);
  for (std::size_t i = 0; i < chosen.examples.size(); ++i)
    answer(chosen.examples[i], out.at("logits")[static_cast<std::int64_t>(i)], task.record.labels);
  facts.examples = std::move(chosen.examples);
  if (facts.moves_features) facts.features = compare_features(task.model, batch.at["input"], out, layers);
}

void measure_again(TaskFacts& facts, const ModelDirectory& directory, const ReportOptions& options) {
  EvaluateRequest request;
  request.task = facts.record.name;
  request.stop = options.stop;
  request.listener = options.listener;
  nlohmann::json result = evaluate_tasks(directory, request);
  if (result["notes"].empty())
    facts.measured = std::move(result);
  else
    facts.notes.push_back("Not measured again: " + result["notes"][0].get<std::string>() + ".");
}

/// Runs one part of what is shown of a task; what goes wrong in it becomes a note.
template <class Part>
void try_part(TaskFacts& facts, const std::string& lost, const Part& part) {
  try {
    part();
  } catch (const Error& error) {
    if (error.code() == Code::kCancelled) throw;
    facts.notes.push_back(lost + ": " + error.what());
  } catch (const nlohmann::json::exception&) {
    facts.notes.push_back(lost + ": the record of the data is not as recast writes it.");
  }
}

TaskFacts facts_of(const ModelDirectory& directory, const TaskSummary& summary, const ReportOptions& options) {
  TaskFacts facts;
  facts.record = directory.record(summary.name);
  facts.metrics = facts.record.metrics.is_object() ? facts.record.metrics : nlohmann::json::object();
  facts.counts = nlohmann::json::object();
  facts.versions = summary.versions;
  facts.file_bytes = summary.file_bytes;
  try_part(facts, "Figures of the record only", [&] {
    const LoadedTask task = directory.load(summary.name);
    facts.loaded = true;
    facts.counts = count_numbers(task.model);
    facts.moves_features = task.model.recipe().moves_features();
    if (facts.moves_features) facts.weights = compare_weights(task.model);
    try_part(facts, "No example images", [&] { look_at_images(facts, task, directory, options); });
    const bool has_data = facts.record.data.is_object() && facts.record.data.contains("path");
    if (options.measure && has_data)
      try_part(facts, "Not measured again", [&] { measure_again(facts, directory, options); });
  });
  facts.record.numbers = {};
  return facts;
}

/// Of the tasks that trained a head alone on the same images, the one named after `task`, or else the first.
std::string find_head_alone(const TaskFacts& task, const std::vector<TaskFacts>& all) {
  const std::string images = digest_of_test(task.record.data);
  if (images.empty() || task.head_only()) return "";
  std::string found;
  for (const TaskFacts& other : all) {
    if (!other.head_only() || digest_of_test(other.record.data) != images) continue;
    if (!number_at(other.metrics, {"test", "top1"})) continue;
    if (found.empty() || other.record.name == task.record.name + "-head") found = other.record.name;
  }
  return found;
}

}  // namespace

std::string text_at(const nlohmann::json& document, const char* key) {
  if (!document.is_object() || !document.contains(key) || document[key].is_null()) return "";
  const nlohmann::json& value = document[key];
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<double> number_at(const nlohmann::json& document, std::initializer_list<const char*> keys) {
  const nlohmann::json* at = &document;
  for (const char* key : keys) {
    if (!at->is_object() || !at->contains(key)) return {};
    at = &(*at)[key];
  }
  if (!at->is_number()) return {};
  return at->get<double>();
}

ReportFacts collect_facts(const ModelDirectory& directory, const ReportOptions& options) {
  if (options.examples < 0 || options.examples > 100)
    fail(Code::kInvalidArgument, "[report] --examples must lie in 0..100, got {}", options.examples);
  const at::NoGradGuard no_grad;
  ReportFacts facts;
  facts.model = inspect_directory(directory);
  facts.name = printable(std::filesystem::weakly_canonical(directory.path()).filename().string(), 200);
  facts.written_utc = utc_now();
  const std::vector<TaskSummary> tasks = directory.store().list();
  if (options.listener) options.listener->stage("report", static_cast<std::int64_t>(tasks.size()));
  for (const TaskSummary& summary : tasks) {
    if (options.stop && *options.stop) fail(Code::kCancelled, "[report] stopped on request");
    facts.tasks.push_back(facts_of(directory, summary, options));
    if (options.listener)
      options.listener->step(static_cast<std::int64_t>(facts.tasks.size()), static_cast<std::int64_t>(tasks.size()));
  }
  for (TaskFacts& task : facts.tasks) task.head_alone = find_head_alone(task, facts.tasks);
  std::stable_sort(facts.tasks.begin(), facts.tasks.end(),
                   [](const TaskFacts& a, const TaskFacts& b) { return a.record.created_utc < b.record.created_utc; });
  return facts;
}

}  // namespace recast
