#pragma once
#include <string>
#include <vector>

namespace recast {

/// A URL of a database, as libpq reads it.
struct PostgresUrl {
  std::string text;   ///< with all secrets; never shown
  std::string shown;  ///< user, host, port and database, fit for messages
  /// Passwords in the URL (`password`, `sslpassword`: what libpq itself would hide), longest first.
  std::vector<std::string> secrets;
};

/// Throws kInvalidArgument, without the text.
PostgresUrl parse_postgres_url(const std::string& text);

/// libpq's own message in one line, without the secrets.
std::string message_of(const char* libpq, const PostgresUrl& url);

}  // namespace recast
