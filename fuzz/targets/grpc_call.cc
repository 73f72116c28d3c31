// Messages of all calls over gRPC but the stream's, which are those of one of them: they parse the same whole and in
// pieces, and unpack to no more memory than was counted.
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

#include "serve/grpc_messages.h"
#include "serve/health.pb.h"
#include "serve/wire_cost.h"
#include "target.h"

using namespace recast;

namespace {

using google::protobuf::Message;

template <class Request>
const Message* kind() {
  return &Request::default_instance();
}

const Message* const kKinds[] = {
    kind<inference::ModelInferRequest>(),          kind<inference::ServerLiveRequest>(),
    kind<inference::ServerReadyRequest>(),         kind<inference::ServerMetadataRequest>(),
    kind<inference::ModelReadyRequest>(),          kind<inference::ModelMetadataRequest>(),
    kind<inference::ModelStatisticsRequest>(),     kind<inference::RepositoryIndexRequest>(),
    kind<inference::RepositoryModelLoadRequest>(), kind<inference::RepositoryModelUnloadRequest>(),
    kind<grpc::health::v1::HealthCheckRequest>()};

constexpr std::int64_t kMostBytes = 64 << 10;

std::unique_ptr<Message> parsed(const Message& kind, std::string_view bytes, int piece) {
  std::unique_ptr<Message> message(kind.New());
  const OpenStream open = [&] {
    return std::make_unique<google::protobuf::io::ArrayInputStream>(bytes.data(), static_cast<int>(bytes.size()),
                                                                    piece);
  };
  const auto taken = fuzz::accepted([&] {
    parse_message(open, *message, kMostBytes);
    return true;
  });
  return taken ? std::move(message) : nullptr;
}

/// Whatever passes within a number of bytes takes no more than about that many.
void check_space(const Message& message, std::string_view bytes, std::int64_t most_bytes) {
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  const auto within = fuzz::accepted([&] {
    check_wire_cost(stream, *message.GetDescriptor(), most_bytes);
    return true;
  });
  RECAST_FUZZ_CHECK(!within || static_cast<std::int64_t>(message.SpaceUsedLong()) <= 2 * most_bytes);
}

}  // namespace

/// The first byte: which message, and how much it may take; the second: how long the pieces are.
RECAST_FUZZ_TARGET(grpc_call) {
  if (bytes.size() < 2) return;
  const Message& kind = *kKinds[static_cast<unsigned char>(bytes[0]) % std::size(kKinds)];
  const std::int64_t most_bytes = std::int64_t{1024} << (static_cast<unsigned char>(bytes[0]) >> 4);
  const int piece = 1 + static_cast<unsigned char>(bytes[1]);
  bytes.remove_prefix(2);
  const auto whole = parsed(kind, bytes, std::max(static_cast<int>(bytes.size()), 1));
  const auto pieces = parsed(kind, bytes, piece);
  RECAST_FUZZ_CHECK((whole == nullptr) == (pieces == nullptr));
  if (!whole) return;
  check_space(*whole, bytes, most_bytes);
  RECAST_FUZZ_CHECK(whole->ByteSizeLong() == pieces->ByteSizeLong() && whole->DebugString() == pieces->DebugString());
}
