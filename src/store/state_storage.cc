#include "state_storage.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

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

/// The state that has the stand-in for the blob of this full name, and its name there.
std::pair<State*, std::string> place_of(Numbers& numbers, const std::string& full, const std::string& origin) {
  const std::string plug = full.substr(0, full.find('.'));
  const std::string name = full.substr(std::min(plug.size() + 1, full.size()));
  for (const Scope scope : {Scope::kTask, Scope::kShared}) {
    if (std::as_const(numbers).at(plug, scope).has(name)) return {&numbers.at(plug, scope), name};
  }
  fail(Code::kDataCorruption, "[store] {}: a tensor is stored for '{}', which the task does not have", origin,
       printable(full));
}

/// Full names of tensors that look as the stand-in for a blob does.
std::set<std::string> stand_ins_of(const Numbers& numbers) {
  std::set<std::string> names;
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const auto& [scope, state] : scopes) {
      for (const auto& [name, number] : state) {
        const auto* tensor = std::get_if<at::Tensor>(&number);
        if (tensor != nullptr && tensor->sizes() == at::IntArrayRef{0}) names.insert(plug + "." + name);
      }
    }
  }
  return names;
}

}  // namespace

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string StateStorage::origin(std::int64_t id) const { return fmt::format("{}: state {}", shown(), id); }

StateRow StateStorage::require_row(std::int64_t id, bool with_file) const {
  if (auto found = row(id, with_file)) return std::move(*found);
  fail(Code::kDataCorruption, "[store] {}: is missing; restore the store from a copy", origin(id));
}

TaskRecord StateStorage::read(std::int64_t id) const {
  const StateRow row = require_row(id, true);
  if (sha256_hex(row.file) != row.sha256) {
    fail(Code::kDataCorruption, "[store] {}: its digest differs, it was damaged; restore the store from a copy",
         origin(id));
  }
  TaskRecord record = decode_task(row.file, origin(id));
  read_blobs(id, record);
  return record;
}

/// A stand-in without a row may be a tensor without elements.
void StateStorage::read_blobs(std::int64_t id, TaskRecord& record) const {
  std::set<std::string> stand_ins = stand_ins_of(record.numbers);
  for (const BlobRow& blob : blob_rows(id)) {
    const auto [state, name] = place_of(record.numbers, blob.tensor, origin(id));
    state->set(name, load(blob, state->tensor(name)));
    stand_ins.erase(blob.tensor);
  }
  require_no_other_blob(id, stand_ins);
}

std::string StateStorage::digest(std::int64_t id) const {
  std::string text = require_row(id, false).sha256;
  for (const BlobRow& blob : blob_rows(id)) text += fmt::format("\n{}\n{}\n{}", blob.tensor, blob.shape, blob.sha256);
  return sha256_hex(text);
}

at::Tensor StateStorage::load(const BlobRow& blob, const at::Tensor& like) const {
  if (!is_sha256(blob.sha256)) {
    fail(Code::kDataCorruption, "[store] {}: '{}' is no digest", shown(), printable(blob.sha256));
  }
  const std::string origin = origin_of(blob);
  at::Tensor tensor;
  read_blob(blob, [&] {
    tensor = at::empty(shape_of(blob.shape, blob.bytes, like, origin), like.options());
    return std::span(static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes());
  });
  if (sha256_hex(bytes_of(tensor)) != blob.sha256) {
    fail(Code::kDataCorruption, "[store] {}: its content is not what its name says; restore it from a copy", origin);
  }
  return tensor;
}

}  // namespace recast
