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

ServedBase::ServedBase(const std::filesystem::path& path, at::Device device, std::int64_t task_bytes,
                       std::int64_t weight_bytes)
    : directory_(ModelDirectory::open(path, /*read_only=*/true, device, Verify::kAsRead)),
      name_(directory_name(path)),
      names_(kNameBytes),
      tasks_(task_bytes),
      weights_(weight_bytes) {}

std::optional<Resolved> ServedBase::resolve(const TaskReference& task) const {
  if (unloaded(task.name)) return {};
  const TaskStore& store = directory_.store();
  const std::int64_t changes = store.changes();  // before resolving: what comes between the two is seen next time
  const std::string key = text(task);
  const auto known = names_.find(key);
  if (known && known->changes == changes) return known->resolved;
  std::optional<Resolved> resolved = store.resolve(task.name, task.version, task.tag);
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
