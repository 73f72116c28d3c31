#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "wire.h"

namespace recast {

/// What torchrun's variables say.
struct Launched {
  int rank = 0, size = 1;
  std::string address;      ///< MASTER_ADDR
  std::uint16_t port = 0;   ///< MASTER_PORT: of the store where ranks meet
  bool store_runs = false;  ///< the launcher's agent keeps that store; else rank 0 does
  std::string run;          ///< tells runs apart that meet in one store
};

/// Meets the other ranks: rank 0 listens at a port that the system chooses, and leaves its number, with a word to tell
/// its ranks by, in c10d's store. Throws kUnavailable: not all of them came in time.
std::unique_ptr<Wire> join_over_tcp(const Launched& launched, std::chrono::milliseconds patience);

}  // namespace recast
