#include "packed_state.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/tensor_file.h"

namespace recast {
namespace {

constexpr std::size_t kBlobBytes = 1 << 20;
constexpr std::size_t kFileBytes = 64 << 20;

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

}  // namespace

std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

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

}  // namespace recast
