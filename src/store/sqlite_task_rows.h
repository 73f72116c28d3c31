#pragma once
#include "sqlite.h"
#include "task_rows.h"

namespace recast {

/// TaskRows in SQLite. An absence is believed only where two indexes say so, since a page that is damaged may hide a
/// row and no seal with it.    Owns nothing; the database outlives it.
class SqliteTaskRows final : public TaskRows {
 public:
  explicit SqliteTaskRows(Database& database) : database_(database) {}

  std::optional<bool> hidden(std::string_view name) const override;
  std::optional<std::string> other_backbone(std::string_view name) const override;
  std::vector<TaskName> visible_after(std::string_view name, std::int64_t limit) const override;
  std::vector<std::string> followers(const std::string& shared) const override;
  std::vector<std::string> visible_names() const override;
  std::optional<std::string> case_twin(std::string_view name) const override;
  void show(std::string_view name) override;
  void show_if_hidden_by_rollback(std::string_view name) override;
  bool hide(std::string_view name, HiddenBy by) override;
  bool erase(std::string_view name) override;

  std::optional<VersionRow> last(std::string_view name) const override;
  std::int64_t proven_newest(std::string_view name) const override;
  std::optional<VersionRow> version(std::string_view name, std::int64_t version) const override;
  void insert(const TaskRecord& task, std::int64_t version, const std::optional<SharedVersion>& follows,
              const StoredState& state) override;
  std::int64_t copy(std::string_view name, std::int64_t version, std::int64_t follows_version) override;
  std::vector<TaskSummary> newest_of_each(bool with_removed) const override;
  std::vector<TaskSummary> newest_of(const std::vector<std::string>& names) const override;
  std::vector<TaskSummary> all_of(std::string_view name) const override;

  std::optional<std::int64_t> tagged(std::string_view name, std::string_view tag) const override;
  std::optional<std::string> tag_twin(std::string_view name, std::string_view tag) const override;
  void set_tag(std::string_view name, std::string_view tag, std::int64_t version) override;
  bool erase_tag(std::string_view name, std::string_view tag) override;

 private:
  /// The last version that follows no shared state, or `follows`, by the index versions_by_follows; 0: none.
  std::int64_t last_alone(std::string_view name) const;
  std::int64_t last_following(std::string_view name, const SharedVersion& follows) const;
  /// The first task after `name` in the order of bytes that has versions; empty: none.
  std::string next_with_versions(std::string_view name) const;

  Database& database_;
};

}  // namespace recast
