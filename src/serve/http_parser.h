#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace recast {

struct HttpParserLimits {
  std::size_t header_bytes, header_fields, url_bytes, body_bytes, chunks;
};

/// What of a header matters here.
struct HttpHead {
  std::string method, target;  ///< target: as it was sent, of an absolute one path and query
  int minor_version = 1;       ///< of HTTP/1.x
  bool keep_alive = true;
  bool expects_continue = false;
  bool chunked = false;
  std::optional<std::uint64_t> length;  ///< Content-Length
  std::optional<std::string> authorization, content_type, content_encoding, host, origin;
  std::optional<std::string> inference_length;  ///< Inference-Header-Content-Length
  std::string request_id, traceparent;          ///< for logs; empty: not sent

  bool operator==(const HttpHead&) const = default;
};

/// Why a message is not taken: an HTTP status and a sentence. After one of the parser's the connection cannot go on,
/// since nobody knows where the next message begins.
struct HttpRefusal {
  int status;
  std::string text;
};

/// One request, from bytes in pieces of any size. Strict where two readers could read two messages: both lengths, two
/// Hosts, list-like lengths, transfer codings other than chunked are refused.
/// Memory   the header and the body up to their limits, whatever the peer announces: the body grows as it arrives.
class HttpParser {
 public:
  explicit HttpParser(const HttpParserLimits& limits);
  ~HttpParser();

  /// How many of `bytes` were used: those of the header up to its end, or of the body. The rest has to be given again
  /// with what follows; 0 means that more is needed, that the request is complete or that it was refused.
  std::size_t put(std::string_view bytes);
  const std::optional<HttpRefusal>& refusal() const { return refusal_; }

  bool head_done() const;
  bool done() const;
  const HttpHead& head() const { return head_; }
  /// From here on the body may have this many bytes, less than was said at first. After the head, before the body.
  void limit_body(std::size_t bytes);
  std::size_t body_bytes() const;
  std::string take_body();

 private:
  struct Beast;
  void read_head();
  void refuse(int status, std::string text);

  HttpParserLimits limits_;
  std::unique_ptr<Beast> beast_;
  std::size_t header_seen_ = 0;
  HttpHead head_;
  std::optional<HttpRefusal> refusal_;
};

}  // namespace recast
