#include "http_answer.h"

#include <fmt/format.h>

#include <array>
#include <ctime>

#include "public_error.h"
#include "recast/serve/infer_body.h"

namespace recast {
namespace {

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

}  // namespace

HttpAnswer json_answer(std::string body) { return {200, "application/json", std::move(body), {}, false}; }

HttpAnswer error_answer(int status, std::string_view text) {
  HttpAnswer answer;
  answer.status = status;
  answer.content_type = "application/json";
  answer.body = write_error_body(text);
  if (status == 503 || status == 429) answer.fields.emplace_back("Retry-After", "1");
  return answer;
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
