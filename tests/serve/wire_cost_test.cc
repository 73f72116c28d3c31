#include "serve/wire_cost.h"

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "serve/inference.pb.h"

namespace recast {
namespace {

void check_cost(const std::string& bytes, std::int64_t budget) {
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  check_wire_cost(stream, *inference::ModelInferRequest::descriptor(), budget);
}

/// The memory that a message takes, which is no more than twice what was counted.
std::int64_t parsed_bytes(const std::string& bytes) {
  inference::ModelInferRequest message;
  EXPECT_TRUE(message.ParseFromString(bytes));
  return static_cast<std::int64_t>(message.SpaceUsedLong());
}

std::string repeated(const std::string& field, int times) {
  std::string bytes;
  for (int i = 0; i < times; ++i) bytes += field;
  return bytes;
}

TEST(WireCost, CountsFieldsThatTheTypeDoesNotHave) {
  // Of a number that there is not, and of another wire type than the number's: of two bytes the parser makes 16 and
  // more.
  for (const std::string field : {"\x78\x05", "\x08\x05", "\x7a\x01x", "\x0d\1\1\1\1", "\x79\1\1\1\1\1\1\1\1"}) {
    const std::string bytes = repeated(field, 10'000);
    const std::int64_t taken = parsed_bytes(bytes);
    error_of(Code::kExhausted, [&] { check_cost(bytes, taken / 2); });
  }
}

TEST(WireCost, CountsWhatTheTypeHas) {
  for (const std::string& field : {std::string("\x2a\0", 2), std::string("\x32\0", 2), std::string("\x3a\0", 2)}) {
    const std::string bytes = repeated(field, 10'000);
    const std::int64_t taken = parsed_bytes(bytes);
    error_of(Code::kExhausted, [&] { check_cost(bytes, taken / 2); });
    check_cost(bytes, 2 * taken);
  }
}

}  // namespace
}  // namespace recast
