#pragma once
#include <chrono>
#include <optional>
#include <string>

namespace recast {

enum class MessageKind : unsigned char {
  kData,
  kPulse,  ///< a sign of life
  kPart,   ///< a rank cannot go on
  kBye,    ///< the last one from a rank
  kGone,   ///< made by the receiver: the sender's process has ended
};

struct Message {
  int from = 0;
  MessageKind kind = MessageKind::kData;
  std::string bytes;
};

/// Messages between rank 0 and each other rank, in order for each pair. Threads: pulse() beside one other call.
class Wire {
 public:
  virtual ~Wire() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string name() const = 0;
  /// Queues a message; next() carries it on. Throws kExhausted: too long.
  virtual void send(int to, MessageKind kind, std::string bytes) = 0;
  /// Whether nothing is queued.
  virtual bool idle() = 0;
  /// Sends what can be sent, and returns what has arrived within `wait`, if anything.
  virtual std::optional<Message> next(std::chrono::milliseconds wait) = 0;
  /// A kPulse to each rank at the other end to whom nothing is queued. Never waits.
  virtual void pulse() = 0;
  /// The end. together: all others are there and do the same.
  virtual void close(bool together) = 0;
};

}  // namespace recast
