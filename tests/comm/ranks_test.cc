#include "recast/comm/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "../../src/comm/tcp_joining.h"
#include "../../src/comm/wire.h"
#include "comm/free_port.h"
#include "comm/mpirun.h"
#include "comm/ranks_in_threads.h"
#include "format/temporary_folder.h"
#include "text/run_recast.h"

namespace recast {
namespace {
using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr RanksOptions kPatient{};
constexpr RanksOptions kHasty{.silence = milliseconds(300)};

TEST(Ranks, AloneEverythingIsDone) {
  Ranks ranks;
  float values[] = {1, 2};
  ranks.sum(values);
  EXPECT_THAT(values, ElementsAre(1, 2));
  EXPECT_EQ(ranks.broadcast("a"), "a");
  EXPECT_THAT(ranks.gather("b"), ElementsAre("b"));
  EXPECT_TRUE(ranks.alone() && ranks.first());
  ranks.leave(Code::kInternal, "nobody hears it");
}

TEST(Ranks, AddInTheirOrderAndRoundOnce) {
  const float big = 1 << 24;  // where 1 is half a step: one by one in fp32 the ones would be lost
  std::mutex mutex;
  std::map<int, std::vector<float>> got;
  EXPECT_THAT(run_ranks(5, kPatient,
                        [&](Ranks& ranks) {
                          float values[] = {ranks.first() ? big : 1, static_cast<float>(ranks.rank())};
                          ranks.sum(values);
                          const std::lock_guard lock(mutex);
                          got[ranks.rank()] = {values[0], values[1]};
                        }),
              Each(IsEmpty()));
  for (int rank = 0; rank < 5; ++rank) EXPECT_THAT(got[rank], ElementsAre(big + 4, 10)) << rank;
}

TEST(Ranks, GatherAndBroadcastWhatIsLongToo) {
  std::atomic<int> right = 0;
  std::atomic<std::int64_t> sent = 0;
  const std::string longest(3'000'000, 'x');
  EXPECT_THAT(run_ranks(3, kPatient,
                        [&](Ranks& ranks) {
                          for (int round = 0; round < 3; ++round) {
                            const auto all = ranks.gather(ranks.rank() == 1 ? longest : std::to_string(ranks.rank()));
                            right += all == std::vector<std::string>{"0", longest, "2"};
                            right += ranks.broadcast(ranks.first() ? longest : "not this") == longest;
                          }
                          if (ranks.rank() == 2) sent = ranks.sent_bytes();
                        }),
              Each(IsEmpty()));
  EXPECT_EQ(right, 18);
  EXPECT_EQ(sent, 3);
}

TEST(Ranks, ARankThatFailsTellsAllOthersWhy) {
  const auto errors = run_ranks(3, kPatient, [](Ranks& ranks) {
    if (ranks.rank() == 2) {
      ranks.leave(Code::kDataCorruption, "[image] 7.png is damaged");
      fail(Code::kDataCorruption, "own error");
    }
    try {
      ranks.gather("x");
    } catch (const RanksParted& error) {
      EXPECT_EQ(error.code(), Code::kDataCorruption);
      throw;
    }
  });
  const auto told = HasSubstr("[ranks] rank 2 ended: [image] 7.png is damaged");
  EXPECT_THAT(errors, ElementsAre(told, told, "own error"));
}

TEST(Ranks, ARankThatEndsEarlyIsNamed) {
  const auto errors = run_ranks(3, kPatient, [](Ranks& ranks) {
    if (ranks.rank() != 1) ranks.gather("x");
  });
  EXPECT_THAT(errors, ElementsAre(HasSubstr("rank 1"), IsEmpty(), HasSubstr("rank 1")));
}

TEST(Ranks, ARankWhoseProcessEndsIsNamed) {
  auto ends = connected_wires(3);
  std::vector<std::string> errors(2);
  std::vector<std::thread> threads;
  for (const std::size_t rank : {0, 2})
    threads.emplace_back([&, rank] {
      Ranks ranks(std::move(ends[rank]), kPatient);
      EXPECT_THROW(
          try { ranks.gather("x"); } catch (const Error& error) {
            errors[rank / 2] = error.what();
            throw;
          },
          RanksParted);
    });
  ends[1]->close(false);
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(errors, Each(HasSubstr("rank 1 is gone: its process ended")));
}

TEST(Ranks, ASilentRankIsLostInBoundedTime) {
  auto ends = connected_wires(3);  // nobody speaks for rank 1
  std::vector<std::string> errors(2);
  std::vector<std::thread> threads;
  for (const std::size_t rank : {0, 2})
    threads.emplace_back([&, rank] {
      Ranks ranks(std::move(ends[rank]), kHasty);
      try {
        ranks.gather("x");
      } catch (const RanksParted& error) {
        errors[rank / 2] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(errors, Each(HasSubstr("rank 1 has not been heard for 0.3 s")));
}

TEST(Ranks, ARankThatComputesForLongIsNotLost) {
  EXPECT_THAT(run_ranks(2, {.silence = milliseconds(2000)},
                        [](Ranks& ranks) {
                          if (ranks.first()) std::this_thread::sleep_for(milliseconds(4000));
                          EXPECT_EQ(ranks.gather("x").size(), 2u);
                        }),
              Each(IsEmpty()));
}

/// A wire whose signs of life fail, as where a library fails.
class MuteWire final : public Wire {
 public:
  explicit MuteWire(std::unique_ptr<Wire> wire) : wire_(std::move(wire)) {}
  int rank() const override { return wire_->rank(); }
  int size() const override { return wire_->size(); }
  std::string name() const override { return wire_->name(); }
  void send(int to, MessageKind kind, std::string bytes) override { wire_->send(to, kind, std::move(bytes)); }
  bool idle() override { return wire_->idle(); }
  std::optional<Message> next(milliseconds wait) override { return wire_->next(wait); }
  void pulse() override {
    tried.set_value();
    fail(Code::kUnavailable, "no sign of life");
  }
  void close(bool together) override { wire_->close(together); }

  std::promise<void> tried;  ///< by the only pulse that there will be

 private:
  const std::unique_ptr<Wire> wire_;
};

TEST(Ranks, SignsOfLifeThatFailEndNoProcess) {
  auto ends = connected_wires(2);
  auto mute = std::make_unique<MuteWire>(std::move(ends[1]));
  std::future<void> tried = mute->tried.get_future();
  std::thread other([&] {
    Ranks ranks(std::move(mute), kPatient);
    tried.wait();
    EXPECT_THAT(ranks.gather("b"), ElementsAre("a", "b"));
  });
  {
    Ranks first(std::move(ends[0]), kPatient);
    EXPECT_THAT(first.gather("a"), ElementsAre("a", "b"));
  }
  other.join();
}

TEST(Ranks, BytesThatAreNoMessageEndTheOperation) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  Ranks ranks(tcp_wire(0, {-1, pair[0]}), kHasty);
  const std::string garbage = "GET / HTTP/1.1\r\n\r\n";
  ASSERT_EQ(::write(pair[1], garbage.data(), garbage.size()), static_cast<ssize_t>(garbage.size()));
  try {
    ranks.gather("x");
    ADD_FAILURE();
  } catch (const RanksParted& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1 sent what is no message"));
  }
  ::close(pair[1]);
}

/// The variables that launchers set, for the time of a test.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PMI_RANK", "PMI_SIZE",
                             "OMPI_COMM_WORLD_SIZE", "TORCHELASTIC_USE_AGENT_STORE"})
      if (const char* value = std::getenv(name)) {
        before_[name] = value;
        ::unsetenv(name);
      }
    for (const auto& [name, value] : variables) {
      ::setenv(name.c_str(), value.c_str(), 1);
      names_.push_back(name);
    }
  }
  ~Environment() {
    for (const std::string& name : names_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::map<std::string, std::string> before_;
  std::vector<std::string> names_;
};

std::string refusal() {
  try {
    open_ranks();
    return "none";
  } catch (const Error& error) {
    return std::string(name(error.code())) + " " + error.what();
  }
}

TEST(OpenRanks, WithoutLaunchersVariablesItIsAlone) {
  const Environment none({});
  EXPECT_TRUE(open_ranks()->alone());
  const Environment one({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
  EXPECT_TRUE(open_ranks()->alone());
}

TEST(OpenRanks, RefusesVariablesThatCannotBeRight) {
  const std::map<std::string, std::string> good = {
      {"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "29500"}};
  const auto with = [&](const char* name, const char* value) {
    auto variables = good;
    variables[name] = value;
    const Environment environment(variables);
    return refusal();
  };
  const auto names = [](const char* variable) { return AllOf(HasSubstr("invalid_argument"), HasSubstr(variable)); };
  EXPECT_THAT(with("RANK", "2"), names("RANK must be a whole number of 0 to 1, got '2'"));
  EXPECT_THAT(with("RANK", "-1"), names("RANK"));
  EXPECT_THAT(with("RANK", "1x"), names("RANK"));
  EXPECT_THAT(with("WORLD_SIZE", "0"), names("WORLD_SIZE"));
  EXPECT_THAT(with("WORLD_SIZE", ""), names("WORLD_SIZE"));
  EXPECT_THAT(with("MASTER_PORT", "70000"), names("MASTER_PORT"));
  EXPECT_THAT(with("MASTER_ADDR", ""), names("MASTER_ADDR"));
  const Environment half({{"RANK", "1"}, {"MASTER_ADDR", "127.0.0.1"}});
  EXPECT_THAT(refusal(), names("only one is set"));
}

TEST(OpenRanks, RefusesAnotherMpi) {
  const Environment mpich({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("unsupported"), HasSubstr("another MPI")));
}

TEST(JoinOverTcp, RanksFindEachOtherInAnyOrder) {
  const std::uint16_t port = free_port();
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (const int rank : {2, 0, 1})
    threads.emplace_back([&, rank] {
      Ranks ranks(join_over_tcp({.rank = rank, .size = 3, .address = "127.0.0.1", .port = port, .run = "r"},
                                milliseconds(60'000)),
                  kPatient);
      right += ranks.gather(std::to_string(rank)) == std::vector<std::string>{"0", "1", "2"};
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 3);
}

TEST(JoinOverTcp, SaysWhoDidNotCome) {
  try {
    join_over_tcp({.rank = 0, .size = 3, .address = "127.0.0.1", .port = free_port(), .run = "r"}, milliseconds(1000));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("of 3 ranks these did not come: 1, 2"));
  }
}

/// A connection to a port of this machine that says something, and stays.
class Stranger {
 public:
  Stranger(std::uint16_t port, const std::string& says) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::send(socket_, says.data(), says.size(), MSG_NOSIGNAL), static_cast<ssize_t>(says.size()));
  }
  Stranger(Stranger&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  ~Stranger() {
    if (socket_ >= 0) ::close(socket_);
  }
  /// Until the other end has closed it.
  void await_end() const {
    char heard;
    while (::recv(socket_, &heard, 1, 0) > 0) continue;
  }

 private:
  int socket_;
};

TEST(JoinOverTcp, StrangersHoldNobodyUp) {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  c10d::TCPStore store("127.0.0.1", options);
  std::atomic<int> right = 0;
  const auto join = [&](int rank) {
    const Launched launched{rank, 3, "127.0.0.1", store.getPort(), true, "r"};
    Ranks ranks(join_over_tcp(launched, milliseconds(60'000)), kPatient);
    right += ranks.gather(std::to_string(rank)) == std::vector<std::string>{"0", "1", "2"};
  };
  std::vector<std::thread> threads;
  threads.emplace_back(join, 0);
  const auto bytes = store.get("recast/r");
  const std::string place(bytes.begin(), bytes.end()), word = place.substr(0, 32);
  const auto door = static_cast<std::uint16_t>(std::stoi(place.substr(32)));
  std::vector<Stranger> strangers;
  for (int i = 0; i < 30; ++i) strangers.emplace_back(door, i % 2 == 0 ? "" : word.substr(0, 7));
  for (const std::string& says : {std::string("GET / HTTP/1.1\r\n\r\n"), word + "00000000", word + "00000007"})
    Stranger(door, says).await_end();
  threads.emplace_back(join, 1);
  threads.emplace_back(join, 2);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 3);
  EXPECT_FALSE(store.check({"recast/r"})) << "the next command that meets in this store would find it";
}

/// Run below by mpirun, in a process for each rank.
TEST(UnderMpirun, AddsGathersAndBroadcasts) {
  if (!std::getenv("OMPI_COMM_WORLD_SIZE")) GTEST_SKIP() << "only under mpirun";
  const auto ranks = open_ranks();
  EXPECT_THAT(ranks->carrier(), HasSubstr("Open MPI"));
  const std::string longest(2'000'000, 'y');
  for (int round = 0; round < 5; ++round) {
    double values[] = {1.0 + ranks->rank(), 0.5};
    ranks->sum(values);
    EXPECT_THAT(values, ElementsAre(6, 1.5));
    EXPECT_EQ(ranks->broadcast(ranks->first() ? longest : ""), longest);
    EXPECT_EQ(ranks->gather(std::string(static_cast<std::size_t>(ranks->rank()), 'z')).at(2), "zz");
  }
}

TEST(Ranks, OverOpenMpi) {
  RECAST_NEED_MPIRUN();
  const TemporaryFolder folder;
  std::vector<std::string> words = mpirun(3);
  words.insert(words.end(), {"/proc/self/exe", "--gtest_filter=UnderMpirun.*"});
  words[words.size() - 2] = std::filesystem::read_symlink("/proc/self/exe");
  const Answer answer = RunningProgram(folder.path(), words).wait();
  EXPECT_EQ(answer.status, 0) << answer.out << answer.err;
}

}  // namespace
}  // namespace recast
