#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "correction_folder.h"
#include "example_images.h"
#include "http_answer.h"
#include "recast/serve/http_server.h"

namespace recast {

struct HttpCall;

/// The most that a correction's body may have: an image in base64, and what stands beside it.
inline constexpr std::size_t kMostCorrectionBody = kMostImageBytes / 3 * 4 + (std::size_t{64} << 10);

/// The page for people at /, and what it asks beside the protocol. Threads: all calls in parallel.
class HttpPage {
 public:
  /// Throws  as read_examples() and CorrectionFolder.
  HttpPage(Service& service, const HttpOptions& options, bool tokens);

  bool takes_corrections() const { return corrections_ != nullptr; }
  /// What the actions from HttpAction::kPage on answer. Throws what is wrong with the request.
  HttpAnswer answer(const HttpCall& call, std::string_view body) const;

 private:
  HttpAnswer settings(const HttpCall& call) const;
  HttpAnswer tasks(const HttpCall& call) const;
  HttpAnswer example(const HttpCall& call) const;
  HttpAnswer correct(const HttpCall& call, std::string_view body) const;

  Service& service_;
  const bool tokens_;
  const std::vector<PageExample> examples_;
  const std::unique_ptr<CorrectionFolder> corrections_;  // null: none are taken
};

}  // namespace recast
