#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

// Who may do what; docs/serving.md, "Tokens". One table for all transports.

/// What a token was made for. kManage includes kRead, since who loads a model must see what is loaded; neither includes
/// kInfer: whoever deploys or watches has no need of the answers, nor of what is sent for them.
enum class Role { kInfer, kRead, kManage };
std::string_view name(Role role);
/// The role of that name, if there is one.
std::optional<Role> role_of(std::string_view text);

/// What a call needs.
enum class Right {
  kInfer,     ///< infer
  kDescribe,  ///< metadata of server and models, whether a model is ready: every role has it
  kRead,      ///< repository index, statistics, metrics
  kManage     ///< load, unload
};
bool grants(Role role, Right right);

/// One token in the file, which holds a digest in its place.
struct TokenEntry {
  std::string name;                                 ///< 1 to 128 of A-Z a-z 0-9 . _ @ -: stands in logs
  std::set<Role> roles;                             ///< at least one
  std::vector<std::string> tasks;                   ///< globs (* and ?) of tasks; with an @, of BASE@TASK
  std::optional<std::chrono::sys_seconds> expires;  ///< nothing: never
  std::string salt;                                 ///< 16 to 64 hexadecimal digits, lower case
  std::string sha256;                               ///< of the salt as it stands here and the token behind it

  bool operator==(const TokenEntry&) const = default;
};

/// The file: YAML, a map of names (docs/serving.md). At most 1,000 tokens. `origin` names it in messages.
/// Throws  kDataCorruption, kInvalidArgument, kExhausted, kUnsupported: with file and field.
std::vector<TokenEntry> parse_token_file(const std::string& text, const std::string& origin);
/// An entry as it stands in the file.
std::string token_entry_yaml(const TokenEntry& entry);

/// Adds an entry with a new random token (256 bits) to a file, which is made where it is absent, mode 0600, and returns
/// the token: it is stored nowhere. salt and sha256 of `entry` are filled in here.
/// Throws  kAlreadyExists: an entry of that name;  as parse_token_file() and read_file();  kUnavailable: cannot write.
std::string add_token(const std::filesystem::path& file, TokenEntry entry);

/// Whether a text matches a glob as a whole: * any characters, ? any one. No backtracking beyond the last *.
bool glob_matches(std::string_view glob, std::string_view text);

/// Who calls.
struct TokenIdentity {
  std::string name;  ///< for the audit line
  std::set<Role> roles;
  std::vector<std::string> tasks;  ///< globs

  /// Whether a model is among its tasks: TASK or BASE@TASK, with or without :VERSION. "recast" is everybody's, as its
  /// rows are asked for one by one. A glob with an @ matches only where the base is said.
  bool may_use(std::string_view model) const;
};

enum class Access {
  kGranted,
  kUnauthenticated,  ///< HTTP 401 with WWW-Authenticate: Bearer: no token, a wrong or an expired one
  kForbidden,        ///< HTTP 403: the role does not allow it
  kTooMany           ///< HTTP 429: too many unknown tokens just now, this one was not looked at
};
struct TokenVerdict {
  Access access = Access::kUnauthenticated;
  TokenIdentity identity;  ///< of kGranted and kForbidden
  std::string message;     ///< what was wrong and what to do, one line, without the token; empty if granted
};

struct TokenTableOptions {
  std::chrono::milliseconds reread_every{1000};
  /// Unknown tokens that are looked at: so many at once, and so many more each second. A token that was right before
  /// costs one digest and is always looked at.
  double unknown_burst = 200, unknown_per_second = 100;
};

/// The tokens of a file, which is read again when it changes: while it cannot be read or is wrong, the last table stays
/// (event tokens.kept_old), and tokens.reread tells of a new one.
/// Wrong tokens cost at most `unknown_per_second` searches a second (1,000 digests each, about 0.3 ms), whatever
/// arrives; while they come faster, a right token that this process has not seen yet may need several attempts.
/// Time     the digest of a token is compared with all entries, each in constant time.
/// Threads  all calls in parallel.
class TokenTable {
 public:
  /// Throws  as parse_token_file() and read_file();  kInvalidArgument: others than its owner may read or write the file
  ///         (the group may read one of root's), or it belongs to another user (not root).
  explicit TokenTable(std::filesystem::path file, const TokenTableOptions& options = {});
  ~TokenTable();
  TokenTable(const TokenTable&) = delete;
  TokenTable& operator=(const TokenTable&) = delete;

  /// `authorization`: the header's value, "Bearer TOKEN"; empty: there was none. Never throws for what a client sent.
  TokenVerdict check(std::string_view authorization, Right right,
                     std::chrono::system_clock::time_point now = std::chrono::system_clock::now());

 private:
  class Content;
  std::unique_ptr<Content> content_;
};

}  // namespace recast
