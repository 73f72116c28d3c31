#include "recast/run/evaluate_task.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/run/figures.h"
#include "recast/run/provenance.h"
#include "test_data.h"

namespace recast {
namespace {

nlohmann::json evaluate_one(const ModelDirectory& directory, const EvaluateRequest& request, const std::string& name) {
  const LoadedTask task = directory.load(name);
  const TestData data = open_test_data(directory, task, request.data, request.bad_images, request.stop, request.pool);
  if (request.listener) {
    request.listener->stage("evaluate " + name, evaluation_batches(*data.images));
    for (const std::string& note : data.notes) request.listener->note(note);
  }
  const Evaluation evaluation = evaluate(task.model, *data.images, static_cast<std::int64_t>(task.record.labels.size()),
                                         request.bf16, request.stop, request.listener);
  nlohmann::json result = figures(evaluation, task.record.labels);
  result.update({{"task", task.record.name},
                 {"version", task.record.version},
                 {"data", printable_path(data.dataset->path())},
                 {"split", "test"},
                 {"labels", task.record.labels},
                 {"bad_images", data.bad_images},
                 {"notes", data.notes}});
  return result;
}

/// Why a stored record cannot be measured on its own images, or nothing.
std::optional<std::string> unusable(const ModelDirectory& directory, const EvaluateRequest& request,
                                    const std::string& task) {
  try {
    const auto record = directory.store().load(task);
    if (request.data.empty() && record && !(record->data.is_object() && record->data.contains("path")))
      return "it was not learned from images here";
  } catch (const Error& error) {
    if (error.code() != Code::kDataCorruption) throw;
    return error.what();
  }
  return {};
}

nlohmann::json evaluate_every(const ModelDirectory& directory, const EvaluateRequest& request) {
  nlohmann::json tasks = nlohmann::json::array(), skipped = nlohmann::json::array();
  auto skip = [&](const std::string& task, const std::string& reason) {
    skipped.push_back({{"task", task}, {"reason", reason}});
  };
  for (const TaskSummary& task : directory.store().list()) {
    if (const auto reason = unusable(directory, request, task.name)) {
      skip(task.name, *reason);
      continue;
    }
    try {
      tasks.push_back(evaluate_one(directory, request, task.name));
    } catch (const Error& error) {
      // Of several tasks, those with other labels than the data's are not what was asked for.
      if (request.data.empty() || error.code() != Code::kShapeMismatch) throw;
      skip(task.name, error.what());
    } catch (const nlohmann::json::exception& error) {
      skip(task.name, fmt::format("its record is damaged: {}", printable(error.what(), 300)));
    }
  }
  if (tasks.empty())
    fail(Code::kNotFound, "[eval] no task to measure in {}{}", directory.path().string(),
         skipped.empty()
             ? ": 'recast learn' makes one"
             : fmt::format(": {}: {}", skipped[0]["task"].get<std::string>(), skipped[0]["reason"].get<std::string>()));
  return {{"tasks", tasks}, {"skipped", skipped}};
}

}  // namespace

nlohmann::json evaluate_tasks(const ModelDirectory& directory, const EvaluateRequest& request) {
  const auto start = std::chrono::steady_clock::now();
  nlohmann::json report =
      request.task.empty() ? evaluate_every(directory, request) : evaluate_one(directory, request, request.task);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  report.update(provenance(request.command, seconds.count()));
  return report;
}

}  // namespace recast
