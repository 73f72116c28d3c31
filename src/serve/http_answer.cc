#include "http_answer.h"

#include <fmt/format.h>

#include <array>
#include <boost/beast/http/status.hpp>
#include <ctime>

#include "public_error.h"
#include "recast/serve/infer_body.h"

namespace recast {
namespace {

std::string_view reason(int status) {
  const auto text =
      boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(static_cast<unsigned>(status)));
  return {text.data(), text.size()};
}

}  // namespace

HttpAnswer json_answer(std::string body) { return {200, "application/json", std::move(body), {}, false}; }

HttpAnswer json_answer(const nlohmann::json& value) {
  return json_answer(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

HttpAnswer error_answer(int status, std::string_view text) {
  HttpAnswer answer;
  answer.status = status;
  answer.content_type = "application/json";
  answer.body = write_error_body(text);
  if (status == 503 || status == 429) answer.fields.emplace_back("Retry-After", std::to_string(kRetryAfter.count()));
  return answer;
}

HttpAnswer too_many_connections(std::size_t connections) {
  return error_answer(503, fmt::format("[http] {} connections are open: try again later", connections));
}

HttpAnswer answer_of_current_exception() {
  const PublicError error = public_error();
  return error_answer(error.http_status, error.message);
}

std::string head_text(const HttpAnswer& answer, std::size_t body_bytes, int minor_version, bool keep_alive,
                      std::string_view date) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\n", answer.status, reason(answer.status), date);
  if (!answer.content_type.empty()) text += fmt::format("Content-Type: {}\r\n", answer.content_type);
  if (answer.status != 204) text += fmt::format("Content-Length: {}\r\n", body_bytes);
  for (const auto& [field, value] : answer.fields) text += fmt::format("{}: {}\r\n", field, value);
  text += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
  if (!keep_alive)
    text += "Connection: close\r\n";
  else if (minor_version == 0)
    text += "Connection: keep-alive\r\n";
  return text += "\r\n";
}

std::string http_date() {
  constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT", kDays[static_cast<std::size_t>(utc.tm_wday)],
                     utc.tm_mday, kMonths[static_cast<std::size_t>(utc.tm_mon)], utc.tm_year + 1900, utc.tm_hour,
                     utc.tm_min, utc.tm_sec);
}

}  // namespace recast
