#include "recast/serve/infer_body.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base64.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "tensor_data.h"

namespace recast {
namespace {

using nlohmann::json;

constexpr std::size_t kMostNumberBytes = 1024;

bool ends_word(char c) {
  static constexpr auto kEnds = [] {
    std::array<bool, 256> ends{};
    for (const char sign : std::string_view(" \t\r\n,:[]{}\"")) ends[static_cast<unsigned char>(sign)] = true;
    return ends;
  }();
  return kEnds[static_cast<unsigned char>(c)];
}

/// Refuses, before the JSON library sees them, a NUL (which it takes for the end) and a text or number so long that
/// its copies of it would matter.
void check_tokens(std::string_view text, const InferBodyLimits& limits) {
  if (const auto nul = text.find('\0'); nul != text.npos) {
    fail(Code::kInvalidArgument, "[infer] the body is not valid JSON at byte {}: a NUL byte", nul + 1);
  }
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (text[at++] == '"') {
      while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
      at = std::min(at + 1, text.size());
      if (at - begin <= limits.text_bytes) continue;
      fail(Code::kExhausted, "[infer] the body holds a text of over {} bytes at byte {}; send it as binary data",
           limits.text_bytes, begin + 1);
    }
    if (ends_word(text[begin])) continue;
    while (at < text.size() && !ends_word(text[at])) ++at;
    if (at - begin > kMostNumberBytes) {
      fail(Code::kInvalidArgument, "[infer] the body holds a number of {} bytes at byte {}; at most {} are accepted",
           at - begin, begin + 1, kMostNumberBytes);
    }
  }
}

/// Builds a tree of the request while it is parsed, in which each `data` is an empty list: its values go straight into
/// the bytes of their tensor. Where datatype and shape follow behind `data`, it is passed over, and a second reading,
/// which knows them from the first, takes it.
class BodyReader final : public nlohmann::json_sax<json> {
 public:
  /// `earlier`: the tree of the first reading.
  BodyReader(const InferBodyLimits& limits, std::size_t body_bytes, const json* earlier = nullptr)
      : limits_(limits), body_bytes_(body_bytes), earlier_(earlier) {}

  bool null() override {
    if (in_data_ == 0) return put(nullptr);
    if (data_) data_->add_null();
    return true;
  }
  bool boolean(bool value) override { return take_value(value); }
  bool number_integer(number_integer_t value) override { return take_value(value); }
  bool number_unsigned(number_unsigned_t value) override { return take_value(value); }
  bool number_float(number_float_t value, const string_t& text) override {
    if (in_data_ == 0) return put(value);
    if (data_) data_->add(value, text);
    return true;
  }
  bool string(string_t& value) override { return in_data_ == 0 ? put(std::move(value)) : take_value(value); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    if (in_data_ > 0) fail(Code::kInvalidArgument, "[infer] {}: an object; expected a value", where());
    return open(json::object());
  }
  bool end_object() override {
    open_.pop_back();
    return true;
  }

  bool key(string_t& value) override {
    Open& object = open_.back();
    object.key.clear();
    if (object.value->contains(value)) {
      fail(Code::kInvalidArgument, "[infer] {}: the key \"{}\" is given twice in one object; a key may occur once",
           where(), printable(value));
    }
    count();
    object.key = std::move(value);
    return true;
  }

  bool start_array(std::size_t) override {
    if (in_data_ > 0 || at_data()) return open_data();
    return open(json::array());
  }
  bool end_array() override {
    if (in_data_ == 0) {
      open_.pop_back();
      return true;
    }
    if (data_) data_->close_list();
    if (--in_data_ > 0) return true;
    if (data_) bytes_[tensor_index()] = data_->take();
    data_.reset();
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view reason = error.what();
    if (const auto after_tag = reason.find("] "); after_tag != reason.npos) reason.remove_prefix(after_tag + 2);
    fail(Code::kInvalidArgument, "[infer] {}: not valid JSON at byte {}: {}", where(), position,
         printable(reason, 200));
  }

  bool passed_data_over() const { return passed_over_; }
  json take_tree() { return std::move(root_); }
  /// By tensor; those whose `data` was an array, and only they, are there.
  std::map<std::size_t, std::string> take_bytes() { return std::move(bytes_); }

 private:
  struct Open {
    json* value;      // stays where it is: nothing is added to its parent before it closes
    std::string key;  // of an object: the one at work
  };

  template <class Value>
  bool take_value(const Value& value) {
    if (in_data_ == 0) return put(value);
    if (data_) data_->add(value);
    return true;
  }

  json* add(json value) {
    count();
    if (open_.empty()) return &(root_ = std::move(value));
    const Open& parent = open_.back();
    if (parent.value->is_object()) return &((*parent.value)[parent.key] = std::move(value));
    parent.value->push_back(std::move(value));
    return &parent.value->back();
  }
  bool put(json value) { return add(std::move(value)) != nullptr; }

  void count() {
    if (++values_ <= limits_.values) return;
    fail(Code::kExhausted, "[infer] {}: more than {} keys and values beside the data; at most that many are accepted",
         where(), limits_.values);
  }

  void check_depth() const {
    if (open_.size() + in_data_ < limits_.depth) return;
    fail(Code::kExhausted, "[infer] {}: nested deeper than {} levels", where(), limits_.depth);
  }

  bool open(json value) {
    check_depth();
    open_.push_back({add(std::move(value)), {}});
    return true;
  }

  /// At inputs[i].data.
  bool at_data() const {
    return open_.size() == 3 && open_[0].key == "inputs" && open_[1].value->is_array() && open_[2].value->is_object() &&
           open_[2].key == "data";
  }
  std::size_t tensor_index() const { return open_[1].value->size() - 1; }

  bool open_data() {
    check_depth();
    if (in_data_++ == 0) begin_data();
    if (data_) data_->open_list();
    return true;
  }
  void begin_data();

  /// The place in the request: "inputs[1].data[3]".
  std::string where() const {
    if (data_) return data_->place();
    std::string place;
    for (const Open& open : open_) {
      if (open.value->is_array()) {  // its last entry is open itself, or else the next one is meant
        place += fmt::format("[{}]", open.value->size() - (&open == &open_.back() ? 0 : 1));
      } else if (!open.key.empty()) {
        place += (place.empty() ? "" : ".") + printable(open.key, 40);
      }
    }
    return place.empty() ? "the body" : place;
  }

  const InferBodyLimits& limits_;
  std::size_t body_bytes_;
  const json* earlier_;
  json root_;
  std::vector<Open> open_;
  std::size_t values_ = 0;
  std::size_t in_data_ = 0;         // lists open within a `data`, itself included
  std::optional<TensorData> data_;  // nothing within `data`: it is passed over
  bool passed_over_ = false;
  std::map<std::size_t, std::string> bytes_;
};

/// A value as a message shows it.
std::string shown(const json& value) {
  if (value.is_string()) return "'" + printable(value.get_ref<const std::string&>(), 60) + "'";
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  return value.dump();
}

[[noreturn]] void refuse(std::string_view place, const json& got, std::string_view expected) {
  fail(Code::kInvalidArgument, "[infer] {}: is {}; expected {}", place, shown(got), expected);
}

/// An entry of an object; null where there is none, or where it is null, as some clients write it.
const json* entry(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_of(const json& object, const char* key, const std::string& prefix, bool required = false) {
  const json* value = entry(object, key);
  if (!value && !required) return "";
  if (!value) fail(Code::kInvalidArgument, "[infer] {}{}: is missing; expected a text", prefix, key);
  if (!value->is_string()) refuse(prefix + key, *value, "a text");
  return value->get<std::string>();
}

std::vector<std::int64_t> shape_of(const json& tensor, const std::string& origin) {
  const json* list = entry(tensor, "shape");
  if (!list) fail(Code::kInvalidArgument, "[infer] {}.shape: is missing; expected a list of whole numbers", origin);
  if (!list->is_array()) refuse(origin + ".shape", *list, "a list of whole numbers");
  std::vector<std::int64_t> shape;
  for (const json& dimension : *list) {
    const std::string place = fmt::format("{}.shape[{}]", origin, shape.size());
    constexpr std::string_view kExpected = "a whole number from 0 to 2^53";
    if (!dimension.is_number_unsigned()) refuse(place, dimension, kExpected);
    const auto value = dimension.get<std::uint64_t>();
    if (value > std::uint64_t{1} << 53) refuse(place, dimension, kExpected);
    shape.push_back(static_cast<std::int64_t>(value));
  }
  return shape;
}

void check_keys(const json& object, const std::vector<std::string>& known, const std::string& prefix) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    const std::string near = nearest(key, known);
    const std::string others =
        near.empty() ? fmt::format("; known are {}", fmt::join(known, ", ")) : fmt::format(", did you mean '{}'", near);
    fail(Code::kInvalidArgument,
         "[infer] {}{}: is not known here{}; what is beyond the protocol goes into \"parameters\"", prefix,
         printable(key), others);
  }
}

json parameters_of(const json& object, const std::string& origin) {
  const json* parameters = entry(object, "parameters");
  if (!parameters) return json::object();
  if (!parameters->is_object()) refuse(origin + "parameters", *parameters, "an object");
  const auto is_shared = [](const auto& item) { return item.key().starts_with("shared_memory_"); };
  for (const auto& item : parameters->items()) {
    if (!is_shared(item)) continue;
    fail(Code::kInvalidArgument, "[infer] {}parameters.{}: shared memory is not served; send the data in the body",
         origin, printable(item.key()));
  }
  return *parameters;
}

/// Takes a parameter of that kind out of `parameters`.
std::optional<bool> take_flag(json& parameters, const char* key, const std::string& prefix) {
  const auto found = parameters.find(key);
  if (found == parameters.end()) return std::nullopt;
  if (!found->is_boolean()) refuse(prefix + "parameters." + key, *found, "true or false");
  const bool value = found->get<bool>();
  parameters.erase(found);
  return value;
}

std::optional<std::size_t> take_size(json& parameters, const char* key, const std::string& origin) {
  const auto found = parameters.find(key);
  if (found == parameters.end()) return std::nullopt;
  if (!found->is_number_unsigned()) refuse(origin + ".parameters." + key, *found, "a whole number of bytes from 0");
  const auto value = found->get<std::size_t>();
  parameters.erase(found);
  return value;
}

bool take_base64(json& parameters) {
  const auto found = parameters.find("content_type");
  if (found == parameters.end() || *found != "base64") return false;
  parameters.erase(found);
  return true;
}

void decode_elements(WireTensor& tensor, const std::string& origin) {
  const std::int64_t count = element_count(tensor.shape, origin + ".shape");
  std::string decoded;
  std::size_t index = 0;
  for (const std::string_view text : split_bytes(tensor.bytes, count, origin)) {
    const std::optional<std::string> bytes = decode_base64(text);
    if (!bytes) {
      fail(Code::kInvalidArgument,
           "[infer] {}: element {} of data is no base64; expected padded text without line breaks", origin, index);
    }
    append_bytes(decoded, *bytes);
    ++index;
  }
  tensor.bytes = std::move(decoded);
}

void BodyReader::begin_data() {
  add(json::array());
  const std::size_t index = tensor_index();
  const json& tensor = earlier_ ? (*earlier_)["inputs"][index] : *open_[2].value;
  passed_over_ = !entry(tensor, "datatype") || !entry(tensor, "shape") || passed_over_;
  if (!entry(tensor, "datatype") || !entry(tensor, "shape")) return;
  const std::string origin = fmt::format("inputs[{}]", index);
  data_.emplace(origin, text_of(tensor, "datatype", origin + ".", true), shape_of(tensor, origin), body_bytes_ / 2 + 1);
}

/// Makes the request of what was parsed, handing out the bytes behind the JSON.
class RequestMaker {
 public:
  RequestMaker(std::map<std::size_t, std::string> bytes, std::string_view behind)
      : bytes_(std::move(bytes)), behind_(behind) {}

  InferenceRequest make(const json& root, const RequestLimits& limits) {
    check_keys(root, {"id", "inputs", "model_name", "model_version", "outputs", "parameters"}, "");
    InferenceRequest request;
    request.id = text_of(root, "id", "");
    request.model = text_of(root, "model_name", "");
    request.version = text_of(root, "model_version", "");
    request.parameters = parameters_of(root, "");
    request.binary_outputs = take_flag(request.parameters, "binary_data_output", "").value_or(false);
    const json& inputs = list_of(root, "inputs", limits);
    for (std::size_t i = 0; i < inputs.size(); ++i) request.inputs.push_back(input(inputs[i], i));
    const json& outputs = list_of(root, "outputs", limits);
    for (std::size_t i = 0; i < outputs.size(); ++i)
      request.outputs.push_back(output(outputs[i], i, request.binary_outputs));
    if (!behind_.empty()) {
      fail(Code::kInvalidArgument,
           "[infer] the body: {} bytes are left over behind the JSON; the sum of binary_data_size must be all that "
           "follow",
           behind_.size());
    }
    return request;
  }

 private:
  /// Ahead of the work on each of them.
  static const json& list_of(const json& root, const char* key, const RequestLimits& limits) {
    static const json kNone = json::array();
    const json* list = entry(root, key);
    if (!list) return kNone;
    if (!list->is_array()) refuse(key, *list, "a list");
    if (list->size() > limits.tensors) {
      fail(Code::kExhausted, "[infer] {}: {} of them; at most {} are accepted in a request", key, list->size(),
           limits.tensors);
    }
    return *list;
  }

  WireTensor input(const json& given, std::size_t index) {
    const std::string origin = fmt::format("inputs[{}]", index), prefix = origin + ".";
    if (!given.is_object()) refuse(origin, given, "an object");
    check_keys(given, {"data", "datatype", "name", "parameters", "shape"}, prefix);
    WireTensor tensor{.name = text_of(given, "name", prefix, true),
                      .datatype = text_of(given, "datatype", prefix, true),
                      .shape = shape_of(given, origin),
                      .bytes = {},
                      .parameters = parameters_of(given, prefix)};
    check_datatype(tensor.datatype, prefix + "datatype");
    const bool base64 = take_base64(tensor.parameters);
    const std::optional<std::size_t> size = take_size(tensor.parameters, "binary_data_size", origin);
    const json* data = entry(given, "data");
    if (base64 && (size || tensor.datatype != "BYTES")) {
      fail(Code::kInvalidArgument,
           "[infer] {}.parameters.content_type: base64 is for BYTES within the JSON; leave it out", origin);
    }
    if (data && size) {
      fail(Code::kInvalidArgument, "[infer] {}: has \"data\" and binary_data_size; expected one of them", origin);
    }
    if (size) {
      tensor.bytes = take_behind(*size, origin);
    } else if (data) {
      if (!data->is_array()) refuse(prefix + "data", *data, "a list");
      tensor.bytes = std::move(bytes_[index]);
    } else {
      fail(Code::kInvalidArgument,
           "[infer] {}: has no data; expected \"data\", or binary_data_size among its parameters", origin);
    }
    if (base64) decode_elements(tensor, origin);
    return tensor;
  }

  std::string take_behind(std::size_t size, const std::string& origin) {
    if (size > behind_.size()) {
      fail(Code::kInvalidArgument,
           "[infer] {}.parameters.binary_data_size: {} bytes, but {} are left behind the JSON (whose length the header "
           "Inference-Header-Content-Length says)",
           origin, size, behind_.size());
    }
    std::string bytes(behind_.substr(0, size));
    behind_.remove_prefix(size);
    return bytes;
  }

  static WireOutput output(const json& given, std::size_t index, bool binary) {
    const std::string origin = fmt::format("outputs[{}]", index), prefix = origin + ".";
    if (!given.is_object()) refuse(origin, given, "an object");
    check_keys(given, {"name", "parameters"}, prefix);
    WireOutput output{.name = text_of(given, "name", prefix, true), .parameters = parameters_of(given, prefix)};
    output.binary = take_flag(output.parameters, "binary_data", prefix).value_or(binary);
    const auto classes = output.parameters.find("classification");
    if (classes != output.parameters.end() && !(classes->is_number_unsigned() && *classes > 0)) {
      refuse(prefix + "parameters.classification", *classes, "a whole number of classes from 1");
    }
    return output;
  }

  std::map<std::size_t, std::string> bytes_;
  std::string_view behind_;
};

void read(std::string_view text, BodyReader& reader) {
  if (!json::sax_parse(text.begin(), text.end(), &reader)) {
    fail(Code::kInvalidArgument, "[infer] the body is not valid JSON");
  }
}

InferenceRequest read_request(std::string_view text, std::string_view behind, const InferBodyLimits& limits) {
  BodyReader first(limits, text.size());
  read(text, first);
  const json tree = first.take_tree();
  if (!tree.is_object()) refuse("the body", tree, "an object");
  if (!first.passed_data_over()) return RequestMaker(first.take_bytes(), behind).make(tree, limits.request);
  first.take_bytes();  // those that were not passed over: they are read once more
  BodyReader second(limits, text.size(), &tree);
  read(text, second);
  return RequestMaker(second.take_bytes(), behind).make(tree, limits.request);
}

}  // namespace

InferenceRequest parse_infer_body(std::string_view body, std::optional<std::size_t> json_bytes,
                                  const InferBodyLimits& limits) {
  const std::size_t length = json_bytes.value_or(body.size());
  if (length > body.size()) {
    fail(Code::kInvalidArgument,
         "[infer] the header Inference-Header-Content-Length says {} bytes of JSON; the body has {}", length,
         body.size());
  }
  if (length == 0) {
    fail(Code::kInvalidArgument,
         "[infer] the body holds no JSON; expected an object with \"inputs\", also where the data are binary");
  }
  const std::string_view text = body.substr(0, length);
  if (text.starts_with("\xef\xbb\xbf")) {
    fail(Code::kInvalidArgument, "[infer] the body begins with a byte order mark; expected UTF-8 without one");
  }
  check_tokens(text, limits);
  InferenceRequest request = read_request(text, body.substr(length), limits);
  check_request(request, limits.request);
  return request;
}

BinaryOutputs::BinaryOutputs(const InferenceRequest& request) : others_(request.binary_outputs) {
  for (const WireOutput& output : request.outputs) listed_[output.name] = output.binary;
}

bool BinaryOutputs::wants(const std::string& output) const {
  const auto found = listed_.find(output);
  return found == listed_.end() ? others_ : found->second;
}

}  // namespace recast
