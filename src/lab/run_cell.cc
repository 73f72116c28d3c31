#include "run_cell.h"

#include <algorithm>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/settled_path.h"
#include "recast/run/evaluate_task.h"
#include "recast/store/task_store.h"
#include "run/learn_plan.h"
#include "stream_cell.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

/// The cell's task in the store of its model.
std::string stored_name(const LabCell& cell) { return fmt::format("{}.{}.{}", cell.task, cell.recipe, cell.seed); }

const ModelDirectory& model_of(const CellSurroundings& around, const LabCell& cell) {
  const std::string& name = around.file.recipe(cell.recipe).model;
  const PreparedModel& model = around.models.at(name);
  if (model.failure) fail(model.failure->code, "[lab] model {}: {}", name, model.failure->message);
  return *model.directory;
}

LearnRequest request_of(const CellSurroundings& around, const LabCell& cell, bool resume, Listener* listener) {
  const LabTask& task = around.file.task(cell.task);
  LearnRequest request = around.file.recipe(cell.recipe).learn;
  const ImageChoice images = images_of(task, cell.seed);
  request.directory = model_of(around, cell).path();
  request.opened = &model_of(around, cell);
  request.device = around.file.device;
  request.data = images.data;
  request.split_seed = images.split_seed;
  request.classes = images.classes;
  request.superclasses = images.superclasses;
  request.limit_train = images.limit_train;
  request.limit_validation = images.limit_validation;
  request.limit_test = images.limit_test;
  request.bad_images = task.bad_images;
  request.task = stored_name(cell);
  request.seed = cell.seed;
  if (!request.image_size) request.image_size = task.image_size;
  request.run_folder = run_path(around.file, cell);
  request.resume = resume;
  request.force = true;  // what lies there is the lab's own and no longer holds
  request.test = false;  // measured afterwards, on what was stored
  request.command = around.command;
  request.pool = &around.pool;
  request.stop = around.stop;
  request.listener = listener;
  // A head that tasks share would carry one cell's images into another's figures.
  if (!plan_learning(request, *request.opened).composition->isolated()) request.shared = request.task;
  return request;
}

json measured(const CellSurroundings& around, const LabCell& cell, const json& learned, Listener* listener) {
  EvaluateRequest request;
  request.task = fmt::format("{}:{}", stored_name(cell), learned.at("version").get<std::int64_t>());
  request.bf16 = around.file.recipe(cell.recipe).test_bf16;
  request.bad_images = around.file.task(cell.task).bad_images;
  request.command = around.command;
  request.pool = &around.pool;
  request.stop = around.stop;
  request.listener = listener;
  return evaluate_tasks(model_of(around, cell).with_fresh_store(), request);
}

/// docs/lab.schema.json, "result".
json result_of(const LabRecipe& recipe, const json& learned, const json& test) {
  json result;
  for (const char* key : {"classes", "images", "image_size", "plugs", "kept", "candidates", "best_epoch",
                          "coefficients", "head_numbers", "numbers", "stored_bytes", "shared_bytes", "file_bytes",
                          "duplicates", "split_seed", "version", "run", "machine", "versions"})
    result[key] = learned.at(key);
  for (const char* key : {"top1", "top1_interval95", "top5", "loss", "rows", "notes", "finished_utc"})
    result[key] = test.at(key);
  result["recipe"] = learned.at("recipe");
  result["stored_task"] = learned.at("task");
  result["kept_task"] = recipe.keep_task;
  result["test_amp"] = recipe.test_bf16 ? "bf16" : "fp32";
  result["validation_top1"] = learned.at("validation").at("top1");
  result["bad_images"] = learned.at("bad_images");
  result["bad_images"]["test"] = test.at("bad_images");
  result["learn_seconds"] = learned.at("seconds");
  result["eval_seconds"] = test.at("seconds");
  return result;
}

/// Takes the cell's task out of the store, with the head that only it has.
void drop_task(const CellSurroundings& around, const LabCell& cell) {
  const ModelDirectory& model = model_of(around, cell);
  const auto store = model.store_to_write();
  const auto known = store->list(true);
  if (std::any_of(known.begin(), known.end(), [&](const TaskSummary& task) { return task.name == stored_name(cell); }))
    store->purge(stored_name(cell));
}

/// What a finished cell no longer needs: checkpoints, and the task where it is not to be kept. The folder of
/// checkpoints goes last, since it tells the next run that this one was killed here.
void tidy(const CellSurroundings& around, const LabCell& cell) {
  const fs::path checkpoints = run_path(around.file, cell) / "checkpoints";
  if (!fs::exists(checkpoints)) return;
  if (!around.file.recipe(cell.recipe).keep_task) drop_task(around, cell);
  fs::remove_all(checkpoints);
}

void remove_path(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(Code::kUnavailable, "[lab] {}: cannot be removed: {}", printable_path(path), error.message());
}

/// What no longer holds goes before the cell counts as begun, its record first: else, killed on the way, the next
/// process would take the old run for this one. A head that classes are added to goes, too: it would learn them twice.
void forget(const CellSurroundings& around, const LabCell& cell, const LearnRequest& request) {
  remove_path(cell_path(around.file, cell));
  remove_path(run_path(around.file, cell));
  if (!request.shared.empty()) drop_task(around, cell);
}

/// What differs, in words.
std::string difference(const CellRecord& before, const CellRecord& now) {
  if (before.asked != now.asked) {
    for (const char* part : {"task", "recipe", "models", "device"})
      if (before.asked.value(part, json()) != now.asked.at(part)) return fmt::format("the settings of its {}", part);
    return "its settings";
  }
  return before.found.value("model", "") != now.found.at("model") ? "its model" : "its images";
}

enum class Plan { kLeave, kGoOn, kAfresh };

Plan plan_of(const CellRecord& before, const CellRecord& now, bool force, std::string& note) {
  if (!before.fault.empty()) note = "its file cannot be read and is made anew: " + before.fault;
  if (before.state == CellRecord::State::kMissing) return Plan::kAfresh;
  if (force) return Plan::kAfresh;
  if (before.asked != now.asked || before.found != now.found) {
    if (before.state == CellRecord::State::kDone) note = difference(before, now) + " changed since: done again";
    return Plan::kAfresh;
  }
  if (before.state == CellRecord::State::kDone) return Plan::kLeave;
  return before.where == now.where ? Plan::kGoOn : Plan::kAfresh;
}

void learn_and_measure(const CellSurroundings& around, CellRecord& record, bool resume, Listener* listener) {
  const LearnRequest request = request_of(around, record.cell, resume, listener);
  if (!resume) forget(around, record.cell, request);
  record.state = CellRecord::State::kBegun;
  write_cell(around.file, record);
  const LabRecipe& recipe = around.file.recipe(record.cell.recipe);
  if (const auto& stream = around.file.task(record.cell.task).stream) {
    record.result = stream_result(recipe, learn_stream_cell(request, *stream));
    // Its figures are whole in the run folder, where a cell that is killed here finds them.
    if (!recipe.keep_task) drop_task(around, record.cell);
  } else {
    const json learned = learn_task(request).results;
    record.result = result_of(recipe, learned, measured(around, record.cell, learned, listener));
  }
  record.state = CellRecord::State::kDone;
  write_cell(around.file, record);
}

void record_failure(const CellSurroundings& around, CellRecord& record) {
  const Failure failure = failure_at_hand("batch-size or image-size");
  record.error = {{"code", name(failure.code)}, {"message", failure.message}};
  record.state = CellRecord::State::kFailed;
  log_event(LogLevel::kError, "cell.failed",
            {{"cell", record.cell.id()}, {"code", name(failure.code)}, {"message", failure.message}});
  write_cell(around.file, record);
}

}  // namespace

ImageChoice images_of(const LabTask& task, std::uint64_t seed) {
  ImageChoice choice = task.images;
  choice.data = settled(choice.data);
  if (task.split_by_seed) choice.split_seed = seed;
  return choice;
}

std::string CellInputs::data_digest(const LabTask& task, std::uint64_t seed) {
  const ImageChoice choice = images_of(task, seed);
  const std::lock_guard lock(mutex_);  // others would read the same images
  std::string& known = digests_[{task.name, choice.split_seed}];
  if (!known.empty()) return known;
  const auto dataset = around_.pool.dataset(choice);
  VisitOptions options;
  options.stop = around_.stop;
  const auto contents = around_.pool.contents(dataset, options);
  Sha256 digest;
  digest.update(canonical_json(describe_splits(*dataset).at("sha256")));
  for (const auto& split : contents->digests)
    for (const std::optional<Digest>& image : split)
      digest.update(image ? std::string_view(reinterpret_cast<const char*>(image->data()), image->size())
                          : std::string_view("unreadable"));
  return known = digest.finish_hex();
}

json CellInputs::of(const LabCell& cell) {
  return {{"model", model_of(around_, cell).fingerprint()},
          {"data", data_digest(around_.file.task(cell.task), cell.seed)}};
}

CellOutcome run_cell(const CellSurroundings& around, CellInputs& inputs, const LabCell& cell, bool force,
                     Listener* listener) {
  CellOutcome outcome;
  const CellRecord before = read_cell(around.file, cell);
  CellRecord& now = outcome.record;
  now.cell = cell;
  now.stream = around.file.task(cell.task).stream.has_value();
  now.asked = asked_of(around.file, cell);
  now.found = now.where = json::object();
  try {
    now.found = inputs.of(cell);
    now.where = {{"model", printable_path(model_of(around, cell).path())},
                 {"data", printable_path(images_of(around.file.task(cell.task), cell.seed).data)}};
    const Plan plan = plan_of(before, now, force, outcome.note);
    if (plan == Plan::kLeave) {
      now = before;
      tidy(around, cell);
      return outcome;
    }
    outcome.worked = true;
    learn_and_measure(around, now, plan == Plan::kGoOn, listener);
    tidy(around, cell);
  } catch (...) {
    if (around.stop && *around.stop) throw;
    outcome.worked = true;
    record_failure(around, now);
  }
  return outcome;
}

}  // namespace recast
