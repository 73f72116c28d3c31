#include "store_view.h"

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "store_errors.h"

namespace recast {
namespace {

void add_numbers(Numbers& numbers, const Numbers& more, Scope scope) {
  for (const auto& [plug, scopes] : more.plugs()) {
    if (const State& state = more.at(plug, scope); !state.empty()) numbers.at(plug, scope) = state;
  }
}

}  // namespace

// ---- which version ----

/// Of a task that there is.
std::int64_t StoreView::require_newest(std::string_view name) const {
  const std::int64_t version = tasks_.proven_newest(name);
  if (version == 0) fail_damaged_store(shown_, "a task without versions");
  return version;
}

/// Versions count from 1 without a gap, so none is missing below the newest.
std::optional<VersionRow> StoreView::version(std::string_view name, std::int64_t version) const {
  auto row = tasks_.version(name, version);
  if (!row && version >= 1 && version <= tasks_.proven_newest(name))
    fail_damaged_store(shown_, "a version that is missing");
  return row;
}

std::optional<SharedVersion> StoreView::follows(const VersionRow& row, bool newest) const {
  std::optional<SharedVersion> follows = row.follows;
  if (follows && newest) follows->version = shared_.newest(follows->name);
  return follows;
}

void StoreView::require_same_backbone(const std::string& what, const std::string& name,
                                      const std::string& fingerprint) const {
  require_backbone(fingerprint_, what, name, fingerprint);
}

void StoreView::not_found(std::string_view name) const {
  if (const auto other = tasks_.other_backbone(name)) require_same_backbone("the task", std::string(name), *other);
  const std::vector<std::string> names = tasks_.visible_names();
  const std::string near = nearest(name, names);
  fail(Code::kNotFound, "[store] no task '{}'{}", printable(name),
       !near.empty()   ? ", did you mean '" + near + "'?"
       : names.empty() ? ": there is none yet; 'recast learn' makes one"
                       : ": 'recast tasks DIR list' shows those that there are");
}

// ---- reading ----

/// `follows`: the version of the shared numbers in the result.
TaskRecord StoreView::read(std::string_view name, const VersionRow& row,
                           const std::optional<SharedVersion>& follows) const {
  require_same_backbone("the task", std::string(name), row.fingerprint);
  TaskRecord task = states_.read(row.state);
  if (task.name != name || task.fingerprint != row.fingerprint) {
    fail(Code::kDataCorruption, "[store] {}: version {} of '{}' holds the state of '{}'; restore the store from a copy",
         shown_, row.version, printable(name), task.name);
  }
  task.version = row.version;
  task.parent = row.parent;
  task.created_utc = row.created_utc;
  task.follows = follows;
  if (follows) add_numbers(task.numbers, numbers_of(*follows), Scope::kShared);
  return task;
}

/// Of a version that a task follows, or of the newest: it must be there.
std::int64_t StoreView::shared_state(const SharedVersion& version) const {
  const auto row = shared_.find(version);
  if (!row) fail_damaged_store(shown_, "a version of a shared state that is missing");
  return row->state;
}

Numbers StoreView::numbers_of(const SharedVersion& version) const {
  const TaskRecord record = states_.read(shared_state(version));
  require_same_backbone("the shared state", version.name, record.fingerprint);
  return record.numbers;
}

std::optional<TaskRecord> StoreView::load(std::string_view name, std::int64_t version) const {
  const bool newest = version == 0;
  if (newest) {
    if (tasks_.hidden(name).value_or(true)) return {};
    version = require_newest(name);
  }
  const auto row = this->version(name, version);
  if (!row) return {};
  return read(name, *row, follows(*row, newest));
}

std::optional<TaskRecord> StoreView::load(const Resolved& resolved) const {
  const auto row = tasks_.version(resolved.name, resolved.version);
  if (!row) return {};
  std::optional<std::int64_t> beside;
  if (resolved.follows) {
    const auto followed = shared_.find(*resolved.follows);
    if (!followed) return {};
    beside = followed->state;
  }
  if (digest(row->state, beside) != resolved.digest) return {};
  return read(resolved.name, *row, resolved.follows);
}

/// `beside`: the shared state at work.
std::string StoreView::digest(std::int64_t state, std::optional<std::int64_t> beside) const {
  const std::string own = states_.digest(state);
  return sha256_hex(own + "\n" + (beside ? states_.digest(*beside) : ""));
}

std::optional<Resolved> StoreView::resolve(std::string_view name, std::int64_t version, std::string_view tag) const {
  const auto hidden = tasks_.hidden(name);
  if (!hidden) return {};
  const bool newest = tag.empty() && version == 0;
  if (newest && *hidden) return {};
  if (newest) version = require_newest(name);
  if (!tag.empty()) {
    const auto named = tasks_.tagged(name, tag);
    if (!named) return {};
    version = *named;
  }
  const auto row = this->version(name, version);
  if (!row && !tag.empty()) fail_damaged_store(shown_, "a tag of a version that is not there");
  if (!row) return {};
  require_same_backbone("the task", std::string(name), row->fingerprint);
  const auto followed = follows(*row, newest);
  std::optional<std::int64_t> beside;
  if (followed) beside = shared_state(*followed);
  return Resolved{std::string(name), version, followed, *hidden, digest(row->state, beside)};
}

std::vector<TaskSummary> StoreView::log(std::string_view name) const {
  std::vector<TaskSummary> versions = tasks_.all_of(name);
  if (versions.empty()) not_found(name);
  return versions;
}

std::optional<Numbers> StoreView::shared_numbers(const std::string& name) const {
  const std::int64_t version = shared_.newest(name);
  if (version == 0) return {};
  return numbers_of({name, version});
}

}  // namespace recast
