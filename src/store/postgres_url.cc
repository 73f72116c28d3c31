#include "postgres_url.h"

#include <libpq-fe.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

/// What the URL itself says.
struct Said {
  std::map<std::string, std::string> options;  ///< by libpq's names
  std::vector<std::string> secrets;            ///< values of those that libpq would hide
};

Said read(const std::string& text) {
  char* error = nullptr;  // quotes the text, password and all
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(PQconninfoParse(text.c_str(), &error),
                                                                               PQconninfoFree);
  PQfreemem(error);
  const bool url = text.starts_with("postgresql://") || text.starts_with("postgres://");
  if (!url || !options) {
    fail(Code::kInvalidArgument,
         "[store] this is no URL of a store; expected postgresql://USER@HOST:PORT/DATABASE, special characters as %XX");
  }
  Said said;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    said.options.emplace(option->keyword, option->val);
    if (*option->dispchar == '*' && *option->val != '\0') said.secrets.emplace_back(option->val);
  }
  return said;
}

std::vector<std::string> parts_of(const std::string& list) {
  std::vector<std::string> parts(1);
  for (const char c : list) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// Hosts with the ports that were given for them: "a:5433,b". One port may be meant for all.
std::string shown_hosts(const std::string& hosts, const std::string& ports) {
  const std::vector<std::string> names = parts_of(hosts), numbers = parts_of(ports);
  std::string shown;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& number = numbers.size() == 1 ? numbers[0] : i < numbers.size() ? numbers[i] : "";
    shown += (i == 0 ? "" : ",") + names[i] + (number.empty() ? "" : ":" + number);
  }
  return shown;
}

/// A folder with a socket cannot stand where a host does.
std::string shown_url(const std::map<std::string, std::string>& options) {
  const auto value = [&](const char* name) {
    const auto found = options.find(name);
    return found == options.end() ? std::string() : found->second;
  };
  const std::string host = value("host").empty() ? value("hostaddr") : value("host"), port = value("port");
  const bool socket = host.starts_with('/');
  std::string shown = "postgresql://";
  if (!value("user").empty()) shown += value("user") + "@";
  if (!socket) shown += shown_hosts(host, port);
  shown += "/" + value("dbname");
  if (socket) shown += "?host=" + host + (port.empty() ? "" : "&port=" + port);
  return printable(shown, 500);
}

}  // namespace

PostgresUrl parse_postgres_url(const std::string& text) {
  Said said = read(text);
  std::ranges::sort(said.secrets, std::ranges::greater(), &std::string::size);
  return {text, shown_url(said.options), std::move(said.secrets)};
}

std::string message_of(const char* libpq, const PostgresUrl& url) {
  constexpr std::string_view kMask = "***";
  std::string text(libpq == nullptr ? "" : libpq);
  text = text.substr(0, text.find('\n'));
  for (const std::string& secret : url.secrets) {
    for (std::size_t at = 0; (at = text.find(secret, at)) != text.npos; at += kMask.size())
      text.replace(at, secret.size(), kMask);
  }
  return text.empty() ? "no reason was given" : printable(text, 300);
}

}  // namespace recast
