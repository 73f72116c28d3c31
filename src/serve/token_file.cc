#include "token_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "recast/base/error.h"
#include "recast/base/random_hex.h"
#include "recast/base/utc.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/settings_tree.h"
#include "recast/serve/token_table.h"

namespace recast {
namespace {

constexpr std::size_t kMostTokens = 1000;
constexpr std::size_t kMostTasks = 100;
constexpr std::uint64_t kMostFileBytes = 1 << 20;
constexpr std::string_view kLettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

bool is_hex(std::string_view text, std::size_t least, std::size_t most) {
  return text.size() >= least && text.size() <= most && text.find_first_not_of("0123456789abcdef") == text.npos;
}

bool is_made_of(std::string_view text, const std::string& signs, std::size_t most) {
  const std::string allowed = std::string(kLettersAndDigits) + signs;
  return !text.empty() && text.size() <= most && text.find_first_not_of(allowed) == text.npos;
}

bool is_entry_name(std::string_view name) { return is_made_of(name, "._@-", 128); }

/// Reads one entry; every error names file, entry and field.
class EntryReader {
 public:
  EntryReader(const std::string& origin, const std::string& name, const SettingsTree& tree)
      : origin_(origin), name_(name), tree_(tree) {}

  TokenEntry read() const {
    if (!is_entry_name(name_)) refuse("its name", "expected 1 to 128 of A-Z a-z 0-9 . _ @ -");
    if (tree_.kind != SettingsTree::Kind::kMap) refuse("it", "expected role, tasks, salt and sha256 below it");
    check_keys();
    TokenEntry entry{.name = name_,
                     .roles = roles(),
                     .tasks = tasks(),
                     .expires = expires(),
                     .salt = text("salt"),
                     .sha256 = text("sha256")};
    if (!is_hex(entry.salt, 16, 64)) refuse("salt", "expected 16 to 64 hexadecimal digits, lower case");
    if (!is_hex(entry.sha256, 64, 64)) refuse("sha256", "expected 64 hexadecimal digits, lower case");
    return entry;
  }

 private:
  [[noreturn]] void refuse(std::string_view field, std::string_view expected) const {
    fail(Code::kInvalidArgument, "[tokens] {}: '{}': {}: {}", origin_, printable(name_), field, expected);
  }

  void check_keys() const {
    static const std::vector<std::string> kKnown{"role", "tasks", "expires", "salt", "sha256"};
    for (const std::string& key : tree_.keys()) {
      if (std::ranges::find(kKnown, key) != kKnown.end()) continue;
      const std::string near = nearest(key, kKnown);
      refuse(printable(key), near.empty() ? "is not known; known are role, tasks, expires, salt, sha256"
                                          : "is not known, did you mean '" + near + "'?");
    }
  }

  std::string text(const char* key) const {
    const SettingsTree* found = tree_.find(key);
    if (!found || found->kind != SettingsTree::Kind::kValue) refuse(key, "expected one value");
    return found->value;
  }

  /// A value counts as a list of one.
  std::vector<std::string> list(const char* key, std::string_view expected) const {
    const SettingsTree* found = tree_.find(key);
    if (!found || found->kind == SettingsTree::Kind::kMap) refuse(key, expected);
    std::vector<std::string> values = found->list;
    if (found->kind == SettingsTree::Kind::kValue) values.push_back(found->value);
    if (values.empty()) refuse(key, expected);
    return values;
  }

  std::set<Role> roles() const {
    constexpr std::string_view kExpected = "expected infer, read or manage, or a list of these, each once";
    std::set<Role> roles;
    for (const std::string& text : list("role", kExpected)) {
      const std::optional<Role> role = role_of(text);
      if (!role || !roles.insert(*role).second) refuse("role", kExpected);
    }
    return roles;
  }

  std::vector<std::string> tasks() const {
    constexpr std::string_view kExpected =
        "expected 1 to 100 globs, of A-Z a-z 0-9 . _ - @ * ? each (\"*\" is every task)";
    const std::vector<std::string> globs = list("tasks", kExpected);
    const auto is_glob = [](const std::string& glob) { return is_made_of(glob, "._-@*?", 258); };
    if (globs.size() > kMostTasks || !std::ranges::all_of(globs, is_glob)) refuse("tasks", kExpected);
    return globs;
  }

  std::optional<std::chrono::sys_seconds> expires() const {
    if (!tree_.find("expires")) return std::nullopt;
    const auto time = parse_utc(text("expires"));
    if (!time) refuse("expires", "expected a time in UTC as 2026-01-31T23:59:59Z; leave it out for never");
    return time;
  }

  const std::string& origin_;
  const std::string& name_;
  const SettingsTree& tree_;
};

SettingsTree value_of(std::string text) {
  return {.kind = SettingsTree::Kind::kValue, .value = std::move(text), .list = {}, .map = {}};
}
SettingsTree list_of(std::vector<std::string> values) {
  return {.kind = SettingsTree::Kind::kList, .value = {}, .list = std::move(values), .map = {}};
}

}  // namespace

std::string_view name(Role role) {
  switch (role) {
    case Role::kInfer:
      return "infer";
    case Role::kRead:
      return "read";
    case Role::kManage:
      return "manage";
  }
  fail(Code::kInternal, "[tokens] a role without a name");
}

std::optional<Role> role_of(std::string_view text) {
  for (const Role role : {Role::kInfer, Role::kRead, Role::kManage})
    if (name(role) == text) return role;
  return std::nullopt;
}

std::vector<TokenEntry> parse_token_file(const std::string& text, const std::string& origin) {
  const SettingsTree tree = parse_settings_tree(text, origin);
  if (tree.kind != SettingsTree::Kind::kMap) {
    fail(Code::kInvalidArgument, "[tokens] {}: expected a map of names, with role, tasks, salt and sha256 below each",
         origin);
  }
  if (tree.map.size() > kMostTokens) {
    fail(Code::kExhausted, "[tokens] {}: holds {} tokens; at most {} are accepted", origin, tree.map.size(),
         kMostTokens);
  }
  std::vector<TokenEntry> entries;
  for (const auto& [name, entry] : tree.map) entries.push_back(EntryReader(origin, name, entry).read());
  return entries;
}

std::string token_entry_yaml(const TokenEntry& entry) {
  std::vector<std::string> roles;
  for (const Role role : entry.roles) roles.emplace_back(name(role));
  SettingsTree fields;
  fields.map.emplace_back("role", roles.size() == 1 ? value_of(roles.front()) : list_of(roles));
  fields.map.emplace_back("tasks", list_of(entry.tasks));
  if (entry.expires) fields.map.emplace_back("expires", value_of(utc_text(*entry.expires)));
  fields.map.emplace_back("salt", value_of(entry.salt));
  fields.map.emplace_back("sha256", value_of(entry.sha256));
  SettingsTree file;
  file.map.emplace_back(entry.name, std::move(fields));
  return settings_yaml(file);
}

std::string read_token_file(const std::filesystem::path& file) {
  const std::string shown = printable_path(file);
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return read_file(file, kMostFileBytes);  // tells why
  // Of root a group may read it: so secrets reach a service that is not root, from Kubernetes and from /etc.
  const ::mode_t others = status.st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;
  if ((status.st_mode & others) != 0) {
    fail(Code::kInvalidArgument,
         "[tokens] {}: others than its owner may read or write it (mode {:04o}); run chmod 600 '{}'", shown,
         status.st_mode & 07777u, shown);
  }
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    fail(Code::kInvalidArgument, "[tokens] {}: belongs to user {}; expected this user ({}) or root; run chown", shown,
         status.st_uid, ::geteuid());
  }
  return read_file(file, kMostFileBytes);
}

std::string add_token(const std::filesystem::path& file, TokenEntry entry) {
  const std::string shown = printable_path(file);
  std::error_code unknown;  // read_token_file() tells what it is
  const bool is_absent = std::filesystem::status(file, unknown).type() == std::filesystem::file_type::not_found;
  std::string text = is_absent ? "" : read_token_file(file);
  std::vector<TokenEntry> entries = parse_token_file(text, shown);
  if (std::ranges::find(entries, entry.name, &TokenEntry::name) != entries.end()) {
    fail(Code::kAlreadyExists, "[tokens] {}: has a token called '{}'; choose another name, or take that entry out",
         shown, printable(entry.name));
  }
  const std::string token = "recast_" + random_hex(32);
  entry.salt = random_hex(16);
  entry.sha256 = sha256_hex(entry.salt + token);
  if (!text.empty() && !text.ends_with('\n')) text += '\n';
  text += token_entry_yaml(entry);
  entries.push_back(entry);
  // What the file held may be written in a way that nothing can be added to ({...}, "...").
  const auto is_as_meant = [&] {
    try {
      return parse_token_file(text, shown) == entries;
    } catch (const Error&) {
      return false;
    }
  };
  if (parse_token_file(token_entry_yaml(entry), shown) != std::vector{entry} || !is_as_meant()) {
    fail(Code::kUnsupported,
         "[tokens] {}: an entry cannot be added behind its last line; write names in lines of their own", shown);
  }
  write_file_atomically(file, text, FileAccess::kOwnerAndGroup);
  return token;
}

}  // namespace recast
