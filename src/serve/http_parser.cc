// Beast 1.81 asserts that the last chunk of a body has 5 bytes when it is looked at again; one that is the first chunk,
// too, has 3 or 4 until its end arrives. Nothing depends on it.
#define BOOST_DISABLE_ASSERTS
#include "http_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/rfc7230.hpp>
#include <boost/beast/http/verb.hpp>
#include <functional>
#include <iterator>

namespace recast {
namespace {

namespace http = boost::beast::http;
using boost::beast::iequals;
using ErrorCode = boost::system::error_code;

/// Content that grows with what arrives: what a header announces reserves nothing.
struct GrowingBody {
  struct value_type {
    std::string bytes;
    std::size_t expected = 0;  // 0: unknown
  };

  class reader {
   public:
    template <bool kRequest, class Fields>
    reader(http::header<kRequest, Fields>&, value_type& content) : content_(content) {}
    void init(const boost::optional<std::uint64_t>& length, ErrorCode& error) {
      content_.expected = length ? static_cast<std::size_t>(*length) : 0;
      error = {};
    }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, ErrorCode& error) {
      error = {};
      std::size_t taken = 0;
      for (auto it = boost::asio::buffer_sequence_begin(buffers); it != boost::asio::buffer_sequence_end(buffers);
           ++it) {
        const boost::asio::const_buffer piece(*it);
        reserve(piece.size());
        content_.bytes.append(static_cast<const char*>(piece.data()), piece.size());
        taken += piece.size();
      }
      return taken;
    }
    void finish(ErrorCode& error) { error = {}; }

   private:
    void reserve(std::size_t more) {
      const std::size_t needed = content_.bytes.size() + more;
      if (needed <= content_.bytes.capacity()) return;
      const std::size_t doubled = std::max(needed, 2 * content_.bytes.capacity());
      content_.bytes.reserve(content_.expected >= needed ? std::min(doubled, content_.expected) : doubled);
    }

    value_type& content_;
  };
};

std::optional<std::string> text_of(const http::fields& fields, boost::beast::string_view name) {
  const auto found = fields.find(name);
  if (found == fields.end()) return std::nullopt;
  return std::string(found->value());
}

/// Path and query of `http://host/path?query`, which proxies send.
std::string without_authority(std::string target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!iequals(boost::beast::string_view(target).substr(0, scheme.size()),
                 boost::beast::string_view(scheme.data(), scheme.size())))
      continue;
    const std::size_t path = target.find_first_of("/?", scheme.size());
    if (path == target.npos) return "/";
    return target[path] == '/' ? target.substr(path) : "/" + target.substr(path);
  }
  return target;
}

}  // namespace

struct HttpParser::Beast {
  using Parser = http::request_parser<GrowingBody>;

  Parser parser;
  std::size_t chunks = 0, extension_bytes = 0;
  std::function<void(std::uint64_t, boost::beast::string_view, ErrorCode&)> on_chunk;
};

HttpParser::HttpParser(const HttpParserLimits& limits) : limits_(limits), beast_(std::make_unique<Beast>()) {
  beast_->parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
  beast_->parser.body_limit(limits.body_bytes);
  // The parser keeps a reference: the function lives beside it.
  beast_->on_chunk = [this](std::uint64_t, boost::beast::string_view extension, ErrorCode& error) {
    error = {};
    beast_->extension_bytes += extension.size();
    if (++beast_->chunks > limits_.chunks || beast_->extension_bytes > limits_.header_bytes)
      error = http::error::bad_chunk_extension;
  };
  beast_->parser.on_chunk_header(beast_->on_chunk);
}

HttpParser::~HttpParser() = default;

bool HttpParser::head_done() const { return beast_->parser.is_header_done(); }
bool HttpParser::done() const { return beast_->parser.is_done(); }
void HttpParser::limit_body(std::size_t bytes) {
  limits_.body_bytes = bytes;
  beast_->parser.body_limit(bytes);
}
std::size_t HttpParser::body_bytes() const { return beast_->parser.get().body().bytes.size(); }
std::string HttpParser::take_body() { return std::move(beast_->parser.get().body().bytes); }

void HttpParser::refuse(int status, std::string text) { refusal_ = HttpRefusal{status, std::move(text)}; }

std::size_t HttpParser::put(std::string_view bytes) {
  if (refusal_ || done() || bytes.empty()) return 0;
  const bool in_head = !head_done();
  const std::size_t body_before = body_bytes();
  ErrorCode error;
  const std::size_t used = beast_->parser.put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
  if (in_head) header_seen_ += used;
  // Within a body, what is no content is the line before a chunk, or the fields behind the last one; both are looked
  // for as a whole.
  const std::size_t waiting = error == http::error::need_more ? bytes.size() - used : 0;
  if (!in_head && body_bytes() == body_before && std::max(used, waiting) >= limits_.header_bytes)
    refuse(400, fmt::format("a chunk's header, or the fields behind the last chunk, have more than {} bytes",
                            limits_.header_bytes));
  else if (in_head && header_seen_ + waiting > limits_.header_bytes)
    error = http::error::header_limit;
  else if (error == http::error::need_more)
    return used;
  if (refusal_) return 0;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    if (header_seen_ == 0 && bytes.substr(0, limits_.header_bytes).find('\n') == bytes.npos)
      refuse(414, fmt::format("the first line has more than {} bytes", limits_.header_bytes));
    else
      refuse(431, fmt::format("the header has more than {} bytes", limits_.header_bytes));
  } else if (error == http::error::body_limit) {
    refuse(413, fmt::format("the body has more than {} bytes", limits_.body_bytes));
  } else if (error == http::error::bad_version) {
    refuse(505, "the first line must end in HTTP/1.1 or HTTP/1.0, CR and LF");
  } else if (error && beast_->chunks > limits_.chunks) {
    refuse(400, fmt::format("the body comes in more than {} chunks; send it with Content-Length", limits_.chunks));
  } else if (error) {
    refuse(400, "malformed HTTP: " + error.message());
  } else if (in_head && head_done()) {
    read_head();
  }
  return refusal_ ? 0 : used;
}

void HttpParser::read_head() {
  const auto& message = beast_->parser.get();
  const http::fields& fields = message;
  head_.method = std::string(message.method_string());
  head_.minor_version = static_cast<int>(message.version() % 10);
  head_.keep_alive = beast_->parser.keep_alive();
  head_.chunked = beast_->parser.chunked();
  if (const auto length = beast_->parser.content_length()) head_.length = *length;
  head_.authorization = text_of(fields, "Authorization");
  head_.content_type = text_of(fields, "Content-Type");
  head_.content_encoding = text_of(fields, "Content-Encoding");
  head_.host = text_of(fields, "Host");
  head_.origin = text_of(fields, "Origin");
  head_.inference_length = text_of(fields, "Inference-Header-Content-Length");
  head_.request_id = text_of(fields, "X-Request-Id").value_or("");
  head_.traceparent = text_of(fields, "traceparent").value_or("");
  const std::optional<std::string> expect = text_of(fields, "Expect");
  head_.expects_continue = expect && head_.minor_version == 1;

  if (message.target().size() > limits_.url_bytes)
    return refuse(414, fmt::format("the URL has {} bytes, more than {}", message.target().size(), limits_.url_bytes));
  head_.target = without_authority(std::string(message.target()));
  const auto count = static_cast<std::size_t>(std::distance(fields.begin(), fields.end()));
  if (count > limits_.header_fields)
    return refuse(431, fmt::format("the header has {} fields, more than {}", count, limits_.header_fields));
  for (const char* once : {"Host", "Content-Length", "Transfer-Encoding", "Authorization", "Content-Type",
                           "Content-Encoding", "Inference-Header-Content-Length", "Expect"})
    if (fields.count(once) > 1) return refuse(400, fmt::format("the field {} occurs more than once", once));
  if (head_.minor_version == 1 && fields.count("Host") == 0) return refuse(400, "the field Host is missing");
  if (const auto length = text_of(fields, "Content-Length"); length && length->find(',') != length->npos)
    return refuse(400, "Content-Length must be one number");
  if (const auto coding = text_of(fields, "Transfer-Encoding")) {
    if (head_.minor_version == 0) return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
    if (!iequals(*coding, "chunked")) return refuse(501, "of transfer codings only chunked is taken, alone");
  }
  if (expect && !iequals(*expect, "100-continue")) return refuse(417, "of expectations only 100-continue is known");
}

}  // namespace recast
