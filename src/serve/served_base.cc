#include "served_base.h"

#include "recast/base/error.h"

namespace recast {
namespace {

constexpr std::int64_t kNameBytes = 32 << 20;  // of names that are known: some 50,000

std::string directory_name(const std::filesystem::path& path) {
  const auto whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

std::string text(const TaskReference& task) {
  return task.name + ":" + (task.tag.empty() ? std::to_string(task.version) : task.tag);
}

std::string task_key(const Resolved& resolved) { return resolved.digest + ":" + std::to_string(resolved.version); }

}  // namespace

ServedBase::ServedBase(const std::filesystem::path& path, const std::string& store, at::Device device,
                       const Limits& limits)
    : directory_(ModelDirectory::open(path, /*read_only=*/true, device, store, Verify::kAsRead)),
      name_(directory_name(path)),
      grace_(limits.store_grace),
      reach_(name_),
      names_(kNameBytes),
      tasks_(limits.task_bytes),
      weights_(limits.weight_bytes) {}

std::int64_t ServedBase::changes() const try {
  const std::int64_t changes = directory_.store().changes();
  reach_.found();
  return changes;
} catch (const Error& error) {
  if (error.code() == Code::kUnavailable) reach_.lost(error.what());
  throw;
}

void ServedBase::look_at_store() const noexcept {
  try {
    changes();
  } catch (const std::exception&) {  // told to the log, and to whoever asks for a task
  }
}

bool ServedBase::has_store() const {
  const auto lost_for = reach_.lost_for();
  return lost_for == lost_for.zero() || lost_for < grace_;
}

std::optional<Resolved> ServedBase::resolve(const TaskReference& task) const {
  if (unloaded(task.name)) return {};
  const std::string key = text(task);
  const auto known = names_.find(key);
  try {
    return resolve(task, key, known.get());
  } catch (const Error& error) {
    const bool away = error.code() == Code::kUnavailable && reach_.lost_for() > reach_.lost_for().zero();
    if (!away || !has_store() || !known || !known->resolved) throw;
    return known->resolved;
  }
}

std::optional<Resolved> ServedBase::resolve(const TaskReference& task, const std::string& key,
                                            const KnownName* known) const {
  const std::int64_t changes = this->changes();  // before resolving: what comes between the two is seen next time
  if (known && known->changes == changes) return known->resolved;
  std::optional<Resolved> resolved = directory_.store().resolve(task.name, task.version, task.tag);
  if (resolved && resolved->removed) resolved.reset();
  if (known) names_.erase(key);
  const auto bytes = static_cast<std::int64_t>(sizeof(KnownName) + 2 * key.size() + 256);
  names_.keep(key, std::make_shared<const KnownName>(KnownName{changes, resolved}), bytes);
  return resolved;
}

std::shared_ptr<const ServedTask> ServedBase::find(const Resolved& task) const {
  const std::string key = task_key(task);
  if (auto kept = tasks_.find(key)) return kept;
  std::optional<TaskRecord> record = directory_.store().load(task);
  if (!record) return nullptr;
  record->version = task.version;
  Model model = directory_.model(*record);
  Preprocessing preprocessing = directory_.preprocessing(*record);
  auto made = make_served_task(name_, {std::move(*record), std::move(model), std::move(preprocessing)}, task.digest);
  return tasks_.keep(key, made, made->bytes);
}

void ServedBase::unload(const std::string& task) {
  const std::optional<Resolved> now = resolve({task});
  {
    const std::unique_lock lock(unloaded_mutex_);
    unloaded_.insert(task);
  }
  if (!now) return;
  tasks_.erase(task_key(*now));
  weights_.erase(now->digest);
}

void ServedBase::load(const std::string& task) {
  const std::unique_lock lock(unloaded_mutex_);
  unloaded_.erase(task);
}

bool ServedBase::unloaded(const std::string& task) const {
  const std::shared_lock lock(unloaded_mutex_);
  return unloaded_.contains(task);
}

}  // namespace recast
