#pragma once
// HTTP/2 byte by byte, as no client would send it.
#include <algorithm>
#include <cstdint>
#include <string>

namespace recast {

inline const std::string kHttp2Preface =
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string("\0\0\0\4\0\0\0\0\0", 9);  // and no settings

enum class Http2Frame : char { kData = 0, kHeaders = 1, kReset = 3, kContinuation = 9 };
constexpr char kEndStream = 1, kEndHeaders = 4;

inline std::string http2_frame(Http2Frame type, char flags, std::uint32_t stream, const std::string& content) {
  std::string bytes;
  for (const int shift : {16, 8, 0}) bytes += static_cast<char>(content.size() >> shift & 0xff);
  bytes += static_cast<char>(type);
  bytes += flags;
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(stream >> shift & 0xff);
  return bytes + content;
}

/// A header in its longest form: neither indexed nor compressed.
inline std::string http2_header(const std::string& name, const std::string& value) {
  const auto text = [](const std::string& text) {
    std::string length(1, static_cast<char>(std::min<std::size_t>(text.size(), 127)));
    if (text.size() >= 127) {
      std::size_t rest = text.size() - 127;
      for (; rest >= 128; rest /= 128) length += static_cast<char>(rest % 128 + 128);
      length += static_cast<char>(rest);
    }
    return length + text;
  };
  return std::string(1, '\0') + text(name) + text(value);
}

/// What a call of gRPC begins with.
inline std::string grpc_headers(const std::string& path, const std::string& scheme = "http") {
  return http2_header(":method", "POST") + http2_header(":scheme", scheme) + http2_header(":authority", "test") +
         http2_header(":path", path) + http2_header("content-type", "application/grpc");
}

}  // namespace recast
