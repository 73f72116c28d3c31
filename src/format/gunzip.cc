#include <zlib.h>

#include <algorithm>
#include <limits>

#include "recast/base/error.h"
#include "recast/format/files.h"

namespace recast {
namespace {

constexpr int kGzipOnly = 16 + MAX_WBITS;

/// One z_stream over the whole input. zlib counts in 32 bits, so input and output are handed over in pieces.
class Inflater {
 public:
  Inflater(std::string_view bytes, std::string_view origin) : rest_(bytes), origin_(origin) {
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) fail(Code::kExhausted, "[gzip] {}: not enough memory", origin_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream_); }

  std::string run(std::uint64_t max_bytes) {
    std::string out;
    do {
      read_member(out, max_bytes);
    } while (next_member());
    return out;
  }

 private:
  void read_member(std::string& out, std::uint64_t max_bytes) {
    int state = Z_OK;
    while (state != Z_STREAM_END) {
      feed();
      char piece[1 << 16];
      stream_.next_out = reinterpret_cast<Bytef*>(piece);
      stream_.avail_out = sizeof(piece);
      state = inflate(&stream_, Z_NO_FLUSH);
      const std::size_t got = sizeof(piece) - stream_.avail_out;
      check(state, got);
      if (got > max_bytes - out.size()) {
        fail(Code::kExhausted, "[gzip] {}: unpacks to more than {} bytes; at most that many are accepted", origin_,
             max_bytes);
      }
      out.append(piece, got);
    }
  }

  void feed() {
    if (stream_.avail_in != 0) return;
    const std::size_t taken = std::min<std::size_t>(rest_.size(), std::numeric_limits<uInt>::max());
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest_.data()));  // zlib does not write to it
    stream_.avail_in = static_cast<uInt>(taken);
    rest_.remove_prefix(taken);
  }

  void check(int state, std::size_t got) const {
    if (state == Z_STREAM_END || (state == Z_OK && got > 0) || (state == Z_OK && stream_.avail_in + rest_.size() > 0)) {
      return;
    }
    if (state == Z_MEM_ERROR) fail(Code::kExhausted, "[gzip] {}: not enough memory", origin_);
    if (state == Z_OK || state == Z_BUF_ERROR) {
      fail(Code::kDataCorruption, "[gzip] {}: cut off: the compressed data does not end; fetch it again", origin_);
    }
    fail(Code::kDataCorruption, "[gzip] {}: damaged: {}; fetch it again", origin_,
         stream_.msg != nullptr ? stream_.msg : "no valid gzip data");
  }

  bool next_member() {
    feed();
    if (stream_.avail_in == 0) return false;
    if (stream_.next_in[0] != 0x1f) {
      fail(Code::kDataCorruption, "[gzip] {}: other bytes follow the compressed data; fetch it again", origin_);
    }
    if (inflateReset(&stream_) != Z_OK) fail(Code::kInternal, "[gzip] {}: cannot start the next member", origin_);
    return true;
  }

  z_stream stream_{};
  std::string_view rest_;
  std::string_view origin_;
};

}  // namespace

std::string gunzip(std::string_view bytes, std::uint64_t max_bytes, std::string_view origin) {
  return Inflater(bytes, origin).run(max_bytes);
}

}  // namespace recast
