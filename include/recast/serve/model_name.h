#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "recast/serve/inference.h"

namespace recast {

// Names of models on the wire; docs/serving.md, "Names of models". All functions are pure.

/// The model whose rows name their tasks.
inline constexpr std::string_view kMixedModel = "recast";

/// A name taken apart.
struct ModelName {
  bool mixed = false;                   ///< kMixedModel, without a base
  std::string base;                     ///< of BASE@NAME; empty: not said
  std::string task;                     ///< empty if mixed
  std::optional<std::int64_t> version;  ///< a stored version, 1, 2, ...
  std::string tag;                      ///< or the tag of one; neither: the newest

  /// The name as one text: [BASE@]TASK[:VERSION|:TAG], or "recast".
  std::string text() const;
  bool operator==(const ModelName&) const = default;
};

/// Reads NAME, NAME:VERSION, NAME:TAG, BASE@NAME with either, or "recast". `version`: what was said beside the name (as
/// in /v2/models/NAME/versions/VERSION), a version or a tag; empty: nothing. A task that is called "recast" itself is
/// reached as BASE@recast.
/// Throws  kInvalidArgument: not such a name, or two versions that differ;  kNotFound: a version of "recast".
ModelName parse_model_name(std::string_view name, std::string_view version = "");

/// Gives a request the model and version that its transport was told (a URL, a gRPC field).
/// Throws  kInvalidArgument: its body named another model or version.
void name_model(InferenceRequest& request, std::string_view model, std::string_view version);

/// One segment of a URL's path, with %XX taken back once. What comes out may be used as a name, never as a path: it has
/// no slash, backslash, control character or NUL, is neither "." nor "..", and is UTF-8.
/// Throws  kInvalidArgument: any of these, characters that a path cannot have, % without two hexadecimal digits, an
///         empty segment;  kExhausted: over 1,024 bytes.
std::string decode_path_segment(std::string_view segment);

}  // namespace recast
