#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "recast/store/task_store.h"
#include "store_edit.h"
#include "store_errors.h"
#include "store_view.h"

namespace recast {

/// A change that is about to be made.
struct Intent {
  std::string_view verb;          ///< "commit", "purge", ...
  std::string_view name;          ///< of the task or shared state
  std::int64_t bytes = 0;         ///< that it needs
  bool erases = false;            ///< rows go for good
  std::string_view request = {};  ///< as commit() takes it
};

/// A TaskStore whose tasks are rows of some database: calls are checked, made of StoreView and StoreEdit, and logged.
/// What a kind of database brings is a transaction around them.
class RowStore : public TaskStore {
 public:
  std::int64_t commit(const TaskRecord& task, const Numbers* shared, const std::string& shared_name,
                      const std::string& request) override;
  std::optional<TaskRecord> load(std::string_view name, std::int64_t version) const override;
  std::optional<Resolved> resolve(std::string_view name, std::int64_t version, std::string_view tag) const override;
  std::optional<TaskRecord> load(const Resolved& resolved) const override;
  std::vector<TaskName> names_after(std::string_view name, std::int64_t limit) const override;
  std::vector<TaskSummary> list(bool with_removed) const override;
  std::vector<TaskSummary> list_of(const std::vector<std::string>& names) const override;
  std::vector<TaskSummary> log(std::string_view name) const override;
  void remove(std::string_view name) override;
  void purge(std::string_view name) override;
  std::int64_t tag(std::string_view name, std::int64_t version, std::string_view tag, bool move) override;
  void untag(std::string_view name, std::string_view tag) override;
  std::optional<std::int64_t> tagged(std::string_view name, std::string_view tag) const override;
  std::int64_t rollback(std::string_view name, std::int64_t version) override;
  std::int64_t rollback_shared(const std::string& name, std::int64_t version) override;
  std::optional<Numbers> shared(const std::string& name) const override;
  std::int64_t collect_garbage() override;

 protected:
  using Change = std::function<std::int64_t(StoreEdit&)>;
  using Look = std::function<void(const StoreView&)>;

  /// `shown`: how messages name the store.  `fingerprint`: of the model directory.
  RowStore(std::string shown, std::string fingerprint, bool read_only)
      : shown_(std::move(shown)), fingerprint_(std::move(fingerprint)), read_only_(read_only) {}

  /// What `work` returns, done in a transaction that keeps other writers out and committed; or nothing is changed.
  /// `work` may be called several times.
  virtual std::int64_t change(const Intent& intent, const Change& work) = 0;
  /// Calls `work` in a transaction that shows one state of the store; several times where it must begin anew.
  virtual void look(const Look& work) const = 0;
  /// A task has been erased.
  virtual void purged(std::string_view name) noexcept;

  const std::string& shown() const { return shown_; }
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  /// change() of a store that was opened for writing; every error names the store.
  template <class Work>
  std::int64_t make(const Intent& intent, const Work& work);
  void require_writable() const;
  /// What `work` makes of a StoreView.
  template <class Work>
  auto read(const Work& work) const;

  const std::string shown_, fingerprint_;
  const bool read_only_;
};

}  // namespace recast
