#include "tensor_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/serve/inference.h"

namespace recast {

static_assert(std::endian::native == std::endian::little, "tensors on the wire are little endian");

TensorData::TensorData(std::string origin, const std::string& datatype, std::vector<std::int64_t> shape,
                       std::size_t most_values)
    : origin_(std::move(origin)),
      datatype_(datatype),
      element_(element_of(datatype, origin_)),
      shape_(std::move(shape)),
      count_(element_count(shape_, origin_ + ".shape")) {
  const auto width = static_cast<std::size_t>(std::max<std::int64_t>(datatype_bytes(datatype_), 4));
  bytes_.reserve(std::min(static_cast<std::size_t>(count_), most_values) * width);
}

TensorData::Element TensorData::element_of(const std::string& datatype, const std::string& origin) {
  using enum Element;
  static constexpr std::pair<std::string_view, Element> kElements[] = {
      {"BOOL", kBool},     {"UINT8", kUint8}, {"UINT16", kUint16}, {"UINT32", kUint32},
      {"UINT64", kUint64}, {"INT8", kInt8},   {"INT16", kInt16},   {"INT32", kInt32},
      {"INT64", kInt64},   {"FP32", kFp32},   {"FP64", kFp64},     {"BYTES", kBytes}};
  check_datatype(datatype, origin + ".datatype");
  for (const auto& [name, element] : kElements)
    if (name == datatype) return element;
  fail(Code::kInvalidArgument, "[infer] {}.data: JSON has no {}; send it as binary data, with binary_data_size", origin,
       datatype);
}

std::string TensorData::place() const {
  std::string place = origin_ + ".data";
  for (std::size_t i = 0; i < counts_.size(); ++i) {  // all but the last have counted the list that is open in them
    place += fmt::format("[{}]", counts_[i] - (i + 1 < counts_.size() ? 1 : 0));
  }
  return place;
}

void TensorData::refuse(std::string_view got, std::string_view expected) const {
  fail(Code::kInvalidArgument, "[infer] {}: {}; expected {}", place(), got, expected);
}

std::string TensorData::expected() const {
  if (element_ == Element::kBytes) return "a text (BYTES)";
  if (element_ == Element::kBool) return "true or false (BOOL)";
  return fmt::format("{} ({})", is_real() ? "a number" : "a whole number", datatype_);
}

void TensorData::open_list() {
  if (!counts_.empty()) begin_child_list();
  counts_.push_back(0);
}

void TensorData::begin_child_list() {
  if (form_ == Form::kFlat) refuse("a list among values", "values alone, or lists as nested as the shape");
  form_ = Form::kNested;
  if (counts_.size() >= shape_.size()) {
    refuse("a list", fmt::format("{}, as the shape has {} dimensions", expected(), shape_.size()));
  }
  const std::int64_t room = shape_[counts_.size() - 1];
  if (counts_.back() >= room) refuse("one list more", fmt::format("{}, as the shape says", room));
  ++counts_.back();
}

void TensorData::close_list() {
  const std::int64_t got = counts_.back();
  counts_.pop_back();
  const std::int64_t room = form_ == Form::kNested ? shape_[counts_.size()] : count_;
  if (got == room) return;
  if (!counts_.empty()) --counts_.back();  // the place of the list itself
  refuse(fmt::format("holds {} entries", got), fmt::format("{}, as the shape says", room));
}

void TensorData::begin_value() {
  if (form_ == Form::kUnknown) form_ = Form::kFlat;
  if (form_ == Form::kNested && counts_.size() < shape_.size()) {
    refuse("a value where lists have begun", fmt::format("a list, as the shape has {} dimensions", shape_.size()));
  }
  const std::int64_t room = form_ == Form::kNested ? shape_.back() : count_;
  if (counts_.back() >= room) refuse("one value more", fmt::format("{}, as the shape says", room));
}

template <class T>
void TensorData::put(T value) {
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  bytes_.append(raw, sizeof raw);
  ++counts_.back();
}

template <class T, class Given>
void TensorData::put_whole(Given value) {
  if (!std::in_range<T>(value)) {
    using Limits = std::numeric_limits<T>;
    refuse(fmt::format("{}", value),
           fmt::format("a whole number from {} to {} ({})", Limits::min(), Limits::max(), datatype_));
  }
  put(static_cast<T>(value));
}

template <class Given>
void TensorData::add_whole(Given value) {
  begin_value();
  switch (element_) {
    case Element::kUint8:
      return put_whole<std::uint8_t>(value);
    case Element::kUint16:
      return put_whole<std::uint16_t>(value);
    case Element::kUint32:
      return put_whole<std::uint32_t>(value);
    case Element::kUint64:
      return put_whole<std::uint64_t>(value);
    case Element::kInt8:
      return put_whole<std::int8_t>(value);
    case Element::kInt16:
      return put_whole<std::int16_t>(value);
    case Element::kInt32:
      return put_whole<std::int32_t>(value);
    case Element::kInt64:
      return put_whole<std::int64_t>(value);
    case Element::kFp32:
      return put(static_cast<float>(value));
    case Element::kFp64:
      return put(static_cast<double>(value));
    case Element::kBool:
    case Element::kBytes:
      refuse(fmt::format("{}", value), expected());
  }
}

void TensorData::add(std::uint64_t value) { add_whole(value); }

void TensorData::add(std::int64_t value) {
  if (value == 0 && is_real()) return add(-0.0, "-0");
  add_whole(value);
}

/// The text anew, since a double between would round twice.
float TensorData::as_float(double value, const std::string& text) const {
  float parsed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (whole) return parsed;
  const bool beyond = std::abs(value) > std::numeric_limits<float>::max();
  return beyond ? std::numeric_limits<float>::infinity() : static_cast<float>(value);
}

void TensorData::add(double value, const std::string& text) {
  begin_value();
  if (element_ == Element::kFp64 && std::isfinite(value)) return put(value);
  if (element_ == Element::kFp32) {
    const float rounded = as_float(value, text);
    if (std::isfinite(rounded)) return put(rounded);
  }
  const std::string range = is_real() ? fmt::format("a number within the range of {}", datatype_) : expected();
  refuse(printable(text, 40), range);
}

void TensorData::add(bool value) {
  begin_value();
  if (element_ != Element::kBool) refuse(value ? "true" : "false", expected());
  put(static_cast<std::uint8_t>(value));
}

void TensorData::add(const std::string& value) {
  begin_value();
  if (element_ != Element::kBytes) refuse("the text '" + printable(value, 40) + "'", expected());
  append_bytes(bytes_, value);
  ++counts_.back();
}

void TensorData::add_null() {
  begin_value();
  refuse("null", expected());
}

}  // namespace recast
