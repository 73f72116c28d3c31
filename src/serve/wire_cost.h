#pragma once
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/zero_copy_stream.h>

#include <cstdint>

namespace recast {

/// Walks over the bytes of a message of this type, building nothing, and adds up the memory that it would take once
/// parsed. Time grows with the number of fields.
/// Throws kExhausted: more than `budget` bytes; kInvalidArgument: no message.
void check_wire_cost(google::protobuf::io::ZeroCopyInputStream& stream, const google::protobuf::Descriptor& type,
                     std::int64_t budget);

}  // namespace recast
