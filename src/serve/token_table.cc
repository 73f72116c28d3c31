#include "recast/serve/token_table.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>

#include "bucket.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/base/random_hex.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "reread_files.h"
#include "token_file.h"

namespace recast {
namespace {

constexpr std::size_t kMostTokenBytes = 512;

/// The token of "Bearer TOKEN" (RFC 6750, section 2.1), or nothing.
std::optional<std::string_view> bearer_token(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  const auto same = [](char c, char lower) { return c == lower || (c >= 'A' && c <= 'Z' && c - 'A' + 'a' == lower); };
  if (header.size() < kScheme.size() ||
      !std::equal(kScheme.begin(), kScheme.end(), header.begin(), [&](char lower, char c) { return same(c, lower); })) {
    return std::nullopt;
  }
  header.remove_prefix(kScheme.size());
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  constexpr std::string_view kSigns = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=";
  const bool good =
      !header.empty() && header.size() <= kMostTokenBytes && header.find_first_not_of(kSigns) == header.npos;
  return good ? std::optional(header) : std::nullopt;
}

/// One reading of the file.
struct Snapshot {
  std::string text_sha256;
  std::vector<TokenEntry> entries;
  /// Tokens that were right before, by their digest under the process's secret: nobody outside can choose a token by
  /// where it would lie here, so looking it up tells nothing.
  std::unordered_map<std::string, std::size_t> seen;

  /// The digest under every salt against every entry; as long for a wrong token as for a right one.
  std::optional<std::size_t> find(std::string_view token) const {
    std::optional<std::size_t> found;
    Sha256 hash;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      hash.update(entries[i].salt);
      hash.update(token);
      const std::string digest = hash.finish_hex();
      if (CRYPTO_memcmp(digest.data(), entries[i].sha256.data(), digest.size()) == 0) found = i;
    }
    return found;
  }
};

TokenVerdict verdict_on(const TokenEntry& entry, Right right, std::chrono::system_clock::time_point now) {
  if (entry.expires && now >= *entry.expires) {
    return {Access::kUnauthenticated, {}, "[auth] this token has expired; ask for a new one"};
  }
  TokenVerdict verdict{Access::kGranted, {entry.name, entry.roles, entry.tasks}, ""};
  if (std::ranges::any_of(entry.roles, [&](Role role) { return grants(role, right); })) return verdict;
  verdict.access = Access::kForbidden;
  verdict.message = "[auth] the role of this token does not allow this call; ask for a token with another role";
  return verdict;
}

}  // namespace

class TokenTable::Content {
 public:
  Content(std::filesystem::path file, const TokenTableOptions& options)
      : file_(std::move(file)),
        table_({file_}, options.reread_every, [this] { return snapshot_of(read_token_file(file_)); }),
        unknown_(options.unknown_burst, options.unknown_per_second) {}

  TokenVerdict check(std::string_view token, Right right, std::chrono::system_clock::time_point now) {
    const std::shared_ptr<Snapshot> snapshot = table();
    const std::string digest = sha256_hex(secret_ + std::string(token));
    {
      const std::lock_guard lock(mutex_);
      if (const auto seen = snapshot->seen.find(digest); seen != snapshot->seen.end()) {
        return verdict_on(snapshot->entries[seen->second], right, now);
      }
      if (!unknown_.take(std::chrono::steady_clock::now())) {
        return {Access::kTooMany, {}, "[auth] too many unknown tokens arrive just now; try again in a second"};
      }
    }
    const std::optional<std::size_t> found = snapshot->find(token);
    if (!found) return {Access::kUnauthenticated, {}, "[auth] this token is not known; check it, or ask for a new one"};
    const std::lock_guard lock(mutex_);
    snapshot->seen.emplace(digest, *found);
    unknown_.give_back();
    return verdict_on(snapshot->entries[*found], right, now);
  }

 private:
  std::string shown() const { return printable_path(file_); }

  std::shared_ptr<Snapshot> snapshot_of(const std::string& text) const {
    return std::make_shared<Snapshot>(Snapshot{sha256_hex(text), parse_token_file(text, shown()), {}});
  }

  std::shared_ptr<Snapshot> table() {
    return table_.content([this](const Snapshot& old) { return reread(old); },
                          [this](const std::exception& error) {
                            log_event(LogLevel::kWarn, "tokens.kept_old",
                                      {{"file", file_.string()}, {"reason", error.what()}});
                          });
  }

  std::shared_ptr<Snapshot> reread(const Snapshot& old) const {
    const std::string text = read_token_file(file_);
    if (sha256_hex(text) == old.text_sha256) return nullptr;
    auto fresh = snapshot_of(text);
    log_event(LogLevel::kInfo, "tokens.reread", {{"file", file_.string()}, {"tokens", fresh->entries.size()}});
    return fresh;
  }

  const std::filesystem::path file_;
  const std::string secret_ = random_hex(32);

  RereadFiles<Snapshot> table_;

  std::mutex mutex_;  // of the next one, and of `seen` within a snapshot
  Bucket unknown_;
};

TokenTable::TokenTable(std::filesystem::path file, const TokenTableOptions& options)
    : content_(std::make_unique<Content>(std::move(file), options)) {}
TokenTable::~TokenTable() = default;

TokenVerdict TokenTable::check(std::string_view authorization, Right right, std::chrono::system_clock::time_point now) {
  if (authorization.empty()) {
    return {Access::kUnauthenticated, {}, "[auth] no token was sent; send the header 'Authorization: Bearer TOKEN'"};
  }
  const std::optional<std::string_view> token = bearer_token(authorization);
  if (!token) {
    return {Access::kUnauthenticated, {}, "[auth] the header Authorization is not of the form 'Bearer TOKEN'"};
  }
  return content_->check(*token, right, now);
}

}  // namespace recast
