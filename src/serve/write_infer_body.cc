#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>

#include "recast/base/error.h"
#include "recast/format/utf8.h"
#include "recast/serve/infer_body.h"

namespace recast {
namespace {

using nlohmann::json;

template <class T>
void write_number(T value, std::string& out) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  out.append(text, end);
}

template <class T>
void write_real(T value, std::string& out, const std::string& output) {
  if (!std::isfinite(value)) {
    fail(Code::kInternal, "[infer] the output '{}' holds NaN or infinite values, for which JSON has no text", output);
  }
  write_number(value, out);
  // Readers take "-0" for a whole number, which has no sign then.
  if (value == 0 && std::signbit(value)) out += ".0";
}

/// Writes the elements of one datatype, `write` each.
template <class T, class Write>
void write_list(const std::string& bytes, std::string& out, const Write& write) {
  for (std::size_t at = 0; at + sizeof(T) <= bytes.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    if (at > 0) out += ',';
    write(value);
  }
}

template <class T>
void write_whole(const WireTensor& tensor, std::string& out) {
  write_list<T>(tensor.bytes, out, [&](T value) { write_number(value, out); });
}

template <class T>
void write_reals(const WireTensor& tensor, std::string& out) {
  write_list<T>(tensor.bytes, out, [&](T value) { write_real(value, out, tensor.name); });
}

void write_booleans(const WireTensor& tensor, std::string& out) {
  write_list<char>(tensor.bytes, out, [&](char value) { out += value != 0 ? "true" : "false"; });
}

void write_texts(const WireTensor& tensor, std::string& out) {
  bool first = true;
  for (const std::string_view text : split_bytes(tensor.bytes, element_count(tensor.shape, tensor.name), tensor.name)) {
    if (!is_utf8(text)) {
      fail(Code::kInvalidArgument,
           "[infer] the output '{}' holds bytes that are no UTF-8 text; ask for it with binary_data", tensor.name);
    }
    if (!std::exchange(first, false)) out += ',';
    out += json(text).dump();
  }
}

using Writer = void (*)(const WireTensor&, std::string&);

Writer writer_of(const WireTensor& tensor) {
  static const std::map<std::string_view, Writer> kWriters{{"BOOL", write_booleans},
                                                           {"UINT8", write_whole<std::uint8_t>},
                                                           {"UINT16", write_whole<std::uint16_t>},
                                                           {"UINT32", write_whole<std::uint32_t>},
                                                           {"UINT64", write_whole<std::uint64_t>},
                                                           {"INT8", write_whole<std::int8_t>},
                                                           {"INT16", write_whole<std::int16_t>},
                                                           {"INT32", write_whole<std::int32_t>},
                                                           {"INT64", write_whole<std::int64_t>},
                                                           {"FP32", write_reals<float>},
                                                           {"FP64", write_reals<double>},
                                                           {"BYTES", write_texts}};
  const auto found = kWriters.find(tensor.datatype);
  if (found != kWriters.end()) return found->second;
  fail(Code::kInvalidArgument, "[infer] the output '{}' is {}, which JSON has no text for; ask for it with binary_data",
       tensor.name, tensor.datatype);
}

/// {"name": ..., "datatype": ..., "shape": [...], and parameters or data}, the values written as they come.
void write_output(const WireTensor& tensor, bool binary, std::string& out) {
  json head = {{"name", tensor.name}, {"datatype", tensor.datatype}, {"shape", tensor.shape}};
  json parameters = tensor.parameters;
  if (binary) parameters["binary_data_size"] = tensor.bytes.size();
  if (!parameters.empty()) head["parameters"] = std::move(parameters);
  out += head.dump();
  if (binary) return;
  out.back() = ',';
  out += "\"data\":[";
  writer_of(tensor)(tensor, out);
  out += "]}";
}

}  // namespace

InferBody write_infer_body(const InferenceResponse& response, const BinaryOutputs& binary) {
  json head = {{"model_name", response.model}};
  if (!response.version.empty()) head["model_version"] = response.version;
  if (!response.id.empty()) head["id"] = response.id;
  if (!response.parameters.empty()) head["parameters"] = response.parameters;
  InferBody body;
  body.bytes = head.dump();
  body.bytes.back() = ',';
  body.bytes += "\"outputs\":[";
  bool any_binary = false;
  for (const WireTensor& tensor : response.outputs) {
    if (&tensor != &response.outputs.front()) body.bytes += ',';
    const bool is_binary = binary.wants(tensor.name);
    write_output(tensor, is_binary, body.bytes);
    any_binary = any_binary || is_binary;
  }
  body.bytes += "]}";
  if (!any_binary) return body;
  body.json_bytes = body.bytes.size();
  for (const WireTensor& tensor : response.outputs)
    if (binary.wants(tensor.name)) body.bytes += tensor.bytes;
  return body;
}

std::string write_error_body(std::string_view message) {
  return json({{"error", message}}).dump(-1, ' ', true, json::error_handler_t::replace);
}

}  // namespace recast
