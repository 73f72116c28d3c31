#pragma once
#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "recast/store/task_store.h"
#include "store/sample_task.h"

namespace recast {

/// The full form of a loop, some minutes long, instead of the sample of it that every test run takes.
inline bool in_full() {
  const char* form = std::getenv("RECAST_FAULTS");
  return form != nullptr && std::string_view(form) == "full";
}

/// What a store must hold, kept apart from any store: the answer to "was anything lost, and is anything half there?".
struct ExpectedVersion {
  std::int64_t seed = 0, parent = 0;
  bool large = false;
  std::string follows;
  std::int64_t follows_version = 0;
  bool operator==(const ExpectedVersion&) const = default;
};

struct ExpectedTask {
  std::vector<ExpectedVersion> versions;
  bool hidden = false;
  bool by_rollback = false;  ///< hidden by a rollback of the shared state, which can show it again
  std::map<std::string, std::int64_t> tags;
  bool operator==(const ExpectedTask&) const = default;
};

struct ExpectedShared {
  std::int64_t value = 0, parent = 0;
  bool operator==(const ExpectedShared&) const = default;
};

struct Operation {
  enum Kind { kCommit, kRemove, kPurge, kRollback, kRollbackShared, kTag, kUntag, kCollect } kind = kCommit;
  std::string name = {}, shared = {}, tag = {};
  std::int64_t seed = 0, version = 0;
  bool large = false, with_shared = false;
};

inline TaskRecord numbered_task(const std::string& name, std::int64_t seed, bool large) {
  TaskRecord task = sample_task(name, seed);
  if (large) task.numbers.at("recast", Scope::kTask).set("w", at::full({kOverOneMiB}, seed % 4, at::kFloat));
  return task;
}

struct ExpectedStore {
  std::map<std::string, ExpectedTask> tasks;
  std::map<std::string, std::vector<ExpectedShared>> shared;
  bool operator==(const ExpectedStore&) const = default;

  void apply(const Operation& operation);
  std::set<std::int64_t> lineage(const std::string& name, std::int64_t version) const;

 private:
  void commit(const Operation& operation);
  void purge(const std::string& name);
  void rollback_shared(const std::string& name, std::int64_t version);
};

inline std::set<std::int64_t> ExpectedStore::lineage(const std::string& name, std::int64_t version) const {
  std::set<std::int64_t> versions;
  for (; version > 0; version = shared.at(name)[static_cast<std::size_t>(version - 1)].parent) versions.insert(version);
  return versions;
}

inline void ExpectedStore::commit(const Operation& operation) {
  ExpectedTask& task = tasks[operation.name];
  ExpectedVersion version{operation.seed, static_cast<std::int64_t>(task.versions.size()), operation.large, {}, 0};
  if (!operation.shared.empty()) {
    std::vector<ExpectedShared>& versions = shared[operation.shared];
    if (operation.with_shared) versions.push_back({operation.seed, static_cast<std::int64_t>(versions.size())});
    version.follows = operation.shared;
    version.follows_version = static_cast<std::int64_t>(versions.size());
  }
  task.versions.push_back(version);
  task.hidden = task.by_rollback = false;
}

inline void ExpectedStore::purge(const std::string& name) {
  tasks.erase(name);
  std::erase_if(shared, [&](const auto& state) {
    for (const auto& [other, task] : tasks) {
      for (const ExpectedVersion& version : task.versions) {
        if (version.follows == state.first) return false;
      }
    }
    return true;
  });
}

inline void ExpectedStore::rollback_shared(const std::string& name, std::int64_t version) {
  const std::set<std::int64_t> before = lineage(name, version);
  std::vector<ExpectedShared>& versions = shared.at(name);
  versions.push_back({versions[static_cast<std::size_t>(version - 1)].value, version});
  for (auto& [task_name, task] : tasks) {
    if (task.versions.back().follows != name) continue;
    std::size_t last = task.versions.size();
    while (last > 0 &&
           (task.versions[last - 1].follows != name || !before.contains(task.versions[last - 1].follows_version)))
      --last;
    if (last == 0) {
      task.by_rollback = !task.hidden || task.by_rollback;
      task.hidden = true;
      continue;
    }
    ExpectedVersion copy = task.versions[last - 1];
    copy.parent = static_cast<std::int64_t>(last);
    copy.follows_version = static_cast<std::int64_t>(versions.size());
    task.versions.push_back(copy);
    if (task.by_rollback) task.hidden = task.by_rollback = false;
  }
}

inline void ExpectedStore::apply(const Operation& operation) {
  switch (operation.kind) {
    case Operation::kCommit:
      return commit(operation);
    case Operation::kRemove:
      tasks.at(operation.name).hidden = true;
      return;
    case Operation::kPurge:
      return purge(operation.name);
    case Operation::kRollback: {
      ExpectedTask& task = tasks.at(operation.name);
      ExpectedVersion copy = task.versions[static_cast<std::size_t>(operation.version - 1)];
      copy.parent = operation.version;
      task.versions.push_back(copy);
      task.hidden = task.by_rollback = false;
      return;
    }
    case Operation::kRollbackShared:
      return rollback_shared(operation.shared, operation.version);
    case Operation::kTag:
      tasks.at(operation.name).tags[operation.tag] = operation.version;
      return;
    case Operation::kUntag:
      tasks.at(operation.name).tags.erase(operation.tag);
      return;
    case Operation::kCollect:
      return;
  }
}

/// `task` and `shared`: what a commit commits, made by the caller.
inline void perform(TaskStore& store, const Operation& operation, const TaskRecord& task, const Numbers& shared) {
  switch (operation.kind) {
    case Operation::kCommit:
      store.commit(task, operation.with_shared ? &shared : nullptr, operation.shared);
      return;
    case Operation::kRemove:
      return store.remove(operation.name);
    case Operation::kPurge:
      return store.purge(operation.name);
    case Operation::kRollback:
      store.rollback(operation.name, operation.version);
      return;
    case Operation::kRollbackShared:
      store.rollback_shared(operation.shared, operation.version);
      return;
    case Operation::kTag:
      store.tag(operation.name, operation.version, operation.tag, true);
      return;
    case Operation::kUntag:
      return store.untag(operation.name, operation.tag);
    case Operation::kCollect:
      store.collect_garbage();
      return;
  }
}

inline void perform(TaskStore& store, const Operation& operation) {
  perform(store, operation, numbered_task(operation.name, operation.seed, operation.large),
          sample_shared(static_cast<double>(operation.seed)));
}

/// One that succeeds, of any kind, on a store that holds what is expected; the store stays small.
inline Operation next_operation(std::mt19937& random, const ExpectedStore& expected) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  Operation operation;
  operation.name = std::string(1, static_cast<char>('a' + below(4)));
  operation.seed = static_cast<std::int64_t>(below(1'000'000)) + 1;
  const auto found = expected.tasks.find(operation.name);
  const std::size_t dice = below(100);
  const ExpectedTask* task = found == expected.tasks.end() ? nullptr : &found->second;
  const auto any_version = [&] { return static_cast<std::int64_t>(below(task->versions.size())) + 1; };
  if (task != nullptr && (task->versions.size() >= 7 || dice < 5)) {
    operation.kind = Operation::kPurge;
  } else if (task != nullptr && !task->hidden && dice < 11) {
    operation.kind = Operation::kRemove;
  } else if (task != nullptr && dice < 20) {
    operation.kind = Operation::kRollback;
    operation.version = any_version();
    const auto last = static_cast<std::int64_t>(task->versions.size());
    if (!task->versions[static_cast<std::size_t>(operation.version - 1)].follows.empty()) operation.version = last;
  } else if (task != nullptr && dice < 30) {
    operation.kind = Operation::kTag;
    operation.tag = std::string("t") + static_cast<char>('0' + below(3));
    operation.version = any_version();
  } else if (task != nullptr && !task->tags.empty() && dice < 36) {
    operation.kind = Operation::kUntag;
    operation.tag = task->tags.begin()->first;
  } else if (expected.shared.contains("common") && dice < 41) {
    operation.kind = Operation::kRollbackShared;
    operation.shared = "common";
    operation.version = static_cast<std::int64_t>(below(expected.shared.at("common").size())) + 1;
  } else if (dice < 45) {
    operation.kind = Operation::kCollect;
  } else {
    operation.large = dice < 58;
    if (dice >= 80) {
      operation.shared = "common";
      operation.with_shared = dice >= 88 || !expected.shared.contains("common");
    }
  }
  return operation;
}

inline std::string difference_of_version(const ExpectedStore& expected, const std::string& name, std::int64_t number,
                                         const TaskStore& store, bool newest) {
  const ExpectedVersion& version = expected.tasks.at(name).versions[static_cast<std::size_t>(number - 1)];
  const auto task = store.load(name, newest ? 0 : number);
  if (!task) return fmt::format("version {} of {} is gone", number, name);
  Numbers numbers = numbered_task(name, version.seed, version.large).numbers;
  if (!version.follows.empty()) {
    const auto& states = expected.shared.at(version.follows);
    const std::size_t at = newest ? states.size() : static_cast<std::size_t>(version.follows_version);
    const Numbers shared = sample_shared(static_cast<double>(states[at - 1].value));
    numbers.at("recast", Scope::kShared) = shared.at("recast", Scope::kShared);
    if (!task->follows || *task->follows != SharedVersion{version.follows, static_cast<std::int64_t>(at)})
      return fmt::format("version {} of {} follows another state", number, name);
  }
  if (!equal(task->numbers, numbers)) return fmt::format("version {} of {} has other numbers", number, name);
  const TaskRecord sample = sample_task(name, version.seed);
  const bool same = task->labels == sample.labels && task->plugs == sample.plugs && task->metrics == sample.metrics &&
                    task->recipe == sample.recipe && task->data == sample.data && task->parent == version.parent &&
                    task->version == number;
  return same ? "" : fmt::format("version {} of {} is described otherwise", number, name);
}

inline std::string difference_of_task(const ExpectedStore& expected, const std::string& name, const TaskStore& store) {
  const ExpectedTask& task = expected.tasks.at(name);
  const std::vector<TaskSummary> log = store.log(name);
  if (log.size() != task.versions.size())
    return fmt::format("{} has {} versions, expected {}", name, log.size(), task.versions.size());
  std::map<std::string, std::int64_t> tags;
  for (const TaskSummary& version : log) {
    for (const std::string& tag : version.tags) tags[tag] = version.version;
  }
  if (tags != task.tags) return fmt::format("{} has other tags", name);
  if (log.back().removed != task.hidden) return fmt::format("{} is {}hidden", name, task.hidden ? "not " : "");
  for (std::size_t i = 1; i <= task.versions.size(); ++i) {
    const std::string text = difference_of_version(expected, name, static_cast<std::int64_t>(i), store, false);
    if (!text.empty()) return text;
  }
  if (!task.hidden) return difference_of_version(expected, name, static_cast<std::int64_t>(log.size()), store, true);
  return store.load(name) ? name + " is hidden and comes" : "";
}

/// Empty if the store holds exactly what is expected, every number of every version.
inline std::string difference(const ExpectedStore& expected, const TaskStore& store) {
  std::set<std::string> there, wanted;
  for (const TaskSummary& task : store.list(true)) there.insert(task.name);
  for (const auto& [name, task] : expected.tasks) wanted.insert(name);
  if (there != wanted) return fmt::format("there are {} tasks, expected {}", there.size(), wanted.size());
  for (const std::string& name : wanted) {
    const std::string text = difference_of_task(expected, name, store);
    if (!text.empty()) return text;
  }
  return expected.shared.contains("common") == store.shared("common").has_value() ? "" : "the shared state is wrong";
}

}  // namespace recast
