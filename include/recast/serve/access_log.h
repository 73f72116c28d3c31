#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "recast/serve/service.h"

namespace prometheus {
class Registry;
}

namespace recast {

/// One request, as its line in the access log has it; docs/serving.md lists the fields.
struct AccessEntry {
  std::string id;                    ///< what the client called it, or a name of its own
  std::string trace, span;           ///< of W3C's traceparent; empty: none was sent
  std::string_view protocol, route;  ///< "http", "grpc"; the path's template or the method: texts that live for ever
  std::string method;                ///< HTTP's
  std::string model;                 ///< as it was asked for; empty: none was named
  InferenceAccount account;          ///< of an inference
  int status = 0;                    ///< HTTP's or gRPC's
  bool complete = true;              ///< the whole answer went out
  std::size_t received = 0, sent = 0;
  double ms = 0;
  std::string caller, peer;  ///< name of the token, never the token; address
};

/// A line of JSON for each request, written by a thread of its own: who adds one never waits for a disk or a reader.
/// Lines that find the queue full are dropped, lines that cannot be written (a full disk) are lost, and
/// recast_access_log_lines_total{outcome="dropped"|"failed"|"written"} counts them. Lines are appended, each whole and
/// of at most 4,096 bytes, so that a file may be truncated meanwhile and shared by processes.
/// Threads  all calls in parallel.
class AccessLog {
 public:
  /// `file`: made with mode 0600 where it is absent; "-": standard error. `most_waiting` lines are kept for the thread.
  /// Throws  kUnavailable: the file cannot be opened.
  AccessLog(std::string file, prometheus::Registry& registry, std::size_t most_waiting = 8'192);
  /// Writes what waits, for a second at the most.
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  /// The entry of a request that begins, under the id that its client gave it, else one of its own. `protocol` lives
  /// for ever; `request_id` and `traceparent` are as the client sent them, or empty.
  AccessEntry begin(std::string_view protocol, std::string_view request_id, std::string_view traceparent,
                    std::string peer);
  void add(AccessEntry entry) noexcept;
  /// From the next lines on the file is the one that has the name then; where it cannot be opened the old one stays
  /// (event access_log.kept_old). Nothing for standard error.
  void reopen();

 private:
  class Writer;
  const std::string process_;  // ids of its own begin with it: no other process has it
  std::atomic<std::uint64_t> begun_{0};
  const std::unique_ptr<Writer> writer_;
};

}  // namespace recast
