#include "mpi_wire.h"

#include <dlfcn.h>

#include <algorithm>
#include <climits>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "recast/base/error.h"
#include "recast/comm/ranks.h"

namespace recast {
namespace {

constexpr const char* kLibrary = "libmpi.so.40";  ///< Open MPI 3, 4 and 5

/// Open MPI's binary interface, as far as it is used here: handles are addresses of objects in the library.
using Handle = void*;
struct Status {
  int source, tag, error, cancelled;
  std::size_t bytes;
};
constexpr int kSuccess = 0, kAnySource = -1, kAnyTag = -1, kThreadsOneAtATime = 2;

/// The library's functions and objects.
class OpenMpi {
 public:
  OpenMpi() : library_(::dlopen(kLibrary, RTLD_NOW | RTLD_GLOBAL)) {
    if (!library_)
      fail(Code::kUnsupported,
           "[ranks] started by mpirun, but Open MPI's library cannot be opened: {}; install it (Debian: libopenmpi3), "
           "or give the ranks torchrun's variables",
           ::dlerror());
    find(init, "MPI_Init_thread"), find(finalize, "MPI_Finalize"), find(version, "MPI_Get_library_version");
    find(comm_rank, "MPI_Comm_rank"), find(comm_size, "MPI_Comm_size"), find(set_errhandler, "MPI_Comm_set_errhandler");
    find(isend, "MPI_Isend"), find(irecv, "MPI_Irecv"), find(test, "MPI_Test"), find(iprobe, "MPI_Iprobe");
    find(count, "MPI_Get_count");
    char text[8192] = {};
    int length = 0;
    version(text, &length);
    name = std::string(text).substr(0, std::string(text).find(','));
    if (!name.starts_with("Open MPI"))
      fail(Code::kUnsupported, "[ranks] {} is {}: only Open MPI is understood", kLibrary, name);
    world = object("ompi_mpi_comm_world"), byte = object("ompi_mpi_byte"),
    errors_return = object("ompi_mpi_errors_return");
  }

  void check(int status, const char* what) const {
    if (status != kSuccess)
      throw RanksParted(Code::kUnavailable, fmt::format("[ranks] Open MPI: {} failed with error {}", what, status));
  }

  int (*init)(int*, char***, int, int*);
  int (*finalize)();
  int (*version)(char*, int*);
  int (*comm_rank)(Handle, int*);
  int (*comm_size)(Handle, int*);
  int (*set_errhandler)(Handle, Handle);
  int (*isend)(const void*, int, Handle, int, int, Handle, Handle*);
  int (*irecv)(void*, int, Handle, int, int, Handle, Handle*);
  int (*test)(Handle*, int*, Status*);
  int (*iprobe)(int, int, Handle, int*, Status*);
  int (*count)(const Status*, Handle, int*);
  Handle world, byte, errors_return;
  std::string name;

 private:
  Handle object(const char* symbol) const {
    Handle found = ::dlsym(library_, symbol);
    if (!found) fail(Code::kUnsupported, "[ranks] {} is not Open MPI's: it has no {}", kLibrary, symbol);
    return found;
  }
  template <class Function>
  void find(Function& function, const char* symbol) const {
    function = reinterpret_cast<Function>(object(symbol));
  }
  void* library_;
};

/// Non-blocking calls only, so that nobody waits inside the library for a rank that is gone. One thread at a time calls
/// it: the sign of life has another one.
class MpiWire final : public Wire {
 public:
  MpiWire() {
    int threads = 0;
    mpi_.check(mpi_.init(nullptr, nullptr, kThreadsOneAtATime, &threads), "MPI_Init_thread");
    mpi_.set_errhandler(mpi_.world, mpi_.errors_return);
    mpi_.comm_rank(mpi_.world, &rank_);
    mpi_.comm_size(mpi_.world, &size_);
    pulses_.resize(static_cast<std::size_t>(size_));
    if (threads < kThreadsOneAtATime)
      fail(Code::kUnsupported, "[ranks] this Open MPI may be called by the main thread only");
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return mpi_.name; }

  void send(int to, MessageKind kind, std::string bytes) override {
    if (bytes.size() > INT_MAX) fail(Code::kExhausted, "[ranks] a message of {} bytes is too long", bytes.size());
    const std::lock_guard lock(mutex_);
    sending_.push_back({std::move(bytes), nullptr, to, kind});
    start(sending_.back());
  }

  bool idle() override {
    const std::lock_guard lock(mutex_);
    progress();
    return sending_.empty();
  }

  std::optional<Message> next(std::chrono::milliseconds wait) override {
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now(), until = begin + wait;
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        progress();
        if (auto message = arrived()) return message;
      }
      const auto now = Clock::now();
      if (now >= until) return {};
      if (now - begin < std::chrono::microseconds(200))
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  void pulse() override {
    const std::lock_guard lock(mutex_);
    progress();
    for (int to = 0; to < size_; ++to) {
      Transfer& pulse = pulses_[static_cast<std::size_t>(to)];
      if ((to == 0) == (rank_ == 0) || pulse.request) continue;
      pulse.to_or_from = to;
      pulse.kind = MessageKind::kPulse;
      start(pulse);
    }
  }

  void close(bool together) override {
    if (together) mpi_.finalize();  // which would wait for a rank that is gone
  }

 private:
  struct Transfer {
    std::string bytes;
    Handle request = nullptr;
    int to_or_from = 0;
    MessageKind kind = MessageKind::kData;
  };

  void start(Transfer& out) {
    mpi_.check(mpi_.isend(out.bytes.data(), static_cast<int>(out.bytes.size()), mpi_.byte, out.to_or_from,
                          static_cast<int>(out.kind), mpi_.world, &out.request),
               "MPI_Isend");
  }

  bool done(Transfer& transfer) {
    int finished = 0;
    mpi_.check(mpi_.test(&transfer.request, &finished, nullptr), "MPI_Test");
    return finished != 0;
  }

  void progress() {
    sending_.remove_if([&](Transfer& out) { return done(out); });
    for (Transfer& pulse : pulses_)
      if (pulse.request && done(pulse)) pulse.request = nullptr;
    for (;;) {
      int found = 0;
      Status status{};
      mpi_.check(mpi_.iprobe(kAnySource, kAnyTag, mpi_.world, &found, &status), "MPI_Iprobe");
      if (!found) return;
      int size = 0;
      mpi_.count(&status, mpi_.byte, &size);
      receiving_.push_back({std::string(static_cast<std::size_t>(size), '\0'), nullptr, status.source,
                            static_cast<MessageKind>(status.tag)});
      Transfer& in = receiving_.back();
      mpi_.check(mpi_.irecv(in.bytes.data(), size, mpi_.byte, status.source, status.tag, mpi_.world, &in.request),
                 "MPI_Irecv");
    }
  }

  /// The oldest message of any rank that is there as a whole: messages of one rank keep their order.
  std::optional<Message> arrived() {
    std::vector<int> unfinished;
    for (auto in = receiving_.begin(); in != receiving_.end(); ++in) {
      if (std::find(unfinished.begin(), unfinished.end(), in->to_or_from) != unfinished.end()) continue;
      if (in->request && !done(*in)) {
        unfinished.push_back(in->to_or_from);
        continue;
      }
      Message message{in->to_or_from, in->kind, std::move(in->bytes)};
      receiving_.erase(in);
      return message;
    }
    return {};
  }

  OpenMpi mpi_;
  int rank_ = 0, size_ = 1;
  std::mutex mutex_;  // guards the library and all below
  std::list<Transfer> sending_, receiving_;
  std::vector<Transfer> pulses_;  // by rank
};

}  // namespace

std::unique_ptr<Wire> open_mpi_wire() { return std::make_unique<MpiWire>(); }

}  // namespace recast
