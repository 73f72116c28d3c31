#include "recast/run/learn_task.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>

#include "agreement.h"
#include "learn_plan.h"
#include "learning_images.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/data/contents.h"
#include "recast/format/files.h"
#include "recast/format/settled_path.h"
#include "recast/run/describe_methods.h"
#include "recast/run/figures.h"
#include "recast/run/image_source.h"
#include "recast/run/machine.h"
#include "recast/run/model_directory.h"
#include "recast/run/provenance.h"
#include "run_folder.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::size_t kMostClassesWithConfusion = 200;

/// Where this run goes on or begins, and whether it is over already.
struct Place {
  fs::path folder;
  std::int64_t stored = 0;  ///< the version that this run has stored; 0: none that is still there
  bool finished = false, resumes = false;
};

/// The version of a task that there is, which this run stored; 0: none. A run killed between the commit and
/// results.json is known here only.
std::int64_t version_stored_by(const std::string& run, const ModelDirectory& directory, const std::string& task) {
  if (run.empty()) return 0;
  for (const TaskSummary& version : directory.store().log(task))
    if (version.metrics.is_object() && version.metrics.contains("run_id") && version.metrics["run_id"] == run)
      return version.version;
  return 0;
}

Place find_place(const LearnRequest& request, const ModelDirectory& directory, const Settings& settings) {
  const std::int64_t newest = newest_version(directory, request.task);
  auto numbered = [&](std::int64_t version) {
    return settled(request.directory / "runs" / request.task / fmt::format("v{}", version));
  };
  const bool chosen = !request.run_folder.empty();
  Place place;
  place.folder = chosen ? settled(request.run_folder) : numbered(newest + 1);
  if (request.resume && !chosen && newest > 0 && !fs::exists(place.folder) && fs::exists(numbered(newest)))
    place.folder = numbered(newest);
  RunFolder folder(place.folder, nullptr);
  if (!folder.exists()) return place;
  if (fs::is_directory(place.folder)) folder.claim();
  if (!request.resume) {
    if (!request.force && !(fs::is_directory(place.folder) && fs::is_empty(place.folder)))
      fail(Code::kAlreadyExists, "[learn] {} exists: {}", place.folder.string(),
           folder.has_checkpoint() && !fs::exists(folder.results())
               ? "an unfinished run, which --resume goes on with and --force starts afresh"
               : "choose another --out, or --force to replace it");
    return place;
  }
  if (!fs::is_directory(place.folder) || !folder.is_run())
    fail(Code::kAlreadyExists, "[learn] {} is no run folder: choose another --out", place.folder.string());
  if (fs::exists(folder.config())) folder.require_same(settings);
  if (newest > 0) place.stored = version_stored_by(folder.id(), directory, request.task);
  place.finished = place.stored > 0 || fs::exists(folder.results());
  place.resumes = folder.has_checkpoint();
  return place;
}

/// The shared state's default name: the plug-ins that make the recipe share.
std::string shared_name(const LearnRequest& request, const Composition& recipe) {
  if (!request.shared.empty()) return request.shared;
  std::string joined;
  for (const Plug& plug : recipe.plugs())
    if (!plug.info->has(Claim::kIsolated)) joined += (joined.empty() ? "" : "-") + plug.alias();
  return joined;
}

LearningImages open_images(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory) {
  LearningImages images = open_contents(request);
  images.classes = register_classes(images.dataset->classes(), *plan.composition, directory.store(),
                                    shared_name(request, *plan.composition));
  read_images(images, request, plan, directory);
  return images;
}

/// The one look at the test images, after everything is decided.
Evaluation measure(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                   LearningImages& images, const Model& model, Listener& listener) {
  const auto test = open_split(request, plan, directory, images, Split::kTest);
  try {
    if (request.bad_images == BadImages::kSkip) decode(*test, Split::kTest, request, images);
    give_warnings(images, listener);
    listener.stage("test", evaluation_batches(*test));
    const auto classes = static_cast<std::int64_t>(images.classes.labels.size());
    return evaluate(model, *test, classes, false, request.stop, &listener, request.ranks);
  } catch (const Error& error) {
    if (error.code() == Code::kCancelled || dynamic_cast<const RanksParted*>(&error)) throw;
    fail(error.code(), "{}; learning is done and kept, only the test is missing: mend this, then --resume",
         error.what());
  }
}

nlohmann::json without_confusion(nlohmann::json figures) {
  figures.erase("confusion");
  return figures;
}

TaskRecord make_record(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                       const LearningImages& images, const Learned& learned) {
  TaskRecord record;
  record.name = request.task;
  record.fingerprint = directory.fingerprint();
  record.plugs = plan.recipe.plugs;
  record.labels = images.classes.labels;
  record.numbers = learned.model.numbers().only(Scope::kTask).clone();
  record.recipe = describe_recipe(plan.recipe);
  record.recipe["image_size"] = plan.image_size;
  record.recipe["seed"] = request.seed;
  record.data = describe_splits(*images.dataset);
  return record;
}

/// All that is said of a run except what the store adds (version, bytes).
nlohmann::json make_metrics(const LearnRequest& request, const LearnPlan& plan, const LearningImages& images,
                            const Learned& learned, const std::optional<Evaluation>& test, const RunFolder& run) {
  const std::vector<std::string>& labels = images.classes.labels;
  nlohmann::json plugs = nlohmann::json::array(), candidates = nlohmann::json::object();
  nlohmann::json history = nlohmann::json::array(), test_figures, confusion;
  for (const PlugSpec& plug : plan.recipe.plugs) plugs.push_back(plug_text(plug));
  for (const auto& [stage, top1] : learned.candidates) candidates[stage] = top1;
  for (const EpochMetrics& epoch : learned.history) history.push_back(figures(epoch));
  if (test) test_figures = without_confusion(figures(*test, labels));
  if (test && labels.size() <= kMostClassesWithConfusion) confusion = test->confusion;
  nlohmann::json counts;
  for (const Split split : kSplits) counts[name(split)] = images.dataset->examples(split).size();
  nlohmann::json metrics = {{"task", request.task},
                            {"recipe", plan.recipe.name},
                            {"plugs", plugs},
                            {"classes", labels.size()},
                            {"labels", labels},
                            {"images", counts},
                            {"kept", learned.kept},
                            {"candidates", candidates},
                            {"best_epoch", learned.best_epoch},
                            {"validation", without_confusion(figures(learned.validation, labels))},
                            {"test", test_figures},
                            {"confusion", confusion},
                            {"history", history},
                            {"bad_images", images.bad},
                            {"duplicates", images.duplicates},
                            {"seed", request.seed},
                            {"split_seed", request.split_seed},
                            {"image_size", plan.image_size},
                            {"run", run.path().string()},
                            {"run_id", run.id()}};
  if (const Ranks* ranks = request.ranks; ranks && !ranks->alone())
    metrics["ranks"] = {{"count", ranks->size()}, {"carrier", ranks->carrier()}, {"step_bytes", learned.step_bytes}};
  metrics.update(count_numbers(learned.model));
  metrics.update(provenance(request.command, learned.seconds));
  return metrics;
}

/// What a stored version and its metrics say together.
nlohmann::json make_results(const TaskStore& store, const TaskRecord& record) {
  nlohmann::json results = record.metrics.is_object() ? record.metrics : nlohmann::json::object();
  results["schema"] = kResultsSchema;
  results["version"] = record.version;
  results["fingerprint"] = record.fingerprint;
  for (const TaskSummary& version : store.log(record.name))
    if (version.version == record.version) results["file_bytes"] = version.file_bytes;
  return results;
}

/// A run that was killed between the commit and results.json gets these and what its journals lack.
void complete(const LearnRequest& request, const Settings& settings, const nlohmann::json& results, RunFolder& folder) {
  folder.write_results(results);
  folder.open_journals(request, "learn", settings);
  folder.resumed(history_of(results));
  folder.finish_journals(end_of(results));
}

LearnReport finished_report(const ModelDirectory& directory, const LearnRequest& request, const Settings& settings,
                            RunFolder& folder, std::int64_t version) {
  if (request.listener) request.listener->note("the run in " + folder.path().string() + " is complete: nothing to do");
  const auto record = version > 0 ? directory.store().load(request.task, version) : std::nullopt;
  if (!record || !directory.store().load(request.task))
    fail(Code::kNotFound, "[learn] the run in {} is complete, but task '{}' was removed since", folder.path().string(),
         request.task);
  LearnReport report{make_results(directory.store(), *record), true};
  if (!fs::exists(folder.results())) complete(request, settings, report.results, folder);
  return report;
}

Model start_model(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory) {
  Numbers numbers;
  if (!plan.composition->isolated())
    if (auto shared = directory.store().shared(shared_name(request, *plan.composition))) numbers = std::move(*shared);
  return Model(directory.backbone(), plan.composition, std::move(numbers));
}

/// What every rank needs.
Budget make_budget(const LearnRequest& request, const ModelDirectory& directory, const LearningImages& images) {
  Budget budget;
  budget.data = images.digest;
  budget.seed = request.seed;
  budget.resume = request.resume;
  budget.stop = request.stop;
  budget.ranks = request.ranks;
  budget.other_task = [&directory](std::string_view task) { return directory.load(std::string(task)).model; };
  return budget;
}

Budget make_budget(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                   const LearningImages& images, RunFolder& folder) {
  Budget budget = make_budget(request, directory, images);
  budget.checkpoint = folder.checkpoint();
  budget.listener = &folder;
  budget.bare_features = [&](const Source& source, bool bf16) {
    const Split split = &source == images.train.get() ? Split::kTrain : Split::kValidation;
    return bare_features(request, plan, directory, images, split, bf16, folder);
  };
  return budget;
}

LearnReport learn_and_store(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                            LearningImages& images, RunFolder& folder) {
  const Task task{request.task, images.classes.labels};
  const Learned learned = learn(start_model(request, plan, directory), task, {images.train, images.validation},
                                plan.recipe, make_budget(request, plan, directory, images, folder));
  folder.write_metrics(learned.history);
  if (learned.step_bytes > 0)
    folder.note(fmt::format("a step sends {} bytes from each rank to rank 0, and as many back", learned.step_bytes));
  std::optional<Evaluation> test;
  if (request.test) test = measure(request, plan, directory, images, learned.model, folder);
  TaskRecord record = make_record(request, plan, directory, images, learned);
  record.metrics = make_metrics(request, plan, images, learned, test, folder);
  folder.note("stored numbers: " + numbers_text(record.metrics["numbers"]));
  const Numbers shared = learned.model.numbers().only(Scope::kShared).clone();
  const auto store = directory.store_to_write();
  const bool shares = !shared.plugs().empty();
  record.version = store->commit(record, shares ? &shared : nullptr,
                                 shares ? shared_name(request, *plan.composition) : "", folder.id());
  LearnReport report{make_results(*store, record), false};
  folder.write_results(report.results);
  folder.finish_journals(end_of(report.results));
  return report;
}

void require_writable(const fs::path& directory) {
  if (::access(directory.c_str(), W_OK) != 0)
    fail(Code::kUnavailable, "[learn] {} cannot be written to, so the task could not be stored there",
         directory.string());
}

/// What all ranks are to have alike before they learn.
nlohmann::json agreed_on(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                         const LearningImages& images) {
  return {{"recast", kRecastVersion},
          {"model", directory.fingerprint()},
          {"recipe", plan.recipe.text()},
          {"image size", plan.image_size},
          {"seed", request.seed},
          {"task", request.task},
          {"--resume", request.resume},
          {"--no-test", !request.test},
          {"labels", images.classes.labels},
          {"images", images.digest},
          {"test images", digest_of(*images.contents, Split::kTest)},
          {"splits", describe_splits(*images.dataset).at("sha256")},
          {"readable images", {images.train->rows(), images.validation->rows()}}};
}

/// Whether several ranks can do what is asked for.
void check_ranks(const LearnRequest& request, const Ranks& ranks) {
  if (!ranks.alone() && request.device != "cpu")
    fail(Code::kUnsupported, "[ranks] several ranks learn on CPUs; got --device {}", request.device);
}

/// What ranks other than 0 do: all but writing.
LearnReport help_to_learn(const LearnRequest& request, const LearnPlan& plan, const ModelDirectory& directory,
                          Ranks& ranks) {
  const bool finished = ranks.broadcast("") == "finished";
  if (!finished) {
    LearningImages images = open_images(request, plan, directory);
    require_agreement(agreed_on(request, plan, directory, images), ranks);
    const Task task{request.task, images.classes.labels};
    const Learned learned = learn(start_model(request, plan, directory), task, {images.train, images.validation},
                                  plan.recipe, make_budget(request, directory, images));
    Listener silent;
    if (request.test) measure(request, plan, directory, images, learned.model, silent);
  }
  return {nlohmann::json::parse(ranks.broadcast("")), finished};
}

/// Rank 0's report, on every rank. What is stored stays so, whoever has gone since.
LearnReport told(LearnReport report, Ranks& ranks, Listener* listener) {
  if (ranks.alone()) return report;
  try {
    ranks.broadcast(report.results.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } catch (const RanksParted& parted) {
    if (listener) listener->warning(fmt::format("{}; learning is done and stored", parted.what()));
  }
  return report;
}

LearnReport learn_by(Ranks& ranks, const LearnRequest& request) {
  check_request(request);
  check_ranks(request, ranks);
  const ModelDirectory directory = open_directory(request);
  const LearnPlan plan = plan_learning(request, directory);
  if (!ranks.first()) return help_to_learn(request, plan, directory, ranks);
  require_writable(request.directory);
  const Settings settings = plan_settings(request, plan);
  const Place place = find_place(request, directory, settings);
  RunFolder folder(place.folder, request.listener);
  ranks.broadcast(place.finished ? "finished" : "learn");
  if (place.finished)
    return told(finished_report(directory, request, settings, folder, place.stored), ranks, request.listener);

  LearningImages images = open_images(request, plan, directory);
  if (!ranks.alone()) require_agreement(agreed_on(request, plan, directory, images), ranks);
  if (folder.exists() && !place.resumes && request.force) folder.clear();
  folder.create(settings, !request.resume);
  folder.note(plan.recipe.text());
  if (!ranks.alone())
    folder.note(fmt::format("{} ranks over {}; what they exchange is neither encrypted nor authenticated", ranks.size(),
                            ranks.carrier()));
  give_warnings(images, folder);
  if (request.resume && !place.resumes) folder.note("no checkpoint to resume from: starting afresh");
  LearnReport report;
  try {
    folder.open_journals(request, "learn", settings);
    report = learn_and_store(request, plan, directory, images, folder);
  } catch (const Error& error) {
    const bool lost = dynamic_cast<const RanksParted*>(&error) != nullptr;
    const bool asked = !ranks.alone() || (request.stop && *request.stop);  // of several ranks, any
    const bool stopped = lost || (asked && error.code() == Code::kCancelled);
    folder.stop_journals(folder.has_checkpoint());
    if (stopped && folder.has_checkpoint())
      fail(error.code(), "{}; --resume goes on from {}", error.what(), folder.checkpoint().string());
    folder.discard();
    throw;
  } catch (...) {
    folder.stop_journals(folder.has_checkpoint());
    folder.discard();
    throw;
  }
  return told(std::move(report), ranks, &folder);
}

}  // namespace

LearnReport learn_task(const LearnRequest& request) {
  return among_ranks(request.ranks, [&](Ranks& ranks) { return learn_by(ranks, request); });
}

}  // namespace recast
