#pragma once
#include <string>

namespace recast {

/// A URL of a database, as libpq reads it.
struct PostgresUrl {
  std::string text;      ///< with all secrets; never shown
  std::string shown;     ///< user, host, port and database, fit for messages
  std::string password;  ///< empty: none in the URL
};

/// Throws kInvalidArgument, without the text.
PostgresUrl parse_postgres_url(const std::string& text);

/// libpq's own message in one line, without the password.
std::string message_of(const char* libpq, const PostgresUrl& url);

}  // namespace recast
