#include "recast/store/task_record.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/format/tensor_file.h"
#include "recast/method/numbers_file.h"

namespace recast {
namespace {

void check_number(std::string_view plug, std::string_view name, const Number& number, Code code,
                  std::string_view origin) {
  check_number_name(plug, name, code, origin);
  if (const auto* tensor = std::get_if<at::Tensor>(&number); tensor && !tensor->defined()) {
    fail(Code::kUnsupported, "[task] {}: the tensor '{}.{}' is undefined", origin, plug, printable(name));
  }
  const auto* real = std::get_if<double>(&number);
  if (real && !std::isfinite(*real)) {
    fail(Code::kDataCorruption, "[task] {}: the number '{}.{}' is {}; expected a finite one", origin, plug,
         printable(name), *real);
  }
}

void check_numbers(const Numbers& numbers, Code code, std::string_view origin) {
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const Scope scope : {Scope::kTask, Scope::kShared}) {
      for (const auto& [name, number] : numbers.at(plug, scope)) check_number(plug, name, number, code, origin);
    }
  }
}

/// The tensors and scalars of one scope; `prefix` tells those of the other apart.
TensorFile take_out(TensorFile& file, std::string_view prefix) {
  TensorFile taken;
  std::erase_if(file.tensors, [&](const auto& entry) {
    return entry.first.starts_with(prefix) && taken.tensors.insert(entry).second;
  });
  if (auto scalars = file.metadata.extract(std::string(prefix) + "scalars")) taken.metadata.insert(std::move(scalars));
  return taken;
}

Numbers numbers_of(TensorFile file, std::string_view origin) try {
  Numbers numbers;
  unpack_numbers(take_out(file, kSharedPrefix), Scope::kShared, std::string(kSharedPrefix), numbers);
  unpack_numbers(file, Scope::kTask, "", numbers);
  return numbers;
} catch (const Error& error) {
  fail(error.code(), "[task] {}: {}", origin, error.what());
}

}  // namespace

std::string encode_task(const TaskRecord& task) {
  const std::string origin = fmt::format("task '{}'", printable(task.name));
  TensorFile file{.tensors = {}, .metadata = encode_task_header(task, origin)};
  check_numbers(task.numbers, Code::kInvalidArgument, origin);
  pack_numbers(task.numbers, Scope::kTask, "", file);
  pack_numbers(task.numbers, Scope::kShared, std::string(kSharedPrefix), file);
  std::string bytes = encode_tensor_file(file);
  require_finite(file.tensors, origin);
  // Nothing is written that would not be read.
  safetensors_prefix_bytes(std::as_bytes(std::span(bytes).first(std::min(bytes.size(), kSafetensorsProbeBytes))),
                           bytes.size(), kTaskFileLimits, origin);
  return bytes;
}

TaskRecord decode_task(std::string_view bytes, std::string_view origin) {
  const TensorFile file = decode_tensor_file(bytes, origin, kTaskFileLimits);
  TaskRecord task{decode_task_header(file.metadata, origin), {}};
  require_finite(file.tensors, origin);
  task.numbers = numbers_of(file, origin);
  check_numbers(task.numbers, Code::kDataCorruption, origin);
  return task;
}

}  // namespace recast
