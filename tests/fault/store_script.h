#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "format/temporary_folder.h"
#include "store/expected_store.h"

namespace recast {

/// Every kind of operation once at least, large tensors and shared states among them.
inline std::vector<Operation> scripted_operations() {
  using O = Operation;
  return {{.kind = O::kCommit, .name = "a", .seed = 1},
          {.kind = O::kCommit, .name = "a", .seed = 2, .large = true},
          {.kind = O::kCommit, .name = "b", .shared = "common", .seed = 3, .with_shared = true},
          {.kind = O::kCommit, .name = "c", .shared = "common", .seed = 4},
          {.kind = O::kTag, .name = "a", .tag = "best", .version = 1},
          {.kind = O::kRollback, .name = "a", .version = 1},
          {.kind = O::kCommit, .name = "b", .shared = "common", .seed = 5, .with_shared = true},
          {.kind = O::kRollbackShared, .shared = "common", .version = 1},
          {.kind = O::kRemove, .name = "c"},
          {.kind = O::kTag, .name = "b", .tag = "last", .version = 2},
          {.kind = O::kUntag, .name = "b", .tag = "last"},
          {.kind = O::kCommit, .name = "d", .seed = 7, .large = true},
          {.kind = O::kPurge, .name = "a"},
          {.kind = O::kCollect},
          {.kind = O::kCommit, .name = "a", .seed = 8}};
}

/// What a store holds after each part of it: [i] after i operations.
struct Script {
  std::vector<Operation> operations;
  std::vector<ExpectedStore> after{1};

  Script() {
    for (const Operation& operation : scripted_operations()) {
      operations.push_back(operation);
      after.push_back(after.back());
      after.back().apply(operation);
    }
  }
};

inline std::unique_ptr<TaskStore> open_for_writing(const std::filesystem::path& folder) {
  return open_sqlite_store(folder, fingerprint_of("base"), false);
}

/// One value, by a connection that knows nothing of recast.
inline std::string ask(const std::filesystem::path& folder, const char* sql) {
  sqlite3* database = nullptr;
  sqlite3_stmt* statement = nullptr;
  std::string answer = "no answer";
  if (sqlite3_open((folder / "tasks.db").c_str(), &database) == SQLITE_OK &&
      sqlite3_prepare_v2(database, sql, -1, &statement, nullptr) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
    answer = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  sqlite3_close(database);
  return answer;
}

/// A version of a shared state that no task's newest version follows shows in no answer of the store.
inline bool same_shared_versions(const ExpectedStore& expected, const std::filesystem::path& folder) {
  std::size_t count = 0;
  for (const auto& [name, versions] : expected.shared) count += versions.size();
  return ask(folder, "SELECT count(*) FROM shared_versions") == std::to_string(count);
}

/// Empty if the store in `folder` is sound, holds exactly one of `allowed`, and goes on taking commits. Which one is
/// left in `held`.
inline std::string judge(const std::filesystem::path& folder, const std::vector<ExpectedStore>& allowed,
                         ExpectedStore* held = nullptr) try {
  std::string reasons;
  bool known = false;
  {
    const auto store = open_for_writing(folder);
    for (const ExpectedStore& expected : allowed) {
      std::string text = difference(expected, *store);
      if (text.empty() && !same_shared_versions(expected, folder)) text = "other versions of shared states";
      if ((known = text.empty())) {
        if (held != nullptr) *held = expected;
        break;
      }
      reasons += "; " + text;
    }
    if (!known) return "holds none of the allowed states" + reasons;
    if (held == nullptr) store->commit(sample_task("zz"));
    store->collect_garbage();
  }
  const std::string text = ask(folder, "PRAGMA integrity_check");
  return text == "ok" ? "" : text;
} catch (const std::exception& error) {
  return error.what();
}

/// A child made by fork. `work` gets the writing end of a pipe, one byte for each acknowledgement, and returns the exit
/// status.
class Child {
 public:
  explicit Child(const std::function<int(int)>& work) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    process_ = ::fork();
    if (process_ == 0) {
      ::close(ends[0]);
      ::_exit(work(ends[1]));
    }
    ::close(ends[1]);
    pipe_ = ends[0];
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { ::close(pipe_); }

  void kill() const { ::kill(process_, SIGKILL); }
  /// Waits for the end; how many bytes came.
  std::size_t finish() {
    std::size_t bytes = 0;
    for (char byte = 0; ::read(pipe_, &byte, 1) == 1;) ++bytes;
    ::waitpid(process_, &status_, 0);
    return bytes;
  }
  /// The exit status, or -signal.
  int status() const { return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_); }
  pid_t process() const { return process_; }

 private:
  pid_t process_ = -1;
  int pipe_ = -1, status_ = 0;
};

inline void acknowledge(int pipe) {
  const char byte = '+';
  if (::write(pipe, &byte, 1) != 1) ::_exit(9);
}

}  // namespace recast
