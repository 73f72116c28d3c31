// What arrives at the HTTP port: requests one behind the other, each up to where the service is asked. A stream reads
// the same whole and in pieces, within its limits.
#include <algorithm>

#include "recast/format/utf8.h"
#include "recast/serve/infer_body.h"
#include "recast/serve/model_name.h"
#include "serve/http_content.h"
#include "serve/http_parser.h"
#include "serve/http_query.h"
#include "serve/http_route.h"
#include "serve/request_marks.h"
#include "target.h"

using namespace recast;

namespace {

constexpr HttpParserLimits kLimits{512, 20, 256, 4096, 50};

struct Taken {
  HttpHead head;
  std::string body;

  bool operator==(const Taken&) const = default;
};

/// What an access log has of it.
void check_marks(const HttpHead& head) {
  const RequestMarks marks = request_marks(head.request_id, head.traceparent);
  const auto is_made_of = [](std::string_view text, std::string_view signs) {
    return text.find_first_not_of(signs) == text.npos;
  };
  RECAST_FUZZ_CHECK(marks.id.empty() || marks.id == head.request_id);
  constexpr std::string_view kHex = "0123456789abcdef",
                             kId = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@/+=-";
  RECAST_FUZZ_CHECK(marks.id.size() <= 128 && is_made_of(marks.id, kId));
  RECAST_FUZZ_CHECK(marks.trace.empty() == marks.span.empty());
  RECAST_FUZZ_CHECK(marks.trace.empty() || (marks.trace.size() == 32 && is_made_of(marks.trace, kHex)));
  RECAST_FUZZ_CHECK(marks.span.empty() || (marks.span.size() == 16 && is_made_of(marks.span, kHex)));
}

void check_taken(const HttpHead& head, const std::string& body) {
  RECAST_FUZZ_CHECK(!(head.length && head.chunked));
  RECAST_FUZZ_CHECK(head.target.size() <= kLimits.url_bytes + 1);
  RECAST_FUZZ_CHECK(!head.length || *head.length == body.size());
  check_marks(head);
  for (const auto* field : {&head.authorization, &head.content_type, &head.origin})
    RECAST_FUZZ_CHECK(!*field || (*field)->find_first_of(std::string("\r\n\0", 3)) == std::string::npos);
}

/// The requests up to the first that is refused or cut off, as a connection reads them. Where a header is refused
/// before its end depends on the pieces.
std::vector<Taken> read_stream(std::string_view stream, std::size_t piece) {
  std::vector<Taken> all;
  std::string waiting;
  auto parser = std::make_unique<HttpParser>(kLimits);
  for (;;) {
    const std::size_t used = parser->put(waiting);
    RECAST_FUZZ_CHECK(used <= waiting.size());
    waiting.erase(0, used);
    if (parser->refusal()) {
      const int status = parser->refusal()->status;
      RECAST_FUZZ_CHECK(status >= 400 && status < 600 && !parser->refusal()->text.empty());
      return all;
    }
    RECAST_FUZZ_CHECK(parser->body_bytes() <= kLimits.body_bytes);
    if (parser->done()) {
      all.push_back({parser->head(), parser->take_body()});
      check_taken(all.back().head, all.back().body);
      parser = std::make_unique<HttpParser>(kLimits);
    } else if (used == 0) {
      if (stream.empty()) return all;
      waiting += stream.substr(0, piece);
      stream.remove_prefix(std::min(piece, stream.size()));
    }
  }
}

/// What error answers quote of a request stays one JSON object in ASCII.
void check_error_body(const std::string& text) {
  const std::string body = write_error_body(text);
  RECAST_FUZZ_CHECK(std::ranges::all_of(body, [](char c) { return c >= ' ' && c <= '~'; }));
  RECAST_FUZZ_CHECK(nlohmann::json::parse(body).at("error").is_string());
}

void read_inference(const Taken& request, const std::string& model, const std::string& version,
                    std::optional<std::size_t> json_bytes) {
  fuzz::accepted([&] {
    InferenceRequest inference = parse_infer_body(request.body, json_bytes);
    name_model(inference, model, version);
    check_request(inference);
    return true;
  });
}

/// The origin of a page of this server is "http://" or "https://" and the request's Host.
void check_origin(const HttpHead& head) {
  if (!head.origin) {
    RECAST_FUZZ_CHECK(from_own_page(head));
  } else if (from_own_page(head)) {
    RECAST_FUZZ_CHECK(head.host);
    const std::size_t scheme = head.origin->size() - head.host->size();
    RECAST_FUZZ_CHECK(scheme == 7 || scheme == 8);
  }
}

/// As HttpApi does before it asks the service.
void read_request(const Taken& request) {
  check_error_body(request.head.target);
  RECAST_FUZZ_CHECK(!names_this_server(request.head, {}) || names_this_server(request.head, {"h"}));
  const auto route = find_route(path_of(request.head.target));
  if (!route) return;
  std::string model, version;
  const auto named = fuzz::accepted([&] {
    if (!route->model.empty()) model = decode_path_segment(route->model);
    if (!route->version.empty()) version = decode_path_segment(route->version);
    RECAST_FUZZ_CHECK((model + version).find_first_of("/\\") == std::string::npos);
    if (!model.empty()) parse_model_name(model, version);
    return true;
  });
  const auto query = fuzz::accepted([&] { return parse_query(request.head.target, {"after", "search", "limit"}); });
  RECAST_FUZZ_CHECK(!query || std::ranges::all_of(*query, [](const auto& said) {
    return said.second.size() <= kMostQueryValueBytes && is_utf8(said.second);
  }));
  if (!named || !route->post) return;
  check_origin(request.head);
  const bool infers = route->action == HttpAction::kInfer;
  std::optional<std::size_t> json_bytes;
  if (const auto refusal = check_content_fields(request.head, infers, json_bytes)) {
    RECAST_FUZZ_CHECK(refusal->status >= 400 && refusal->status < 500 && !refusal->text.empty());
  } else if (infers) {
    read_inference(request, model, version, json_bytes);
  } else if (route->action == HttpAction::kCorrect) {
    fuzz::accepted([&] { return read_correction(request.body); });
  } else {
    const auto parameters = fuzz::accepted([&] { return small_body_parameters(read_small_body(request.body)); });
    RECAST_FUZZ_CHECK(!parameters || parameters->is_object());
  }
}

}  // namespace

/// The first byte: how long the pieces are.
RECAST_FUZZ_TARGET(http_request) {
  if (bytes.empty()) return;
  const std::size_t piece = 1 + static_cast<unsigned char>(bytes[0]);
  bytes.remove_prefix(1);
  const std::vector<Taken> whole = read_stream(bytes, std::max<std::size_t>(bytes.size(), 1));
  RECAST_FUZZ_CHECK(read_stream(bytes, piece) == whole);
  for (const Taken& request : whole) read_request(request);
}
