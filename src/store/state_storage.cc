#include "state_storage.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>

#include "disk.h"
#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/tensor_file.h"
#include "seals.h"

namespace recast {
namespace {

constexpr std::size_t kBlobBytes = 1 << 20;
constexpr std::size_t kFileBytes = 64 << 20;
/// Statements that serving runs are kept; they are made of constants alone.
constexpr Statement::Prepared kKept = Statement::Prepared::kKept;

/// Where a tensor lies in a record.
struct Place {
  std::string plug, name;
  Scope scope;
  std::size_t bytes;
};

/// Tensors that could become blobs, largest first. Others are left for encode_task() to refuse.
std::vector<Place> dense_tensors(const Numbers& numbers) {
  std::vector<Place> places;
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const Scope scope : {Scope::kTask, Scope::kShared}) {
      for (const auto& [name, number] : numbers.at(plug, scope)) {
        const auto* tensor = std::get_if<at::Tensor>(&number);
        if (tensor != nullptr && tensor->defined() && tensor->layout() == at::kStrided) {
          places.push_back({plug, name, scope, tensor->nbytes()});
        }
      }
    }
  }
  std::stable_sort(places.begin(), places.end(), [](auto& a, auto& b) { return a.bytes > b.bytes; });
  return places;
}

std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

/// What a state file carries: nothing that changes when a version is copied.
TaskRecord state_of(const TaskRecord& task, const std::string& name, Scope scope) {
  TaskRecord state = task;
  state.name = name;
  state.numbers = task.numbers.only(scope);
  state.version = state.parent = 0;
  state.follows.reset();
  state.created_utc.clear();
  return state;
}

PackedState pack(const TaskRecord& record) {
  TaskRecord rest = record;
  PackedState packed;
  const std::vector<Place> places = dense_tensors(record.numbers);
  std::size_t kept = 0;
  for (const Place& place : places) kept += place.bytes;
  for (const auto& [plug, name, scope, bytes] : places) {
    if (bytes <= kBlobBytes && kept <= kFileBytes) break;
    const at::Tensor tensor =
        record.numbers.at(plug, scope).tensor(name).detach().resolve_conj().resolve_neg().cpu().contiguous();
    require_finite({{plug + "." + name, tensor}}, fmt::format("task '{}'", printable(record.name)));
    packed.blobs.push_back({plug + "." + name, sha256_hex(bytes_of(tensor)), tensor});
    rest.numbers.at(plug, scope).set(name, at::empty({0}, tensor.options()));
    kept -= bytes;
  }
  packed.file = encode_task(rest);
  return packed;
}

/// When a flush has failed nobody knows what the disk holds, and asking again would say that all is well.
template <class Flush>
void flush(const Database& database, const Flush& work) try {
  work();
} catch (...) {
  database.distrust();
  throw;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Sizes whose product, times the element's size, is `bytes`; nothing else may reach an allocation.
std::vector<std::int64_t> shape_of(const std::string& text, std::int64_t bytes, const at::Tensor& like,
                                   const std::string& origin) {
  const nlohmann::json list = parse_json(text, origin);
  std::vector<std::int64_t> shape;
  std::int64_t product = static_cast<std::int64_t>(like.element_size());
  bool good = list.is_array() && list.size() <= 8;
  for (std::size_t i = 0; good && i < list.size(); ++i) {
    good = list[i].is_number_unsigned() && list[i] <= (std::uint64_t{1} << 53);
    if (good) shape.push_back(list[i]);
    good = good && !__builtin_mul_overflow(product, shape.back(), &product);
  }
  if (!good || product != bytes) {
    fail(Code::kDataCorruption, "[store] {}: the shape {} does not fit its {} bytes", origin, printable(text), bytes);
  }
  return shape;
}

/// Where the record has its stand-in for the blob of this full name.
Place place_of(const Numbers& numbers, const std::string& full, const std::string& origin) {
  const std::string plug = full.substr(0, full.find('.'));
  const std::string name = full.substr(std::min(plug.size() + 1, full.size()));
  for (const Scope scope : {Scope::kTask, Scope::kShared}) {
    const State& state = numbers.at(plug, scope);
    if (state.has(name)) return {plug, name, scope, 0};
  }
  fail(Code::kDataCorruption, "[store] {}: a tensor is stored for '{}', which the task does not have", origin,
       printable(full));
}

/// Full names of tensors that look as the stand-in for a blob does.
std::set<std::string> stand_ins_of(const Numbers& numbers) {
  std::set<std::string> names;
  for (const Place& place : dense_tensors(numbers)) {
    if (numbers.at(place.plug, place.scope).tensor(place.name).sizes() == at::IntArrayRef{0})
      names.insert(place.plug + "." + place.name);
  }
  return names;
}

}  // namespace

std::int64_t PackedState::stored_bytes() const {
  std::size_t bytes = file.size();
  for (const Blob& blob : blobs) bytes += blob.bytes.nbytes();
  return static_cast<std::int64_t>(bytes);
}

PackedState pack_task(const TaskRecord& task) { return pack(state_of(task, task.name, Scope::kTask)); }

PackedState pack_shared(const TaskRecord& task, const Numbers& shared, const std::string& name) {
  TaskRecord record;
  record.fingerprint = task.fingerprint;
  record.plugs = task.plugs;
  record.numbers = shared;
  return pack(state_of(record, name, Scope::kShared));
}

std::int64_t StateStorage::write(const PackedState& state) {
  if (!state.blobs.empty()) {
    make_folder(folder_);
    for (const Blob& blob : state.blobs) place(blob);
    flush(database_, [&] {
      sync_folder(folder_);
      sync_folder(folder_.has_parent_path() ? folder_.parent_path() : ".");
    });
  }
  const std::string digest = sha256_hex(state.file);
  Statement(database_, "INSERT INTO states (file, sha256) VALUES (?, ?)").bind_blob(state.file).bind(digest).run();
  const std::int64_t id = sqlite3_last_insert_rowid(database_.handle());
  for (const Blob& blob : state.blobs) {
    const std::string shape = canonical_json(blob.bytes.sizes().vec());
    Statement(database_, "INSERT INTO blobs (state, tensor, shape, bytes, sha256) VALUES (?, ?, ?, ?, ?)")
        .bind(id)
        .bind(blob.tensor)
        .bind(shape)
        .bind(static_cast<std::int64_t>(blob.bytes.nbytes()))
        .bind(blob.sha256)
        .run();
  }
  return id;
}

void StateStorage::place(const Blob& blob) {
  const std::filesystem::path path = folder_ / blob.sha256;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored) && sha256_hex_of_file(path) == blob.sha256) return;
  AtomicFile file(path, blob.bytes.nbytes());
  file.write(bytes_of(blob.bytes));
  flush(database_, [&] { file.commit(); });
}

std::string StateStorage::origin(std::int64_t id) const { return fmt::format("{}: state {}", database_.shown(), id); }

TaskRecord StateStorage::read(std::int64_t id) const {
  static const std::string sql = fmt::format("SELECT file, sha256, {} FROM states WHERE id = ?", seal_holds("states"));
  const std::string origin = this->origin(id);
  Statement row(database_, sql, kKept);
  if (!row.bind(id).step())
    fail(Code::kDataCorruption, "[store] {}: is missing; restore the store from a copy", origin);
  row.require_seal(2);
  const std::string file = row.blob(0);
  if (sha256_hex(file) != row.text(1)) {
    fail(Code::kDataCorruption, "[store] {}: its digest differs, it was damaged; restore the store from a copy",
         origin);
  }
  TaskRecord record = decode_task(file, origin);
  read_blobs(id, record);
  return record;
}

void StateStorage::read_blobs(std::int64_t id, TaskRecord& record) const {
  static const std::string sql =
      fmt::format("SELECT tensor, shape, bytes, sha256, {} FROM blobs WHERE state = ?", seal_holds("blobs"));
  std::set<std::string> stand_ins = stand_ins_of(record.numbers);
  Statement blobs(database_, sql, kKept);
  for (blobs.bind(id); blobs.step();) {
    blobs.require_seal(4);
    const Place place = place_of(record.numbers, blobs.text(0), origin(id));
    State& state = record.numbers.at(place.plug, place.scope);
    state.set(place.name, load(blobs.text(3), blobs.integer(2), state.tensor(place.name), blobs.text(1)));
    stand_ins.erase(blobs.text(0));
  }
  require_no_other_blob(id, stand_ins);
}

/// What is left may be a tensor without elements, or one whose row was lost: then the other index still has it.
void StateStorage::require_no_other_blob(std::int64_t id, const std::set<std::string>& stand_ins) const {
  for (const std::string& name : stand_ins) {
    Statement other(database_, "SELECT 1 FROM blobs INDEXED BY blobs_by_content WHERE state = ? AND tensor = ?");
    if (other.bind(id).bind(name).step()) database_.fail_damaged("two indexes of blobs differ");
  }
}

std::string StateStorage::digest(std::int64_t id) const {
  static const std::string of_file = fmt::format("SELECT sha256, {} FROM states WHERE id = ?", seal_holds("states"));
  static const std::string of_blobs =
      fmt::format("SELECT tensor, shape, sha256, {} FROM blobs WHERE state = ? ORDER BY tensor", seal_holds("blobs"));
  Statement row(database_, of_file, kKept), blobs(database_, of_blobs, kKept);
  if (!row.bind(id).step())
    fail(Code::kDataCorruption, "[store] {}: is missing; restore the store from a copy", origin(id));
  row.require_seal(1);
  std::string text = row.text(0);
  for (blobs.bind(id); blobs.step();) {
    blobs.require_seal(3);
    text += fmt::format("\n{}\n{}\n{}", blobs.text(0), blobs.text(1), blobs.text(2));
  }
  return sha256_hex(text);
}

at::Tensor StateStorage::load(const std::string& sha256, std::int64_t bytes, const at::Tensor& like,
                              const std::string& shape) const {
  if (!is_sha256(sha256))
    fail(Code::kDataCorruption, "[store] {}: '{}' is no digest", database_.shown(), printable(sha256));
  const std::filesystem::path path = folder_ / sha256;
  const std::string origin = printable(path.string(), 4096);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    fail(Code::kDataCorruption, "[store] {}: is missing, a task needs it; restore it from a copy", origin);
  }
  const InputFile file(path);
  if (file.size() != static_cast<std::uint64_t>(bytes)) {
    fail(Code::kDataCorruption, "[store] {}: has {} bytes, expected {}; restore it from a copy", origin, file.size(),
         bytes);
  }
  at::Tensor tensor = at::empty(shape_of(shape, bytes, like, origin), like.options());
  file.read_at(0, {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()});
  if (sha256_hex(bytes_of(tensor)) != sha256) {
    fail(Code::kDataCorruption, "[store] {}: its content is not what its name says; restore it from a copy", origin);
  }
  return tensor;
}

std::set<std::string> StateStorage::named() const {
  std::set<std::string> names;
  for (Statement rows(database_, "SELECT sha256 FROM blobs"); rows.step();) names.insert(rows.text(0));
  return names;
}

void StateStorage::erase_unnamed() {
  database_.execute(
      "DELETE FROM states WHERE id NOT IN (SELECT state FROM versions UNION SELECT state FROM shared_versions)");
}

std::int64_t StateStorage::sweep() {
  namespace fs = std::filesystem;
  const std::set<std::string> keep = named();
  std::error_code error;
  std::int64_t swept = 0;
  for (fs::directory_iterator place(folder_, error), end; !error && place != end; place.increment(error)) {
    const fs::directory_entry& entry = *place;
    const std::string name = entry.path().filename();
    const bool ours = is_sha256(name) || (name.starts_with(".recast-") && name.ends_with(".tmp"));
    std::error_code gone;
    if (!ours || !entry.is_regular_file(gone) || keep.contains(name)) continue;
    const std::uintmax_t bytes = entry.file_size(gone);
    if (!gone && fs::remove(entry.path(), gone)) swept += static_cast<std::int64_t>(bytes);
    if (gone == std::errc::io_error) database_.distrust();
  }
  if (error == std::errc::io_error) database_.distrust();
  if (error && error != std::errc::no_such_file_or_directory) throw fs::filesystem_error("sweep", folder_, error);
  return swept;
}

}  // namespace recast
