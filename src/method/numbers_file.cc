#include "recast/method/numbers_file.h"

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "scalars.h"

namespace recast {

std::string_view name(Scope scope) {
  constexpr std::string_view kNames[] = {"task", "shared", "client", "live", "run"};
  return kNames[static_cast<int>(scope)];
}

void pack_numbers(const Numbers& numbers, Scope scope, const std::string& prefix, TensorFile& file) {
  Scalars scalars;
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const auto& [name, number] : numbers.at(plug, scope)) {
      const std::string full = plug + "." + name;
      if (const auto* tensor = std::get_if<at::Tensor>(&number))
        file.tensors[prefix + full] = tensor->detach();
      else if (const auto* integer = std::get_if<std::int64_t>(&number))
        scalars[full] = *integer;
      else if (const auto* real = std::get_if<double>(&number))
        scalars[full] = *real;
      else
        scalars[full] = std::get<std::string>(number);
    }
  }
  if (!scalars.empty()) file.metadata[prefix + "scalars"] = encode_scalars(scalars);
}

void unpack_numbers(const TensorFile& file, Scope scope, const std::string& prefix, Numbers& numbers) {
  for (const auto& [full, tensor] : file.tensors) {
    if (!full.starts_with(prefix)) continue;
    const auto [plug, name] = split_full_name(full.substr(prefix.size()));
    numbers.at(plug, scope).set(name, tensor);
  }
  const auto scalars = file.metadata.find(prefix + "scalars");
  if (scalars == file.metadata.end()) return;
  for (auto& [full, scalar] : decode_scalars(scalars->second)) {
    if (file.tensors.contains(prefix + full))
      fail(Code::kDataCorruption, "[numbers] '{}' is a tensor and a scalar", printable(full));
    const auto [plug, name] = split_full_name(full);
    std::visit([&](const auto& value) { numbers.at(plug, scope).set(name, value); }, scalar);
  }
}

}  // namespace recast
