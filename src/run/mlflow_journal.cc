// MLflow's file store (mlflow/store/tracking/file_store.py, as of MLflow 3.17): STORE/EXPERIMENT/RUN with meta.yaml and
// a file for each metric (lines "milliseconds value step"), parameter and tag.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <cctype>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>

#include "journal.h"
#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

enum class Status { kRunning = 1, kFinished = 3, kFailed = 4, kKilled = 5 };

constexpr std::uint64_t kMostMetaBytes = 1 << 20;
constexpr std::size_t kMostParameterBytes = 6000;  // longer ones MLflow refuses, or cuts
constexpr const char* kTrash = ".trash";

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(Code::kUnavailable, "[mlflow] {}: cannot be created: {}", printable_path(folder), error.message());
}

/// Not by a temporary name, which readers would take for another entry.
void put(const fs::path& file, const std::string& text, bool append = false) {
  make_folder(file.parent_path());
  std::ofstream out(file, std::ios::binary | (append ? std::ios::app : std::ios::trunc));
  out << text;
  if (!out.flush()) fail(Code::kUnavailable, "[mlflow] {}: cannot be written to", printable_path(file));
}

/// A value of YAML, as JSON writes it.
std::string yaml(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

using Meta = std::map<std::string, nlohmann::json>;

void write_meta(const fs::path& folder, const Meta& meta) {
  std::string text;
  for (const auto& [key, value] : meta) text += key + ": " + yaml(value) + "\n";
  write_file_atomically(folder / "meta.yaml", text);
}

/// One field of a meta.yaml; nothing where there is no such file, or none that can be read.
std::optional<std::string> meta_field(const fs::path& folder, const char* key) {
  try {
    const YAML::Node meta = YAML::Load(read_file(folder / "meta.yaml", kMostMetaBytes));
    if (meta.IsMap() && meta[key] && meta[key].IsScalar()) return meta[key].Scalar();
  } catch (const Error&) {
  } catch (const YAML::Exception&) {
  }
  return {};
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored))
    if (entry.is_directory(ignored) && entry.path().filename() != kTrash) found.push_back(entry.path());
  return found;
}

std::string file_uri(const fs::path& path) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
  std::string uri = "file://";
  for (const char c : path.string())
    uri += kPlain.find(c) != kPlain.npos ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return uri;
}

std::string without_escapes(const std::string& uri_path) {
  std::string path;
  for (std::size_t i = 0; i < uri_path.size(); ++i) {
    const std::string hex = uri_path.substr(i + 1, 2);
    const bool escaped = uri_path[i] == '%' && hex.size() == 2 && std::isxdigit(static_cast<unsigned char>(hex[0])) &&
                         std::isxdigit(static_cast<unsigned char>(hex[1]));
    path += escaped ? static_cast<char>(std::stoi(hex, nullptr, 16)) : uri_path[i];
    if (escaped) i += 2;
  }
  return path;
}

void add_experiment(const fs::path& store, const std::string& id, const std::string& name) {
  const std::int64_t now = now_ms();
  make_folder(store / id);
  write_meta(store / id, {{"artifact_location", file_uri(store / id)},
                          {"creation_time", now},
                          {"experiment_id", id},
                          {"last_update_time", now},
                          {"lifecycle_stage", "active"},
                          {"name", name}});
}

/// The id of the experiment of this name, which is made where there is none.
std::string find_experiment(const fs::path& store, const std::string& name) {
  for (const fs::path& folder : folders_in(store))
    if (meta_field(folder, "name") == name && meta_field(folder, "lifecycle_stage") == "active")
      return folder.filename().string();
  for (const fs::path& folder : folders_in(store / kTrash))
    if (meta_field(folder, "name") == name)
      fail(Code::kAlreadyExists,
           "[mlflow] experiment '{}' was deleted and lies in {}: restore it, or name another in MLFLOW_EXPERIMENT_NAME",
           printable(name), printable_path(folder));
  // Of 18 digits, as MLflow's own, and the same for processes that make it at the same time.
  for (int attempt = 0;; ++attempt) {
    const std::string digest = sha256_hex(fmt::format("mlflow experiment {} {}", name, attempt));
    const std::string id = std::to_string(100'000'000'000'000'000 + std::stoull(digest.substr(0, 14), nullptr, 16));
    if (fs::exists(store / id)) continue;
    add_experiment(store, id, name);
    return id;
  }
}

class MlflowJournal final : public Journal {
 public:
  MlflowJournal(fs::path store, std::string experiment)
      : store_(std::move(store)), experiment_(std::move(experiment)) {}

  void begin(const RunFacts& facts) override {
    facts_ = facts;
    if (!fs::exists(store_)) {
      make_folder(store_);
      add_experiment(store_, "0", "Default");  // which its readers expect
    }
    make_folder(store_ / kTrash);
    const std::string run = sha256_hex("recast run " + facts.id).substr(0, 32);
    open_run(run);
    for (const char* part : {"metrics", "params", "tags", "artifacts"}) make_folder(folder_ / part);
    write_run(Status::kRunning);
    for (const auto& [key, values] : facts.settings)
      put(folder_ / "params" / key, fmt::format("{}", fmt::join(values, " ")).substr(0, kMostParameterBytes));
    tag("mlflow.runName", run_name());
    tag("mlflow.user", user());
    tag("mlflow.source.name", "recast " + facts.command);
    tag("mlflow.source.type", "LOCAL");
    for (const auto& [program, version] : facts.versions.items()) tag("version." + program, version.get<std::string>());
    tag("recast.run_id", facts.id);
    tag("recast.run_folder", facts.folder.string());
    take_earlier_lines();
  }

  void resumed(const std::vector<Point>& history) override {
    for (const Point& point : history) add(point);
  }

  void add(const Point& point) override {
    for (const Figure& figure : point.figures) add(figure, point.at);
  }

  void finish(const RunEnd& end) override {
    add(end.figures);
    tag("recast.task", facts_.task);
    if (end.version > 0) tag("recast.task_version", std::to_string(end.version));
    tag("recast.fingerprint", end.fingerprint);
    for (const char* file : {"config.yaml", "metrics.csv", "results.json"}) {
      std::error_code error;
      fs::copy_file(facts_.folder / file, folder_ / "artifacts" / file, fs::copy_options::overwrite_existing, error);
      if (error)
        fail(Code::kUnavailable, "[mlflow] {}: {}", printable_path(folder_ / "artifacts" / file), error.message());
    }
    write_run(Status::kFinished);
  }

  void stopped(bool resumable) override { write_run(resumable ? Status::kKilled : Status::kFailed); }

 private:
  /// Where an earlier sitting began it, under whatever experiment, or new.
  void open_run(const std::string& run) {
    run_ = run;
    for (const fs::path& experiment : folders_in(store_))
      if (fs::exists(experiment / run / "meta.yaml")) {
        folder_ = experiment / run;
        const auto start = meta_field(folder_, "start_time");
        start_ms_ =
            start && start->find_first_not_of("0123456789") == std::string::npos ? std::stoll(*start) : now_ms();
        return;
      }
    folder_ = store_ / find_experiment(store_, experiment_.empty() ? facts_.task : experiment_) / run;
    start_ms_ = now_ms();
  }

  /// Lines of an earlier sitting, each taken up again with its time when its point is told again.
  void take_earlier_lines() {
    std::error_code ignored;
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "metrics", ignored))
      if (entry.is_regular_file()) files.push_back(entry.path());
    for (const fs::path& file : files) {
      std::ifstream lines(file);
      for (std::string line; std::getline(lines, line);)
        earlier_[file.lexically_relative(folder_ / "metrics").string()].push_back(line);
      fs::remove(file, ignored);
    }
  }

  void add(const Figure& figure, std::int64_t step) {
    const std::string what = fmt::format(" {} {}", figure.value, step);
    std::string line = std::to_string(now_ms()) + what;
    auto& earlier = earlier_[figure.name];
    if (!earlier.empty()) {
      if (earlier.front().ends_with(what)) line = earlier.front();
      earlier.erase(earlier.begin());
    }
    put(folder_ / "metrics" / figure.name, line + "\n", /*append=*/true);
  }

  void tag(const std::string& key, const std::string& value) { put(folder_ / "tags" / key, value); }

  std::string run_name() const { return facts_.task + " " + facts_.folder.filename().string(); }

  static std::string user() {
    const char* name = std::getenv("USER");
    return name != nullptr ? name : "unknown";
  }

  void write_run(Status status) {
    const std::string experiment = folder_.parent_path().filename().string();
    write_meta(folder_, {{"artifact_uri", file_uri(folder_ / "artifacts")},
                         {"deleted_time", nullptr},
                         {"end_time", status == Status::kRunning ? nlohmann::json() : nlohmann::json(now_ms())},
                         {"entry_point_name", ""},
                         {"experiment_id", experiment},
                         {"lifecycle_stage", "active"},
                         {"run_id", run_},
                         {"run_name", run_name()},
                         {"run_uuid", run_},
                         {"source_name", ""},
                         {"source_type", 4},
                         {"source_version", ""},
                         {"start_time", start_ms_},
                         {"status", static_cast<int>(status)},
                         {"tags", nlohmann::json::array()},
                         {"user_id", user()}});
  }

  fs::path store_, folder_;
  std::string experiment_, run_;
  RunFacts facts_;
  std::int64_t start_ms_ = 0;
  std::map<std::string, std::vector<std::string>> earlier_;
};

}  // namespace

fs::path mlflow_folder(const std::string& tracking_uri) {
  const std::size_t colon = tracking_uri.find(':');
  const std::string scheme = tracking_uri.substr(0, colon == std::string::npos ? 0 : colon);
  const bool of_databricks = tracking_uri == "uc" || tracking_uri.starts_with("databricks");
  if (of_databricks || (!scheme.empty() && scheme != "file" && scheme.find('/') == std::string::npos))
    // Not the whole text, which may hold a password.
    fail(Code::kUnsupported,
         "[mlflow] MLFLOW_TRACKING_URI names a store of kind '{}', and only its file store is written to: set it to "
         "file:FOLDER, and move the runs with mlflow's own tools (mlflow migrate-filestore)",
         printable(of_databricks ? tracking_uri.substr(0, 32) : scheme));
  std::string path = tracking_uri.empty() ? "mlruns" : tracking_uri;
  if (scheme == "file") {
    path = without_escapes(tracking_uri.substr(colon + 1));
    if (path.starts_with("//")) {
      const std::size_t slash = path.find('/', 2);
      const std::string host = path.substr(2, slash == std::string::npos ? slash : slash - 2);
      if (!host.empty() && host != "localhost")
        fail(Code::kUnsupported,
             "[mlflow] MLFLOW_TRACKING_URI names files of another machine, '{}': mount them, and "
             "give the folder",
             printable(host));
      path = slash == std::string::npos ? "" : path.substr(slash);
    }
    if (path.empty()) fail(Code::kInvalidArgument, "[mlflow] MLFLOW_TRACKING_URI names no folder: file:FOLDER");
  }
  return fs::absolute(path).lexically_normal();
}

std::unique_ptr<Journal> mlflow_journal(const fs::path& store, const std::string& experiment) {
  return std::make_unique<MlflowJournal>(store, experiment);
}

}  // namespace recast
