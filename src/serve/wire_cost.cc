// What a message of Protocol Buffers costs once it is parsed. Four bytes on the wire can become an object of a hundred,
// so that a message within the size limit could still take gigabytes: 64 MiB of empty tensors would.
#include "wire_cost.h"

#include <google/protobuf/io/coded_stream.h>

#include "recast/base/error.h"

namespace recast {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::io::CodedInputStream;

constexpr std::int64_t kMessageBytes = 160, kStringBytes = 48, kScalarBytes = 8;  ///< of an object, and a pointer to it
/// Of a field that the type does not have, beside its content: the parser keeps them in a list that doubles as it
/// grows.
constexpr std::int64_t kUnknownBytes = 48;
constexpr int kDepth = 32, kGroupDepth = 32;

enum WireType { kVarint = 0, kFixed64 = 1, kLength = 2, kGroup = 3, kGroupEnd = 4, kFixed32 = 5 };

/// How a field is written where it is not packed.
WireType wire_type(const FieldDescriptor& field) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_DOUBLE:
    case FieldDescriptor::TYPE_FIXED64:
    case FieldDescriptor::TYPE_SFIXED64:
      return kFixed64;
    case FieldDescriptor::TYPE_FLOAT:
    case FieldDescriptor::TYPE_FIXED32:
    case FieldDescriptor::TYPE_SFIXED32:
      return kFixed32;
    case FieldDescriptor::TYPE_STRING:
    case FieldDescriptor::TYPE_BYTES:
    case FieldDescriptor::TYPE_MESSAGE:
      return kLength;
    case FieldDescriptor::TYPE_GROUP:
      return kGroup;
    default:
      return kVarint;
  }
}

class Walk {
 public:
  Walk(CodedInputStream& in, const Descriptor& root, std::int64_t budget) : in_(in), root_(root), budget_(budget) {}

  void message(const Descriptor& type, int depth) {
    if (depth > kDepth) refuse();
    while (const std::uint32_t tag = in_.ReadTag())
      field(tag, type.FindFieldByNumber(static_cast<int>(tag >> 3)), depth);
    if (!in_.ConsumedEntireMessage()) refuse();
  }

 private:
  /// `field`: null where the type has none of this number.
  void field(std::uint32_t tag, const FieldDescriptor* field, int depth) {
    const auto wire = static_cast<WireType>(tag & 7);
    if (field != nullptr && wire_type(*field) != wire && !(wire == kLength && field->is_packable())) field = nullptr;
    const std::int64_t scalar = field == nullptr ? kUnknownBytes : kScalarBytes;
    switch (wire) {
      case kVarint: {
        std::uint64_t ignored;
        if (!in_.ReadVarint64(&ignored)) refuse();
        return add(scalar);
      }
      case kFixed64:
        return skip(8, scalar);
      case kFixed32:
        return skip(4, scalar);
      case kLength:
        return counted(field, depth);
      case kGroup:
        return group(tag >> 3, 0);
      default:
        refuse();
    }
  }

  void counted(const FieldDescriptor* field, int depth) {
    std::uint32_t length;
    if (!in_.ReadVarint32(&length) || length > static_cast<std::uint32_t>(budget_)) refuse();
    const int bytes = static_cast<int>(length);
    if (field != nullptr && field->type() == FieldDescriptor::TYPE_MESSAGE) {
      add(kMessageBytes);
      return inside(bytes, [&] { message(*field->message_type(), depth + 1); });
    }
    if (field != nullptr && field->is_packable()) return inside(bytes, [&] { packed(bytes, *field); });
    skip(bytes, (field == nullptr ? kUnknownBytes : 0) + kStringBytes + bytes);
  }

  void packed(int bytes, const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_FLOAT:
        return skip(bytes, bytes);
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return skip(bytes, bytes);
      default:
        break;
    }
    const bool wide =
        field.cpp_type() == FieldDescriptor::CPPTYPE_INT64 || field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
    const std::int64_t element = field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL ? 1 : wide ? 8 : 4;
    // Every value ends in the one byte of it that has no high bit.
    const void* data;
    for (int size = 0; in_.GetDirectBufferPointer(&data, &size) && size > 0;) {
      std::int64_t values = 0;
      for (int i = 0; i < size; ++i) values += static_cast<const signed char*>(data)[i] >= 0;
      skip(size, values * element);
    }
  }

  /// Unknown fields are kept by the parser.
  void group(std::uint32_t number, int depth) {
    if (depth > kGroupDepth) refuse();
    add(kMessageBytes);
    while (const std::uint32_t tag = in_.ReadTag()) {
      if ((tag & 7) == kGroupEnd) {
        if (tag >> 3 != number) refuse();
        return;
      }
      if ((tag & 7) == kGroup) {
        group(tag >> 3, depth + 1);
      } else {
        field(tag, nullptr, 0);
      }
    }
    refuse();
  }

  template <class Body>
  void inside(int bytes, const Body& body) {
    const auto outer = in_.PushLimit(bytes);
    if (in_.BytesUntilLimit() != bytes) refuse();  // longer than what holds it
    body();
    if (in_.BytesUntilLimit() != 0) refuse();
    in_.PopLimit(outer);
  }

  void skip(int bytes, std::int64_t cost) {
    add(cost);
    if (!in_.Skip(bytes)) refuse();
  }

  void add(std::int64_t bytes) {
    spent_ += bytes;
    if (spent_ > budget_) {
      fail(Code::kExhausted, "[grpc] the {} unpacks to more than {} bytes: send fewer rows at a time", root_.name(),
           budget_);
    }
  }

  [[noreturn]] void refuse() {
    fail(Code::kInvalidArgument, "[grpc] the message is no {}: cut off, or of another type", root_.name());
  }

  CodedInputStream& in_;
  const Descriptor& root_;
  const std::int64_t budget_;
  std::int64_t spent_ = 0;
};

}  // namespace

void check_wire_cost(google::protobuf::io::ZeroCopyInputStream& stream, const Descriptor& type, std::int64_t budget) {
  CodedInputStream in(&stream);
  Walk(in, type, budget).message(type, 0);
}

}  // namespace recast
