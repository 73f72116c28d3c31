#include "recast/run/stream_task.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>

#include "learn_plan.h"
#include "learning_images.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/class_incremental.h"
#include "recast/run/describe_methods.h"
#include "recast/run/figures.h"
#include "recast/run/provenance.h"
#include "recast/run/row_sources.h"
#include "run_folder.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

void check(const StreamRequest& request) {
  check_request(request);
  if (!request.seeds.empty()) fail(Code::kInvalidArgument, "[stream] one --seed at a time");
  if (request.stream.increment < 1)
    fail(Code::kInvalidArgument, "[stream] --increment N is missing: how many classes each step adds");
  if (request.keep != "all" && request.keep != "last" && request.keep != "none")
    fail(Code::kInvalidArgument, "[stream] --keep must be all, last or none, got '{}'", printable(request.keep));
  if (request.unlabelled != "base" && request.unlabelled != "all")
    fail(Code::kInvalidArgument, "[stream] --unlabelled must be base or all, got '{}'", printable(request.unlabelled));
}

/// Where the network stands still it runs once, in fp32 unless asked otherwise, so that the figures do not hang on what
/// the processor multiplies; where it moves the recipe's own format holds.
LearnPlan plan_stream(const StreamRequest& request, const ModelDirectory& directory) {
  LearnPlan plan = plan_learning(request, directory);
  if (!plan.composition->moves_features()) plan.recipe.bf16 = request.bf16.value_or(false);
  return plan;
}

Settings settings_of(const StreamRequest& request, const LearnPlan& plan) {
  Settings settings = plan_settings(request, plan);
  const StreamOptions& stream = request.stream;
  const auto flag = [&](const char* key, std::string value) { settings.push_back({key, {std::move(value)}}); };
  std::erase_if(settings, [](const auto& entry) { return entry.first == "no-test"; });
  flag("base", std::to_string(stream.base));
  flag("increment", std::to_string(stream.increment));
  flag("class-seed", std::to_string(stream.class_seed));
  flag("stream", std::string(name(stream.kind)));
  flag("share", fmt::format("{}", stream.share));
  flag("unlabelled", request.unlabelled);
  flag("keep", request.keep);
  if (!request.forward_transfer) flag("no-forward-transfer", "true");
  return settings;
}

/// A step that the store has.
struct StoredStep {
  std::int64_t version = 0;
  nlohmann::json entry;  ///< of `steps` in results.json
};

/// The steps that a run has stored, from the first one on without a gap.
std::vector<StoredStep> stored_steps(const std::string& run, const ModelDirectory& directory, const std::string& task) {
  std::vector<StoredStep> steps;
  if (run.empty() || newest_version(directory, task) == 0) return steps;
  for (const TaskSummary& version : directory.store().log(task)) {
    const nlohmann::json& metrics = version.metrics;
    if (!metrics.is_object() || metrics.value("run_id", "") != run || !metrics.contains("step")) continue;
    if (metrics["step"].value("step", std::size_t{0}) == steps.size())
      steps.push_back({version.version, metrics["step"]});
  }
  return steps;
}

/// Passes on all but the epochs of steps, whose file would be another's, and what is noted of each learning: a stream
/// learns twice a step.
class StepListener final : public Listener {
 public:
  StepListener(RunFolder& folder, Listener* next) : folder_(folder), next_(next) {}
  void within(std::string step) { step_ = std::move(step); }
  void stage(const std::string& name, std::int64_t total) override { folder_.stage(step_ + name, total); }
  void step(std::int64_t done, std::int64_t total) override { folder_.step(done, total); }
  void epoch(const EpochMetrics& metrics) override {
    if (next_) next_->epoch(metrics);
  }
  void note(const std::string& text) override {
    if (step_.empty()) folder_.note(text);
  }
  void warning(const std::string& text) override { folder_.warning(step_ + text); }

 private:
  RunFolder& folder_;
  Listener* next_;
  std::string step_;
};

std::vector<std::int64_t> columns_of(const at::Tensor& classes, const std::vector<std::int64_t>& column) {
  std::vector<std::int64_t> columns;
  for (std::int64_t i = 0; i < classes.size(0); ++i)
    columns.push_back(column.at(static_cast<std::size_t>(classes.const_data_ptr<std::int64_t>()[i])));
  return columns;
}

/// Where a split's features came from and what was left out on the way.
nlohmann::json describe(const SplitFeatures& features) {
  return {{"rows", features.rows.size(0)}, {"from", features.from}, {"bad", describe_skipped(features.bad)}};
}

/// The stream of a request over its data: over features where the recipe leaves them alone, else over images.
class Setting {
 public:
  Setting(const StreamRequest& request, const LearnPlan& plan, const ModelDirectory& directory, Listener& listener)
      : request_(request), plan_(plan), directory_(directory), listener_(listener), images_(open_contents(request)) {
    column_of_classes();  // throws where the steps do not fit the classes
  }

  ClassIncremental make() {
    give_warnings(images_, listener_);
    ClassIncremental setting{
        Model(directory_.backbone(), plan_.composition, {}), request_.task, {}, {}, {}, {}, {}, nullptr, plan_.recipe};
    setting.seed = request_.seed;
    setting.forward_transfer = request_.forward_transfer;
    setting.data = images_.digest;
    setting.stop = request_.stop;
    setting.listener = &listener_;
    setting.other_task = [this](std::string_view task) { return directory_.load(std::string(task)).model; };
    if (plan_.composition->moves_features())
      use_images(setting);
    else
      use_features(setting);
    for (const std::int64_t c : setting.stream.order)
      setting.labels.push_back(images_.dataset->classes()[static_cast<std::size_t>(c)]);
    if (request_.unlabelled == "all") setting.unlabelled = setting.train.source;
    return setting;
  }

  const LearningImages& images() const { return images_; }
  const nlohmann::json& features() const { return features_; }

 private:
  std::int64_t classes() const { return static_cast<std::int64_t>(images_.dataset->classes().size()); }

  void use_features(ClassIncremental& setting) {
    std::array<SplitFeatures, 3> splits;
    for (const Split split : kSplits) {
      SplitFeatures& made = splits[static_cast<std::size_t>(split)] =
          split_features(request_, plan_, directory_, images_, split, plan_.recipe.bf16, listener_);
      features_[name(split)] = describe(made);
      images_.bad[name(split)] = features_[name(split)]["bad"];
      if (!made.bad.empty())
        listener_.warning(fmt::format("{} {} images cannot be decoded and are skipped, the first: {}", made.bad.size(),
                                      name(split), made.bad[0].id));
    }
    const at::Tensor& labels = splits[static_cast<std::size_t>(Split::kTrain)].labels;
    const std::int64_t* first = labels.const_data_ptr<std::int64_t>();
    setting.stream = make_stream({first, first + labels.size(0)}, classes(), request_.stream);
    const auto rows = [&](Split split) {
      const SplitFeatures& made = splits[static_cast<std::size_t>(split)];
      StreamRows out{nullptr, columns_of(made.labels, setting.stream.column)};
      out.source = std::make_shared<FeatureSource>(made.features, at::tensor(out.columns, at::kLong), made.rows);
      return out;
    };
    setting.train = rows(Split::kTrain);
    setting.validation = rows(Split::kValidation);
    setting.test = rows(Split::kTest);
  }

  void use_images(ClassIncremental& setting) {
    // The order of the classes must be known before labels are given; which rows are left depends on decoding.
    images_.classes.label_of_class = column_of_classes();
    read_images(images_, request_, plan_, directory_);
    const auto test = open_split(request_, plan_, directory_, images_, Split::kTest);
    if (request_.bad_images == BadImages::kSkip) decode(*test, Split::kTest, request_, images_);
    give_warnings(images_, listener_);
    const auto classes_of = [&](const ImageSource& source, Split split) {
      std::vector<std::int64_t> out;
      for (const std::int64_t row : source.split_rows())
        out.push_back(images_.dataset->examples(split)[static_cast<std::size_t>(row)].label);
      return out;
    };
    const std::vector<std::int64_t> train = classes_of(*images_.train, Split::kTrain);
    setting.stream = make_stream(train, classes(), request_.stream);
    const auto rows = [&](const std::shared_ptr<ImageSource>& source, Split split) {
      return StreamRows{source, columns_of(at::tensor(classes_of(*source, split), at::kLong), setting.stream.column)};
    };
    setting.train = rows(images_.train, Split::kTrain);
    setting.validation = rows(images_.validation, Split::kValidation);
    setting.test = rows(test, Split::kTest);
  }

  std::vector<std::int64_t> column_of_classes() const {
    return make_stream(all_rows(classes()), classes(), request_.stream).column;
  }

  const StreamRequest& request_;
  const LearnPlan& plan_;
  const ModelDirectory& directory_;
  Listener& listener_;
  LearningImages images_;
  nlohmann::json features_ = nullptr;
};

nlohmann::json describe_step(const ClassIncremental& setting, std::size_t s, const StepOutcome& outcome) {
  const StreamStep& step = setting.stream.steps[s];
  nlohmann::json entry = step_json(outcome.figures);
  entry.update(
      {{"step", s},
       {"new_classes", step.classes},
       {"rows", {{"new", outcome.new_rows}, {"known", outcome.known_rows}, {"validation", outcome.validation_rows}}},
       {"validation_top1", outcome.learned.validation.top1},
       {"kept", outcome.learned.kept},
       {"seconds", outcome.learned.seconds}});
  return entry;
}

std::string metrics_csv(const std::vector<nlohmann::json>& steps) {
  // No times: a resumed stream leaves the very bytes that an uninterrupted one does.
  std::string text = "step,classes,new_rows,known_rows,validation_rows,validation_top1,test_rows,top1,within,alone\n";
  const auto shown = [](const nlohmann::json& value) { return value.is_null() ? std::string() : value.dump(); };
  for (const nlohmann::json& s : steps)
    text +=
        fmt::format("{},{},{},{},{},{},{},{},{},{}\n", s["step"].dump(), s["classes"].dump(), s["rows"]["new"].dump(),
                    s["rows"]["known"].dump(), s["rows"]["validation"].dump(), s["validation_top1"].dump(),
                    s["test_rows"].dump(), s["top1"].dump(), shown(s["within"]), shown(s["alone"]));
  return text;
}

/// One stream on its way: what was learned so far and where it is written down.
class StreamRun {
 public:
  StreamRun(const StreamRequest& request, const LearnPlan& plan, const ModelDirectory& directory, RunFolder& folder)
      : request_(request),
        plan_(plan),
        directory_(directory),
        folder_(folder),
        listener_(folder, request.listener),
        source_(request, plan, directory, listener_) {}

  nlohmann::json run() {
    ClassIncremental setting = source_.make();
    resume();
    for (std::size_t s = steps_.size(); s < setting.stream.steps.size(); ++s) {
      const std::string place = fmt::format("step {} of {}: ", s + 1, setting.stream.steps.size());
      listener_.within(place);
      const StepOutcome outcome = learn_stream_step(setting, s, numbers_);
      numbers_ = outcome.learned.model.numbers();
      steps_.push_back(describe_step(setting, s, outcome));
      folder_.note(place + fmt::format("top1 {:.4f} on {} test images of {} classes", outcome.figures.top1,
                                       outcome.figures.test_rows, outcome.figures.classes));
      counts_ = count_numbers(outcome.learned.model);
      const bool last = s + 1 == setting.stream.steps.size();
      if (request_.keep == "all" || (request_.keep == "last" && last)) commit(setting, outcome);
      write_figures();
      folder_.tell_journals(stream_point(steps_.back()));
    }
    listener_.within("");
    const nlohmann::json results = make_results(setting);
    folder_.write_results(results);
    folder_.finish_journals(stream_end(results));
    return results;
  }

  bool stored_any() const { return request_.keep == "all" && !steps_.empty(); }

 private:
  std::string shared_state() const { return request_.shared.empty() ? request_.task : request_.shared; }

  /// Goes on from the last step that this run has stored.
  void resume() {
    if (!request_.resume) return;
    const std::vector<StoredStep> stored = stored_steps(folder_.id(), directory_, request_.task);
    if (stored.empty()) return folder_.note("no step is stored to resume from: starting afresh");
    for (const StoredStep& step : stored) {
      steps_.push_back(step.entry);
      versions_.push_back(step.version);
    }
    std::vector<Point> points;
    for (const nlohmann::json& step : steps_) points.push_back(stream_point(step));
    folder_.resume_journals(points);
    const auto record = directory_.store().load(request_.task, versions_.back());
    if (!record) fail(Code::kNotFound, "[stream] version {} of '{}' was removed", versions_.back(), request_.task);
    numbers_ = record->numbers;
    counts_ = count_numbers(Model(directory_.backbone(), plan_.composition, numbers_));
    folder_.note(fmt::format("{} steps are stored: going on from there", stored.size()));
  }

  void commit(const ClassIncremental& setting, const StepOutcome& outcome) {
    TaskRecord record;
    record.name = request_.task;
    record.fingerprint = directory_.fingerprint();
    record.plugs = plan_.recipe.plugs;
    record.labels.assign(setting.labels.begin(), setting.labels.begin() + outcome.figures.classes);
    record.numbers = numbers_.only(Scope::kTask).clone();
    record.recipe = describe_recipe(plan_.recipe);
    record.recipe["image_size"] = plan_.image_size;
    record.recipe["seed"] = request_.seed;
    record.data = describe_splits(*source_.images().dataset);
    const auto short_figures = [&](const Evaluation& evaluation) {
      nlohmann::json out = figures(evaluation, record.labels);
      out.erase("confusion");
      return out;
    };
    record.metrics = {{"task", request_.task},
                      {"recipe", plan_.recipe.name},
                      {"run", folder_.path().string()},
                      {"run_id", folder_.id()},
                      {"seed", request_.seed},
                      {"step", steps_.back()},
                      {"validation", short_figures(outcome.learned.validation)},
                      {"test", short_figures(outcome.test)}};
    record.metrics.update(counts_);
    const Numbers shared = numbers_.only(Scope::kShared).clone();
    const auto store = directory_.store_to_write();
    const bool shares = !shared.plugs().empty();
    versions_.push_back(store->commit(record, shares ? &shared : nullptr, shares ? shared_state() : "",
                                      fmt::format("{} {}", folder_.id(), steps_.size())));
  }

  std::vector<StepFigures> measured() const {
    std::vector<StepFigures> figures;
    for (const nlohmann::json& step : steps_) figures.push_back(step_of_json(step));
    return figures;
  }

  void write_figures() const {
    const std::vector<StepFigures> steps = measured();
    write_file_atomically(folder_.path() / "metrics.csv", metrics_csv(steps_));
    write_file_atomically(folder_.path() / "accuracy_matrix.csv", accuracy_matrix_csv(steps));
    const std::string title = fmt::format("{}: {}", request_.task, plug_text(plan_.composition->head().spec));
    write_file_atomically(folder_.path() / "accuracy_matrix.svg", accuracy_matrix_svg(steps, printable(title, 200)));
  }

  nlohmann::json make_results(const ClassIncremental& setting) const {
    const std::vector<StepFigures> steps = measured();
    const StreamFigures figures = stream_figures(steps);
    nlohmann::json matrix = nlohmann::json::array(), curve = nlohmann::json::array(), formulas, plugs, entries = steps_;
    double seconds = 0;
    for (std::size_t s = 0; s < steps.size(); ++s) {
      matrix.push_back(steps[s].groups);
      curve.push_back(steps[s].top1);
      entries[s]["version"] = s < versions_.size() ? nlohmann::json(versions_[s]) : nlohmann::json();
      seconds += steps_[s]["seconds"].get<double>();
    }
    if (request_.keep == "last" && !versions_.empty())
      for (std::size_t s = 0; s < steps.size(); ++s)
        entries[s]["version"] = s + 1 == steps.size() ? nlohmann::json(versions_.back()) : nlohmann::json();
    for (const auto& [name, formula] : stream_formulas()) formulas[name] = formula;
    for (const PlugSpec& plug : plan_.recipe.plugs) plugs.push_back(plug_text(plug));
    const StreamOptions& stream = request_.stream;
    nlohmann::json results = {{"schema", kStreamSchema},
                              {"task", request_.task},
                              {"recipe", plan_.recipe.name},
                              {"plugs", plugs},
                              {"labels", setting.labels},
                              {"classes", setting.labels.size()},
                              {"images",
                               {{"train", setting.train.columns.size()},
                                {"validation", setting.validation.columns.size()},
                                {"test", setting.test.columns.size()}}},
                              {"stream",
                               {{"kind", name(stream.kind)},
                                {"share", stream.share},
                                {"base", setting.stream.steps.front().classes},
                                {"increment", stream.increment},
                                {"class_seed", stream.class_seed},
                                {"steps", setting.stream.steps.size()},
                                {"unlabelled", request_.unlabelled}}},
                              {"steps", entries},
                              {"matrix", matrix},
                              {"top1", curve},
                              {"average", figures.average},
                              {"last", figures.last},
                              {"forgetting", or_null(figures.forgetting)},
                              {"backward_transfer", or_null(figures.backward_transfer)},
                              {"forward_transfer", or_null(figures.forward_transfer)},
                              {"formulas", formulas},
                              {"features", source_.features()},
                              {"bad_images", source_.images().bad},
                              {"duplicates", source_.images().duplicates},
                              {"seed", request_.seed},
                              {"split_seed", request_.split_seed},
                              {"image_size", plan_.image_size},
                              {"fingerprint", directory_.fingerprint()},
                              {"run", folder_.path().string()},
                              {"run_id", folder_.id()}};
    results.update(counts_);
    results.update(provenance(request_.command, seconds));
    return results;
  }

  const StreamRequest& request_;
  const LearnPlan& plan_;
  const ModelDirectory& directory_;
  RunFolder& folder_;
  StepListener listener_;
  Setting source_;
  std::vector<nlohmann::json> steps_;
  std::vector<std::int64_t> versions_;
  Numbers numbers_;
  nlohmann::json counts_ = nlohmann::json::object();
};

/// Whether the folder holds a stream that is complete. Throws kAlreadyExists where something is in the way.
bool is_finished(const StreamRequest& request, const RunFolder& folder, const Settings& settings) {
  if (!folder.exists()) return false;
  if (!request.resume) {
    if (!request.force && !(fs::is_directory(folder.path()) && fs::is_empty(folder.path())))
      fail(Code::kAlreadyExists,
           "[stream] {} exists: --resume goes on with it, --force replaces it, or choose another --out",
           folder.path().string());
    return false;
  }
  if (!fs::is_directory(folder.path()) || !folder.is_run())
    fail(Code::kAlreadyExists, "[stream] {} is no run folder: choose another --out", folder.path().string());
  if (fs::exists(folder.config())) folder.require_same(settings);
  return fs::exists(folder.results());
}

nlohmann::json read_results(const RunFolder& folder) {
  try {
    return nlohmann::json::parse(read_file(folder.results(), std::uint64_t{64} << 20));
  } catch (const nlohmann::json::exception&) {
    fail(Code::kDataCorruption, "[stream] {} is damaged: remove it, and --resume writes it again",
         folder.results().string());
  }
}

}  // namespace

StreamReport stream_task(const StreamRequest& request) {
  check(request);
  const ModelDirectory directory = open_directory(request);
  if (request.keep != "none" && ::access(request.directory.c_str(), W_OK) != 0)
    fail(Code::kUnavailable, "[stream] {} cannot be written to, so the task could not be stored there",
         request.directory.string());
  const LearnPlan plan = plan_stream(request, directory);
  check_stream(*plan.composition, request.stream.kind);
  const Settings settings = settings_of(request, plan);
  RunFolder folder(folder_of_versions(request, directory, "-stream"), request.listener);
  if (is_finished(request, folder, settings)) {
    if (request.listener)
      request.listener->note("the stream in " + folder.path().string() + " is complete: nothing to do");
    return {read_results(folder), true};
  }
  StreamRun run(request, plan, directory, folder);  // looks at the data: nothing is written before
  if (folder.exists() && request.force && !request.resume) folder.clear();
  folder.create(settings);
  folder.note(plan.recipe.text());
  try {
    folder.open_journals(request, "stream", settings);
    return {run.run(), false};
  } catch (const Error& error) {
    folder.stop_journals(run.stored_any());
    const bool stopped = request.stop && *request.stop && error.code() == Code::kCancelled;
    if (run.stored_any() && stopped)
      fail(Code::kCancelled, "{}; --resume goes on from the last step that is stored, in {}", error.what(),
           folder.path().string());
    if (!run.stored_any()) folder.discard();
    throw;
  } catch (...) {
    folder.stop_journals(run.stored_any());
    if (!run.stored_any()) folder.discard();
    throw;
  }
}

std::string stream_settings_yaml(const StreamRequest& request) {
  if (request.directory.empty())
    fail(Code::kInvalidArgument, "[stream] no model directory given: which plug-ins fit depends on it");
  const ModelDirectory directory = open_directory(request);
  return settings_yaml(settings_of(request, plan_stream(request, directory)));
}

}  // namespace recast
