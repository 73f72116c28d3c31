#include "store_edit.h"

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

// ---- checks ----

void StoreEdit::refuse_case_twin(const std::string& name) const {
  const auto twin = view_.tasks().case_twin(name);
  if (!twin) return;
  fail(Code::kAlreadyExists,
       "[store] '{}' differs from the task '{}' in upper and lower case only; choose another name", name, *twin);
}

/// 0: the newest.
VersionRow StoreEdit::require_version(std::string_view name, std::int64_t version) const {
  const std::int64_t last = view_.tasks().proven_newest(name);
  if (last == 0) view_.not_found(name);
  if (const auto row = view_.version(name, version == 0 ? last : version)) return *row;
  fail(Code::kNotFound, "[store] the task '{}' has no version {}; it has 1 to {}", printable(name), version, last);
}

/// `before`: the version, another one, that the tag names already.
void StoreEdit::refuse_other_tag(std::string_view name, std::string_view tag, std::optional<std::int64_t> before,
                                 bool move) const {
  if (before && !move) {
    fail(Code::kAlreadyExists, "[store] '{}:{}' names version {} already; remove the tag first, or move it by force",
         printable(name), tag, *before);
  }
  if (const auto twin = view_.tasks().tag_twin(name, tag)) {
    fail(Code::kAlreadyExists, "[store] '{}' differs from the tag '{}' of '{}' in upper and lower case only", tag,
         *twin, printable(name));
  }
}

// ---- tasks and the shared states that they follow ----

std::int64_t StoreEdit::commit(const TaskToCommit& commit) {
  const std::string& name = commit.task.name;
  refuse_case_twin(name);
  const std::int64_t version = view_.tasks().proven_newest(name) + 1;  // while all rows are sealed
  std::optional<SharedVersion> follows;
  if (commit.packed_shared) {
    follows = add_shared(commit.task, commit.followed, *commit.packed_shared);
  } else if (!commit.followed.empty()) {
    follows = follow(commit.followed);
  }
  view_.tasks().show(name);
  view_.tasks().insert(commit.task, version, follows,
                       {view_.states().write(commit.packed), commit.packed.stored_bytes()});
  return version;
}

SharedVersion StoreEdit::add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed) {
  const SharedVersion next{name, view_.shared().newest(name) + 1};
  view_.shared().insert(next, task.fingerprint, view_.states().write(packed));
  return next;
}

SharedVersion StoreEdit::follow(const std::string& name) const {
  const std::int64_t version = view_.shared().newest(name);
  if (version == 0)
    fail(Code::kNotFound, "[store] no shared state '{}' to follow; commit its numbers too", printable(name));
  return {name, version};
}

void StoreEdit::remove(std::string_view name) {
  if (!view_.tasks().hide(name, HiddenBy::kPerson)) view_.not_found(name);
}

void StoreEdit::purge(std::string_view name) {
  if (!view_.tasks().erase(name)) view_.not_found(name);
  view_.shared().erase_unfollowed();
  view_.states().erase_unnamed();
}

std::int64_t StoreEdit::tag(std::string_view name, std::int64_t version, std::string_view tag, bool move) {
  version = require_version(name, version).version;
  const auto before = view_.tasks().tagged(name, tag);
  if (before == version) return version;
  refuse_other_tag(name, tag, before, move);
  view_.tasks().set_tag(name, tag, version);
  return version;
}

void StoreEdit::untag(std::string_view name, std::string_view tag) {
  if (view_.tasks().erase_tag(name, tag)) return;
  if (view_.tasks().newest(name) == 0) view_.not_found(name);
  fail(Code::kNotFound, "[store] the task '{}' has no tag '{}'", printable(name), printable(tag));
}

std::int64_t StoreEdit::rollback(std::string_view name, std::int64_t version) {
  const std::int64_t last = view_.tasks().newest(name);
  const VersionRow old = require_version(name, version);
  view_.require_same_backbone("the task", std::string(name), old.fingerprint);
  if (old.follows && old.version != last) {
    fail(Code::kInvalidArgument,
         "[store] the task '{}' follows the shared state '{}', which other tasks follow too: it cannot go back alone; "
         "roll the shared state back to version {}",
         printable(name), old.follows->name, old.follows->version);
  }
  const std::int64_t next = view_.tasks().copy(name, old.version, 0);
  view_.tasks().show(name);
  return next;
}

std::int64_t StoreEdit::rollback_shared(const std::string& name, std::int64_t version) {
  const std::set<std::int64_t> before = view_.shared().lineage(name, version);
  if (before.empty()) fail(Code::kNotFound, "[store] no version {} of the shared state '{}'", version, printable(name));
  const SharedVersion now{name, view_.shared().newest(name) + 1};
  view_.shared().copy(version, now);
  for (const std::string& task : view_.tasks().followers(name)) {
    const auto last = view_.tasks().last(task);
    if (last && last->follows && last->follows->name == name) take_along(task, now, before);
  }
  return now.version;
}

/// `now`: a copy of the first of `lineage`. The task goes back to its last version from that time, or is hidden.
void StoreEdit::take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage) {
  for (std::int64_t version = view_.tasks().newest(task); version > 0; --version) {
    const auto old = view_.tasks().version(task, version);
    if (!old || !old->follows || old->follows->name != now.name || !lineage.contains(old->follows->version)) continue;
    view_.tasks().copy(task, version, now.version);
    view_.tasks().show_if_hidden_by_rollback(task);
    return;
  }
  view_.tasks().hide(task, HiddenBy::kRollback);
}

}  // namespace recast
