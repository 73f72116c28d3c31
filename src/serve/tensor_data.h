#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

/// Makes a tensor's bytes of the values of its `data` array as a parser meets them: numbers, booleans or texts, in one
/// list or in lists as nested as the shape is, never in both ways. The parser's events are its functions.
/// Throws, all of them: kInvalidArgument with the element's place, "inputs[1].data[3]".
class TensorData {
 public:
  /// `origin`: "inputs[1]". `most_values`: no more will come, whatever the shape says; bounds what is allocated ahead.
  TensorData(std::string origin, const std::string& datatype, std::vector<std::int64_t> shape, std::size_t most_values);

  void open_list();  ///< the first one is `data` itself
  void close_list();
  void add_null();
  void add(bool value);
  void add(std::uint64_t value);
  void add(std::int64_t value);  ///< negative, or 0: written -0
  void add(double value, const std::string& text);
  void add(const std::string& value);

  /// The place of the value that comes next.
  std::string place() const;
  /// Once the first list is closed.
  std::string take() { return std::move(bytes_); }

 private:
  enum class Element { kBool, kUint8, kUint16, kUint32, kUint64, kInt8, kInt16, kInt32, kInt64, kFp32, kFp64, kBytes };
  enum class Form { kUnknown, kFlat, kNested };
  static Element element_of(const std::string& datatype, const std::string& origin);

  /// Whether one more value may stand here; counts it.
  void begin_value();
  void begin_child_list();
  [[noreturn]] void refuse(std::string_view got, std::string_view expected) const;
  std::string expected() const;
  bool is_real() const { return element_ == Element::kFp32 || element_ == Element::kFp64; }
  template <class T>
  void put(T value);
  template <class T, class Given>
  void put_whole(Given value);
  template <class Given>
  void add_whole(Given value);
  float as_float(double value, const std::string& text) const;

  std::string origin_, datatype_;
  Element element_;
  std::vector<std::int64_t> shape_;
  std::int64_t count_;
  Form form_ = Form::kUnknown;
  std::vector<std::int64_t> counts_;  ///< entries so far of each open list
  std::string bytes_;
};

}  // namespace recast
