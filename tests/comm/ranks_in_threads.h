#pragma once
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../../src/comm/tcp_wire.h"
#include "recast/comm/ranks.h"

namespace recast {

/// The ends of connections between rank 0 and all others, by rank.
inline std::vector<std::unique_ptr<Wire>> connected_wires(int size) {
  const auto ranks = static_cast<std::size_t>(size);
  std::vector<std::vector<int>> sockets(ranks, std::vector<int>(ranks, -1));
  for (std::size_t rank = 1; rank < ranks; ++rank) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    sockets[0][rank] = pair[0], sockets[rank][0] = pair[1];
  }
  std::vector<std::unique_ptr<Wire>> wires;
  for (int rank = 0; rank < size; ++rank) wires.push_back(tcp_wire(rank, sockets[static_cast<std::size_t>(rank)]));
  return wires;
}

/// Each rank in a thread of its own; what it throws ends the others, as it does in processes. Returns what each threw,
/// empty where nothing.
inline std::vector<std::string> run_ranks(int size, const RanksOptions& options,
                                          const std::function<void(Ranks&)>& work) {
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  auto wires = connected_wires(size);
  for (std::size_t i = 0; i < errors.size(); ++i)
    threads.emplace_back([&, i] {
      Ranks ranks(std::move(wires[i]), options);
      try {
        work(ranks);
      } catch (const Error& error) {
        errors[i] = error.what();
        ranks.leave(error.code(), error.what());
      } catch (const std::exception& error) {
        errors[i] = error.what();
        ranks.leave(Code::kInternal, error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace recast
