#include "row_store.h"

#include "recast/base/error.h"
#include "recast/base/log.h"

namespace recast {

template <class Work>
auto RowStore::read(const Work& work) const try {
  std::optional<decltype(work(std::declval<const StoreView&>()))> result;
  look([&](const StoreView& view) { result.emplace(work(view)); });
  return std::move(*result);
} catch (...) {
  rethrow_as_error(shown_);
}

void RowStore::require_writable() const {
  if (read_only_) {
    fail(Code::kUnavailable, "[store] {}: was opened for reading only; open it for writing", shown_);
  }
}

template <class Work>
std::int64_t RowStore::make(const Intent& intent, const Work& work) try {
  require_writable();
  return change(intent, work);
} catch (...) {
  rethrow_as_error(shown_);
}

void RowStore::purged(std::string_view) noexcept {}

std::int64_t RowStore::commit(const TaskRecord& task, const Numbers* shared, const std::string& shared_name,
                              const std::string& request) try {
  require_writable();
  check_task_name(task.name);
  require_backbone(fingerprint_, "the task", task.name, task.fingerprint);
  const Stopwatch watch;
  TaskToCommit commit{task, {}, shared_name.empty() && task.follows ? task.follows->name : shared_name, {}};
  if (shared != nullptr || !commit.followed.empty()) check_task_name(commit.followed);
  commit.packed = pack_task(task);
  if (shared != nullptr) commit.packed_shared = pack_shared(task, *shared, commit.followed);
  const std::int64_t version =
      make({.verb = "commit", .name = task.name, .bytes = commit.bytes(), .request = request},
           [&](StoreEdit& edit) { return edit.commit(commit); });
  log_event(LogLevel::kInfo, "task.saved",
            {{"task", task.name}, {"version", version}, {"bytes", commit.packed.stored_bytes()}, {"ms", watch.ms()}});
  return version;
} catch (...) {
  rethrow_as_error(shown_);
}

std::optional<TaskRecord> RowStore::load(std::string_view name, std::int64_t version) const {
  auto task = read([&](const StoreView& view) { return view.load(name, version); });
  if (task) log_event(LogLevel::kDebug, "task.loaded", {{"task", name}, {"version", task->version}});
  return task;
}

std::optional<TaskRecord> RowStore::load(const Resolved& resolved) const {
  auto task = read([&](const StoreView& view) { return view.load(resolved); });
  if (task) log_event(LogLevel::kDebug, "task.loaded", {{"task", task->name}, {"version", task->version}});
  return task;
}

std::optional<Resolved> RowStore::resolve(std::string_view name, std::int64_t version, std::string_view tag) const {
  return read([&](const StoreView& view) { return view.resolve(name, version, tag); });
}

std::vector<TaskName> RowStore::names_after(std::string_view name, std::int64_t limit) const {
  if (limit < 1) fail(Code::kInvalidArgument, "[store] a page of {} names; expected at least 1", limit);
  return read([&](const StoreView& view) { return view.tasks().visible_after(name, limit); });
}

std::vector<TaskSummary> RowStore::list(bool with_removed) const {
  return read([&](const StoreView& view) { return view.tasks().newest_of_each(with_removed); });
}

std::vector<TaskSummary> RowStore::list_of(const std::vector<std::string>& names) const {
  constexpr std::size_t kMostNames = 1'000;
  if (names.size() > kMostNames)
    fail(Code::kInvalidArgument, "[store] {} names; expected at most {}", names.size(), kMostNames);
  if (names.empty()) return {};
  return read([&](const StoreView& view) { return view.tasks().newest_of(names); });
}

std::vector<TaskSummary> RowStore::log(std::string_view name) const {
  return read([&](const StoreView& view) { return view.log(name); });
}

void RowStore::remove(std::string_view name) {
  make({"remove", name}, [&](StoreEdit& edit) {
    edit.remove(name);
    return 0;
  });
  log_event(LogLevel::kInfo, "task.removed", {{"task", name}});
}

void RowStore::purge(std::string_view name) {
  make({.verb = "purge", .name = name, .erases = true}, [&](StoreEdit& edit) {
    edit.purge(name);
    return 0;
  });
  log_event(LogLevel::kInfo, "task.purged", {{"task", name}});
  purged(name);
}

std::int64_t RowStore::tag(std::string_view name, std::int64_t version, std::string_view tag, bool move) {
  require_writable();
  check_tag(tag);
  return make({"tag", name}, [&](StoreEdit& edit) { return edit.tag(name, version, tag, move); });
}

void RowStore::untag(std::string_view name, std::string_view tag) {
  make({"untag", name}, [&](StoreEdit& edit) {
    edit.untag(name, tag);
    return 0;
  });
}

std::optional<std::int64_t> RowStore::tagged(std::string_view name, std::string_view tag) const {
  return read([&](const StoreView& view) { return view.tasks().tagged(name, tag); });
}

std::int64_t RowStore::rollback(std::string_view name, std::int64_t version) {
  const std::int64_t next = make({"rollback", name}, [&](StoreEdit& edit) { return edit.rollback(name, version); });
  log_event(LogLevel::kInfo, "task.rolled_back", {{"task", name}, {"version", next}, {"copy_of", version}});
  return next;
}

std::int64_t RowStore::rollback_shared(const std::string& name, std::int64_t version) {
  return make({"rollback_shared", name}, [&](StoreEdit& edit) { return edit.rollback_shared(name, version); });
}

std::optional<Numbers> RowStore::shared(const std::string& name) const {
  return read([&](const StoreView& view) { return view.shared_numbers(name); });
}

std::int64_t RowStore::collect_garbage() {
  return make({.verb = "gc", .name = {}, .erases = true}, [](StoreEdit& edit) { return edit.sweep(); });
}

}  // namespace recast
