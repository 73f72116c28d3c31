#include "checkpoint.h"

#include <ATen/Parallel.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "recast/base/log.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/tensor_file.h"
#include "recast/method/numbers_file.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

constexpr Scope kScopes[] = {Scope::kTask, Scope::kShared, Scope::kClient, Scope::kLive, Scope::kRun};

/// JSON has no NaN and no infinity: both are written as null.
double real(const json& j) { return j.is_null() ? std::numeric_limits<double>::quiet_NaN() : j.get<double>(); }

json to_json(const Phase& p) {
  return {{"name", p.name},     {"source", p.source}, {"params", p.params}, {"taps", p.taps},
          {"trains", p.trains}, {"epochs", p.epochs}, {"rate", p.rate}};
}
Phase phase_from(const json& j) {
  return {j.at("name"), j.at("source"), j.at("params"), j.at("taps"), j.at("trains"), j.at("epochs"), j.at("rate")};
}

json to_json(const Evaluation& e) {
  return {{"top1", e.top1}, {"top5", e.top5},           {"loss", e.loss},
          {"rows", e.rows}, {"per_class", e.per_class}, {"confusion", e.confusion}};
}
Evaluation evaluation_from(const json& j) {
  Evaluation e;
  e.top1 = j.at("top1"), e.top5 = j.at("top5"), e.loss = real(j.at("loss")), e.rows = j.at("rows");
  j.at("per_class").get_to(e.per_class);
  j.at("confusion").get_to(e.confusion);
  return e;
}

json to_json(const EpochMetrics& m) {
  return {{"stage", m.stage},
          {"epoch", m.epoch},
          {"train_loss", m.train_loss},
          {"validation_loss", m.validation_loss},
          {"validation_top1", m.validation_top1},
          {"rate", m.rate},
          {"seconds", m.seconds},
          {"skipped", m.skipped_steps}};
}
EpochMetrics metrics_from(const json& j) {
  EpochMetrics m;
  m.stage = j.at("stage"), m.epoch = j.at("epoch"), m.train_loss = real(j.at("train_loss"));
  m.validation_loss = real(j.at("validation_loss")), m.validation_top1 = j.at("validation_top1");
  m.rate = j.at("rate"), m.seconds = j.at("seconds"), m.skipped_steps = j.at("skipped");
  return m;
}

/// What must agree for a checkpoint to be gone on from.
json identity(const std::string& task, const std::vector<std::string>& labels, const Recipe& recipe,
              const Budget& budget, const Composition& plugs, const Sources& sources) {
  std::vector<std::string> texts;
  for (const PlugSpec& spec : plugs.specs()) texts.push_back(plug_text(spec));
  return {{"task", task},
          {"labels", labels},
          {"recipe", recipe.text()},
          {"seed", budget.seed},
          {"data", budget.data},
          {"plugs", texts},
          {"train_rows", sources.train->rows()},
          {"validation_rows", sources.validation->rows()}};
}

/// Of everything in the file but this digest itself.
std::string digest_of(const TensorFile& file) {
  Sha256 digest;
  digest.update(file.metadata.at("recast"));
  for (const auto& [name, tensor] : file.tensors) {
    digest.update(
        fmt::format("\n{}\n{}\n{}\n", name, static_cast<int>(tensor.scalar_type()), fmt::join(tensor.sizes(), ",")));
    const at::Tensor dense = tensor.detach().cpu().contiguous();
    digest.update({static_cast<const char*>(dense.const_data_ptr()), dense.nbytes()});
  }
  return digest.finish_hex();
}

TensorFile read_whole(const fs::path& path) {
  TensorFile file = read_tensor_file(path);
  const auto digest = file.metadata.find("sha256");
  if (!file.metadata.count("recast") || digest == file.metadata.end())
    fail(Code::kDataCorruption, "[resume] {}: no checkpoint of this recast", path.string());
  if (const std::string found = digest_of(file); found != digest->second)
    fail(Code::kDataCorruption, "[resume] {}: damaged: SHA-256 is {}, {} was written", path.string(), found,
         printable(digest->second, 64));
  return file;
}

/// The newest checkpoint that is whole, and its place; nothing if there is none at all.
struct Found {
  TensorFile file;
  fs::path path;
};
std::optional<Found> find_whole(const fs::path& newest, Listener* listener) {
  std::string damage;
  for (const fs::path& path : {newest, previous_checkpoint(newest)}) {
    if (!fs::exists(path)) continue;
    try {
      return Found{read_whole(path), path};
    } catch (const Error& error) {
      if (error.code() == Code::kUnavailable) throw;
      damage = error.what();
      if (listener) listener->note(damage + "; trying the checkpoint before it");
    }
  }
  if (damage.empty()) return {};
  fail(Code::kDataCorruption, "{}; no other checkpoint is whole: --force instead of --resume starts afresh", damage);
}

/// What rank 0 finds, on every rank.
std::optional<Found> find_together(const fs::path& newest, Ranks& ranks, Listener* listener) {
  std::optional<Found> found;
  if (ranks.first() && !newest.empty()) found = find_whole(newest, listener);
  if (ranks.alone()) return found;
  const std::string bytes = ranks.broadcast(found ? encode_tensor_file(found->file) : "");
  if (ranks.first() || bytes.empty()) return found;
  return Found{decode_tensor_file(bytes, "rank 0's checkpoint"), "rank 0's checkpoint"};
}

}  // namespace

void pack_all(const Numbers& numbers, const std::string& prefix, TensorFile& file) {
  for (const Scope scope : kScopes) pack_numbers(numbers, scope, fmt::format("{}/{}/", prefix, name(scope)), file);
}
Numbers unpack_all(const TensorFile& file, const std::string& prefix) {
  Numbers numbers;
  for (const Scope scope : kScopes) unpack_numbers(file, scope, fmt::format("{}/{}/", prefix, name(scope)), numbers);
  return numbers;
}

fs::path previous_checkpoint(const fs::path& newest) { return newest.parent_path() / "previous.safetensors"; }

void LearnerCheckpoint::save(const Learner& learner, const fs::path& path) {
  TensorFile file;
  pack_all(learner.model_.numbers(), "now", file);
  json candidates = json::array();
  for (const Candidate& candidate : learner.candidates_) {
    candidates.push_back(
        {{"stage", candidate.stage}, {"epoch", candidate.epoch}, {"validation", to_json(candidate.validation)}});
    pack_all(candidate.numbers, "candidate." + candidate.stage, file);
  }
  json history = json::array();
  for (const EpochMetrics& metrics : learner.history_) history.push_back(to_json(metrics));
  for (const auto& [name, rows] : learner.frozen_) file.tensors["frozen/" + name] = rows;
  const Counters& at = learner.counters_;
  const json phase =
      learner.current_ ? json{{"plug", learner.current_->plug}, {"phase", to_json(learner.current_->phase)}} : json();
  const json state = {{"place", static_cast<int>(learner.place_)},
                      {"current", phase},
                      {"format", "recast-checkpoint"},
                      {"format_version", 2},
                      {"threads", at::get_num_threads()},
                      {"seconds", learner.seconds()},
                      {"identity", identity(learner.task_.name, learner.task_.labels, learner.settings_,
                                            learner.budget_, learner.recipe(), learner.sources_)},
                      {"step", at.step},
                      {"epoch", at.epoch},
                      {"phase", at.phase},
                      {"steps_in_epoch", learner.steps_in_epoch_},
                      {"loss_sum", learner.sums_.loss},
                      {"sum_steps", learner.sums_.steps},
                      {"sum_skipped", learner.sums_.skipped},
                      {"born", learner.born_},
                      {"cursors", learner.cursors_},
                      {"candidates", candidates},
                      {"history", history}};
  file.metadata["recast"] = state.dump();
  file.metadata["sha256"] = digest_of(file);
  std::error_code none_yet;
  fs::rename(path, previous_checkpoint(path), none_yet);  // made durable with the new file's own entry
  write_tensor_file(path, file);
  read_whole(path);
}

bool LearnerCheckpoint::load(Learner& learner, const fs::path& newest) {
  const std::optional<Found> found = find_together(newest, learner.ranks_, learner.budget_.listener);
  if (!found) return false;
  const auto& [file, path] = *found;
  try {
    const json state = parse_json(file.metadata.at("recast"), path.string());
    if (const int version = state.at("format_version"); version != 2)
      fail(Code::kUnsupported, "[resume] {}: a checkpoint of format {}, this recast goes on from format 2 only",
           path.string(), version);
    const json expected = identity(learner.task_.name, learner.task_.labels, learner.settings_, learner.budget_,
                                   learner.recipe(), learner.sources_);
    for (const auto& [key, value] : expected.items())
      if (state.at("identity").value(key, json()) != value)
        fail(Code::kShapeMismatch,
             "[resume] {}: made with another {}: {} there, {} here; leave out --resume to start afresh", path.string(),
             key, state.at("identity").value(key, json()).dump(), value.dump());
    learner.model_.numbers() = unpack_all(file, "now");
    for (const json& candidate : state.at("candidates")) {
      const std::string stage = candidate.at("stage");
      learner.candidates_.push_back({stage, unpack_all(file, "candidate." + stage),
                                     evaluation_from(candidate.at("validation")), candidate.at("epoch")});
    }
    for (const json& metrics : state.at("history")) learner.history_.push_back(metrics_from(metrics));
    for (const auto& [name, tensor] : file.tensors)
      if (name.starts_with("frozen/")) learner.frozen_[name.substr(7)] = tensor;
    const int place = state.at("place");
    if (place < 0 || place > static_cast<int>(Learner::Place::kAfter))
      fail(Code::kDataCorruption, "[resume] {}: damaged checkpoint: place {}", path.string(), place);
    learner.place_ = static_cast<Learner::Place>(place);
    if (const json& current = state.at("current"); !current.is_null())
      learner.current_ = {current.at("plug"), phase_from(current.at("phase"))};
    learner.counters_.step = state.at("step");
    learner.counters_.epoch = state.at("epoch");
    learner.counters_.phase = state.at("phase");
    learner.steps_in_epoch_ = state.at("steps_in_epoch");
    learner.sums_ = {real(state.at("loss_sum")), state.at("sum_steps"), state.at("sum_skipped")};
    learner.seconds_before_ = state.at("seconds");
    if (const int threads = state.at("threads"); threads != at::get_num_threads())
      learner.note(
          fmt::format("the run was started with {} threads and goes on with {}: its last digits may differ "
                      "from those of an uninterrupted one",
                      threads, at::get_num_threads()));
    state.at("born").get_to(learner.born_);
    state.at("cursors").get_to(learner.cursors_);
  } catch (const json::exception& error) {
    fail(Code::kDataCorruption, "[resume] {}: damaged checkpoint: {}", path.string(), error.what());
  }
  learner.refresh_params();
  return true;
}

void Learner::save_checkpoint() const {
  if (budget_.checkpoint.empty() || !ranks_.first()) return;
  const Stopwatch watch;
  LearnerCheckpoint::save(*this, budget_.checkpoint);
  log_event(LogLevel::kInfo, "checkpoint.saved",
            {{"path", budget_.checkpoint.native()}, {"step", counters_.step}, {"ms", watch.ms()}});
}
bool Learner::load_checkpoint() {
  const Stopwatch watch;
  const bool found = (!alone() || !budget_.checkpoint.empty()) && LearnerCheckpoint::load(*this, budget_.checkpoint);
  note(found ? fmt::format("resumed at epoch {}, step {}", counters_.epoch, counters_.step)
             : "nothing to resume from: starting afresh");
  if (found)
    log_event(LogLevel::kInfo, "checkpoint.loaded",
              {{"path", budget_.checkpoint.native()}, {"step", counters_.step}, {"ms", watch.ms()}});
  if (found && budget_.listener) budget_.listener->resumed(history_);
  return found;
}

}  // namespace recast
