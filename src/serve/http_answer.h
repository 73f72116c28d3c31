#pragma once
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace recast {

/// What is sent back, but for what the connection adds: length, date, whether it stays open.
struct HttpAnswer {
  int status = 200;
  std::string content_type;  ///< empty: none, as of an empty body
  std::string body;
  std::vector<std::pair<std::string_view, std::string>> fields;
  bool close = false;  ///< the connection ends with it
};

HttpAnswer json_answer(std::string body);
/// What is not UTF-8 in its texts becomes U+FFFD.
HttpAnswer json_answer(const nlohmann::json& value);
/// {"error": text}, with Retry-After where the status means that trying again can help.
HttpAnswer error_answer(int status, std::string_view text);
/// To who comes when so many connections are open.
HttpAnswer too_many_connections(std::size_t connections);
/// Of what is being handled in a catch block: public_error() in the status of its code.
HttpAnswer answer_of_current_exception();

/// Status line and fields up to the empty line. `date`: as HTTP writes it; `body_bytes`: also where the body is left
/// out, as of HEAD.
std::string head_text(const HttpAnswer& answer, std::size_t body_bytes, int minor_version, bool keep_alive,
                      std::string_view date);
/// "Sun, 06 Nov 1994 08:49:37 GMT", of now.
std::string http_date();

}  // namespace recast
