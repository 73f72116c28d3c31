#include "recast/serve/inference.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

struct Datatype {
  std::string_view name;
  std::int64_t bytes;
};
constexpr Datatype kDatatypes[] = {{"BOOL", 1}, {"UINT8", 1}, {"UINT16", 2}, {"UINT32", 4}, {"UINT64", 8},
                                   {"INT8", 1}, {"INT16", 2}, {"INT32", 4},  {"INT64", 8},  {"FP16", 2},
                                   {"FP32", 4}, {"FP64", 8},  {"BF16", 2},   {"BYTES", 0}};
constexpr std::int64_t kMostElements = std::int64_t{1} << 53;
constexpr std::size_t kLengthBytes = 4;  // in front of each element of BYTES

const Datatype* find_datatype(std::string_view name) {
  const auto found = std::ranges::find(kDatatypes, name, &Datatype::name);
  return found == std::end(kDatatypes) ? nullptr : found;
}

std::size_t length_at(std::string_view bytes, std::size_t at) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return length;
}

void check_name(std::string_view name, const RequestLimits& limits, std::string_view origin) {
  if (name.size() > limits.name_bytes) {
    fail(Code::kExhausted, "[infer] {}: has {} bytes; at most {} are accepted", origin, name.size(), limits.name_bytes);
  }
  if (printable(name, name.size() + 1) != name) {
    fail(Code::kInvalidArgument, "[infer] {}: '{}' holds control characters, or is not UTF-8; expected visible text",
         origin, printable(name));
  }
}

void check_parameters(const json& parameters, const RequestLimits& limits, const std::string& origin) {
  if (parameters.size() > limits.parameters) {
    fail(Code::kExhausted, "[infer] {}: {} of them; at most {} are accepted", origin, parameters.size(),
         limits.parameters);
  }
  for (const auto& [key, value] : parameters.items()) {
    check_name(key, limits, origin);
    const std::string place = origin + "." + key;
    if (value.is_string()) {
      const std::string& text = value.get_ref<const std::string&>();
      if (text.size() <= limits.parameter_bytes) continue;
      fail(Code::kExhausted, "[infer] {}: a text of {} bytes; at most {} are accepted", place, text.size(),
           limits.parameter_bytes);
    }
    if (value.is_boolean() || value.is_number()) continue;
    fail(Code::kInvalidArgument, "[infer] {}: is {}; expected a text, a number, true or false", place,
         value.is_null() ? "null" : value.type_name());
  }
}

void check_shape(const WireTensor& input, const RequestLimits& limits, const std::string& origin) {
  if (input.shape.size() > limits.rank) {
    fail(Code::kExhausted, "[infer] {}.shape: has {} dimensions; at most {} are accepted", origin, input.shape.size(),
         limits.rank);
  }
  if (!input.shape.empty() && input.shape.front() > limits.rows) {
    fail(Code::kExhausted, "[infer] {}.shape: asks for {} rows; at most {} are accepted in a request", origin,
         input.shape.front(), limits.rows);
  }
}

/// Inputs or outputs: how many, their names, their parameters.
template <class Tensor>
void check_list(const std::vector<Tensor>& tensors, const std::string& list, const RequestLimits& limits) {
  if (tensors.size() > limits.tensors) {
    fail(Code::kExhausted, "[infer] {}: {} of them; at most {} are accepted in a request", list, tensors.size(),
         limits.tensors);
  }
  std::set<std::string_view> seen;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string origin = fmt::format("{}[{}]", list, i);
    const std::string& name = tensors[i].name;
    if (name.empty()) fail(Code::kInvalidArgument, "[infer] {}.name: is empty; expected a name", origin);
    check_name(name, limits, origin + ".name");
    if (!seen.insert(name).second) {
      fail(Code::kInvalidArgument, "[infer] {}.name: '{}' is given twice; each name may occur once", origin, name);
    }
    check_parameters(tensors[i].parameters, limits, origin + ".parameters");
  }
}

}  // namespace

std::int64_t datatype_bytes(std::string_view datatype) {
  const Datatype* found = find_datatype(datatype);
  return found ? found->bytes : 0;
}

bool known_datatype(std::string_view datatype) { return find_datatype(datatype) != nullptr; }

void check_datatype(std::string_view datatype, std::string_view origin) {
  if (known_datatype(datatype)) return;
  std::vector<std::string> names;
  std::string all;
  for (const Datatype& known : kDatatypes) {
    names.emplace_back(known.name);
    all += (all.empty() ? "" : " ") + names.back();
  }
  const std::string near = nearest(datatype, names);
  fail(Code::kInvalidArgument, "[infer] {}: there is no datatype '{}'{}; known are {}", origin, printable(datatype),
       near.empty() ? "" : ", did you mean '" + near + "'", all);
}

std::int64_t element_count(const std::vector<std::int64_t>& shape, std::string_view origin) {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) {
      fail(Code::kInvalidArgument, "[infer] {}: the dimension {} is negative; expected 0 or more", origin, dimension);
    }
    empty = empty || dimension == 0;
    if (dimension > kMostElements / count) {
      fail(Code::kInvalidArgument, "[infer] {}: its dimensions multiply to more than 2^53 elements", origin);
    }
    count *= std::max<std::int64_t>(dimension, 1);
  }
  return empty ? 0 : count;
}

std::vector<std::string_view> split_bytes(std::string_view bytes, std::int64_t count, std::string_view origin) {
  const auto expected = static_cast<std::size_t>(count);
  if (count < 0 || expected > bytes.size() / kLengthBytes) {
    fail(Code::kInvalidArgument, "[infer] {}: {} bytes cannot hold {} elements, whose lengths alone take 4 each",
         origin, bytes.size(), count);
  }
  std::vector<std::string_view> elements;
  elements.reserve(expected);
  std::size_t at = 0;
  while (elements.size() < expected) {
    const std::size_t left = bytes.size() - at;
    if (left < kLengthBytes) {
      fail(Code::kInvalidArgument, "[infer] {}: ends after {} of {} elements", origin, elements.size(), count);
    }
    const std::size_t length = length_at(bytes, at);
    if (length > left - kLengthBytes) {
      fail(Code::kInvalidArgument, "[infer] {}: element {} claims {} bytes, {} are left", origin, elements.size(),
           length, left - kLengthBytes);
    }
    elements.push_back(bytes.substr(at + kLengthBytes, length));
    at += kLengthBytes + length;
  }
  if (at != bytes.size()) {
    fail(Code::kInvalidArgument, "[infer] {}: {} bytes are left over after {} elements", origin, bytes.size() - at,
         count);
  }
  return elements;
}

void append_bytes(std::string& bytes, std::string_view element) {
  if (element.size() > std::numeric_limits<std::uint32_t>::max()) {
    fail(Code::kExhausted, "[infer] an element of {} bytes; a length of 32 bits cannot say that", element.size());
  }
  for (std::size_t i = 0; i < kLengthBytes; ++i) bytes += static_cast<char>(element.size() >> (8 * i) & 0xff);
  bytes += element;
}

void check_tensor(const WireTensor& tensor, std::string_view origin) {
  check_datatype(tensor.datatype, fmt::format("{}.datatype", origin));
  const std::int64_t count = element_count(tensor.shape, fmt::format("{}.shape", origin));
  if (tensor.datatype == "BYTES") {
    split_bytes(tensor.bytes, count, origin);
    return;
  }
  const std::int64_t bytes = count * datatype_bytes(tensor.datatype);  // below 2^56
  if (static_cast<std::int64_t>(tensor.bytes.size()) != bytes) {
    fail(Code::kInvalidArgument, "[infer] {}: holds {} bytes; its shape and {} make {}", origin, tensor.bytes.size(),
         tensor.datatype, bytes);
  }
  if (tensor.datatype != "BOOL") return;
  const auto odd = std::ranges::find_if(tensor.bytes, [](char c) { return c != 0 && c != 1; });
  if (odd == tensor.bytes.end()) return;
  fail(Code::kInvalidArgument, "[infer] {}: element {} of a BOOL tensor is {}; expected 0 or 1", origin,
       odd - tensor.bytes.begin(), static_cast<int>(static_cast<unsigned char>(*odd)));
}

void check_request(const InferenceRequest& request, const RequestLimits& limits) {
  check_name(request.id, limits, "id");
  check_parameters(request.parameters, limits, "parameters");
  if (request.inputs.empty()) {
    fail(Code::kInvalidArgument, "[infer] inputs: there are none; expected at least one tensor");
  }
  check_list(request.inputs, "inputs", limits);
  check_list(request.outputs, "outputs", limits);
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const std::string origin = fmt::format("inputs[{}]", i);
    check_shape(request.inputs[i], limits, origin);
    check_tensor(request.inputs[i], origin);
  }
}

}  // namespace recast
