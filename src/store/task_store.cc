#include "recast/store/task_store.h"

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

void check_tag(std::string_view tag) {
  check_task_name(tag);
  if (tag.find_first_not_of("0123456789") != tag.npos) return;
  fail(Code::kInvalidArgument, "[store] '{}' cannot be a tag: digits alone are a version's number", tag);
}

std::int64_t import_task(TaskStore& store, const TaskRecord& task) {
  if (!task.follows) return store.commit(task);
  const std::string& name = task.follows->name;
  const Numbers theirs = task.numbers.only(Scope::kShared);
  const std::optional<Numbers> ours = store.shared(name);
  if (!ours) return store.commit(task, &theirs, name);
  if (!equal(*ours, theirs)) {
    fail(Code::kShapeMismatch,
         "[store] the task '{}' follows another version of the shared state '{}' than the tasks in this store; import "
         "it into a model directory without them",
         printable(task.name), name);
  }
  return store.commit(task, nullptr, name);
}

}  // namespace recast
