#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "recast/base/error.h"

namespace recast {

class Wire;

/// Several ranks cannot go on together: one is gone or silent (kUnavailable), or failed (its code). The text names it.
class RanksParted : public Error {
 public:
  using Error::Error;
};

/// How ranks find each other and how long they are patient.
struct RanksOptions {
  std::chrono::milliseconds silence{30'000};   ///< a rank that is not heard for so long is lost; 100 ms or more
  std::chrono::milliseconds joining{300'000};  ///< for all ranks to come
};

/// The processes that work on one command, numbered from 0, as one of them sees them. Rank 0 is in the middle: the
/// others exchange messages with it alone. Every operation is to be called by all ranks, in the same order; sums are
/// made by rank 0 in the order of ranks, in double, so that all get the same bits, which depend on nothing but the
/// values and their distribution. Each process sends a sign of life about ten times within `silence`, from a thread of
/// its own, so a rank may compute for as long as it likes.
/// Threads  one at a time.
/// Throws   all operations: RanksParted. After that only leave() and the destructor may be called.
class Ranks {
 public:
  /// A rank of its own, for which every operation is done at once.
  Ranks();
  /// Throws kInvalidArgument: a silence that is too short.
  Ranks(std::unique_ptr<Wire> wire, const RanksOptions& options);
  /// Waits a moment for the others to end, too.
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool first() const { return rank_ == 0; }
  bool alone() const { return size_ == 1; }
  /// What carries the messages: "Open MPI", "TCP", or "none" for a rank that is alone.
  std::string carrier() const;

  /// Replaces values by their sums over ranks: each is added up in double and rounded once. Equal counts everywhere.
  void sum(std::span<float> values);
  void sum(std::span<double> values);
  /// Rank 0's bytes, on every rank.
  std::string broadcast(std::string bytes);
  /// The bytes of every rank, in the order of ranks, on every rank.
  std::vector<std::string> gather(std::string bytes);

  /// This rank fails: the others learn why and throw it as RanksParted. Nothing after the ranks have parted.
  void leave(Code code, std::string_view why) noexcept;

  /// Bytes of the operations above that this rank has sent and received, without framing and signs of life.
  std::int64_t sent_bytes() const { return sent_bytes_; }
  std::int64_t received_bytes() const { return received_bytes_; }

 private:
  class Talk;
  template <class T>
  void sum_all(std::span<T> values);
  void send(int to, std::string bytes);
  std::string receive(int from);

  int rank_ = 0, size_ = 1;
  std::int64_t sent_bytes_ = 0, received_bytes_ = 0;
  std::unique_ptr<Talk> talk_;  ///< null: alone
};

/// The ranks that the environment tells of:
/// mpirun of Open MPI   OMPI_COMM_WORLD_SIZE; its library is opened now, so that a program without it runs as well.
/// torchrun's variables RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT: messages go over TCP, to rank 0 at MASTER_ADDR.
/// Neither, or one rank: alone.
/// Nothing on these ways is authenticated or encrypted; see docs/ranks.md.
/// Throws  kInvalidArgument: variables that cannot be right;  kUnsupported: another MPI than Open MPI, or none;
///         kUnavailable: not all ranks came.
std::unique_ptr<Ranks> open_ranks(const RanksOptions& options = {});

/// For what ranks do not share: how many processes the launcher started, as its rank 0 is told; 1 for all others.
int processes_led();

}  // namespace recast
