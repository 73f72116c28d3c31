#include <fmt/ranges.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/files.h"

namespace recast {
namespace {

/// Its only reason here is that it gets no memory.
void require(int openssl_result) {
  if (openssl_result != 1) fail(Code::kExhausted, "[sha256] not enough memory to compute a digest");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
  require(context_ != nullptr ? EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) : 0);
}

Sha256::~Sha256() = default;

void Sha256::update(std::string_view bytes) { require(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size())); }

std::string Sha256::finish_hex() {
  std::array<unsigned char, 32> digest{};
  require(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr));
  require(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish_hex();
}

std::string sha256_hex_of_file(const std::filesystem::path& path) {
  const InputFile file(path);
  Sha256 hash;
  std::vector<std::byte> piece(std::min<std::uint64_t>(file.size(), 1 << 20));
  for (std::uint64_t offset = 0; offset < file.size(); offset += piece.size()) {
    piece.resize(std::min<std::uint64_t>(piece.size(), file.size() - offset));
    file.read_at(offset, piece);
    hash.update({reinterpret_cast<const char*>(piece.data()), piece.size()});
  }
  file.check_unchanged();
  return hash.finish_hex();
}

}  // namespace recast
