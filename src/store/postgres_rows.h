#pragma once
#include <string>
#include <utility>

#include "postgres.h"
#include "shared_rows.h"
#include "state_storage.h"
#include "task_rows.h"

namespace recast {

// The rows of one backbone in PostgreSQL, by its fingerprint. That no row is hidden by damage is the server's to find
// out (data checksums); every row is checked against its seal. Own nothing; the connection outlives them.

class PostgresTaskRows final : public TaskRows {
 public:
  PostgresTaskRows(const Postgres& database, std::string fingerprint)
      : database_(database), fingerprint_(std::move(fingerprint)) {}

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
  std::int64_t proven_newest(std::string_view name) const override { return newest(name); }
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
  /// The first of all statements' parameters: the fingerprint.
  PostgresValues ours() const { return PostgresValues(fingerprint_); }
  std::vector<std::string> names_in(const std::string& sql, const PostgresValues& values) const;
  std::vector<TaskSummary> summaries(const std::string& condition, const PostgresValues& values,
                                     const std::string& tags_condition) const;

  const Postgres& database_;
  const std::string fingerprint_;
};

class PostgresSharedRows final : public SharedRows {
 public:
  PostgresSharedRows(const Postgres& database, std::string fingerprint)
      : database_(database), fingerprint_(std::move(fingerprint)) {}

  std::int64_t newest(const std::string& name) const override;
  std::optional<SharedRow> find(const SharedVersion& version) const override;
  void insert(const SharedVersion& version, const std::string& fingerprint, std::int64_t state) override;
  void copy(std::int64_t from, const SharedVersion& to) override;
  void erase_unfollowed() override;

 private:
  void write(const SharedVersion& version, const SharedRow& row);

  const Postgres& database_;
  const std::string fingerprint_;
};

/// Blobs are rows as well: parts of 8 MiB in the table `contents`.
class PostgresStateStorage final : public StateStorage {
 public:
  PostgresStateStorage(const Postgres& database, std::string fingerprint)
      : database_(database), fingerprint_(std::move(fingerprint)) {}

  std::int64_t write(const PackedState& state) override;
  /// The contents of blobs too, which nobody names then.
  void erase_unnamed() override;
  std::int64_t sweep() override;

 private:
  std::string shown() const override { return database_.shown(); }
  std::optional<StateRow> row(std::int64_t id, bool with_file) const override;
  std::vector<BlobRow> blob_rows(std::int64_t id) const override;
  void require_no_other_blob(std::int64_t id, const std::set<std::string>& stand_ins) const override;
  std::string origin_of(const BlobRow& blob) const override;
  void read_blob(const BlobRow& blob, const Allocate& allocate) const override;
  void write_blob(std::int64_t id, const Blob& blob);
  void place(const Blob& blob);
  /// Whether the content of this name is there, and unharmed.
  bool has(const Blob& blob) const;
  /// The first two parameters of statements about a content.
  PostgresValues key(const std::string& sha256) const { return std::move(PostgresValues(fingerprint_).add(sha256)); }

  const Postgres& database_;
  const std::string fingerprint_;
};

}  // namespace recast
