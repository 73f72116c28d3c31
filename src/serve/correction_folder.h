#pragma once
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

#include "recast/serve/http_server.h"

namespace recast {

/// An image and what a person says it is, of a task.
struct Correction {
  std::string base, task;  ///< names of folders
  std::string label;
  std::string image;  ///< JPEG, PNG or WebP
};

struct SavedCorrection {
  std::string file;        ///< in the folder
  std::int64_t images;     ///< of this task in the folder, now
  std::string moved_from;  ///< the label that the image had before; empty: it is new, or had this one
};

/// Where corrections are kept: FOLDER/BASE/TASK/train/LABEL/DIGEST.ENDING, class folders as `recast learn --data` takes
/// them; a dot in front of BASE becomes _. The file's name is the image's digest: an image that is corrected twice has
/// the label that was said last.
/// Crash    a correction is there whole or not at all, and survives once save() returned.
/// Threads  all calls in parallel; they take turns.
/// Owns     nothing: whoever runs the server may take files and folders away at any time.
class CorrectionFolder {
 public:
  /// The folder is made where it is absent. Throws kUnavailable.
  explicit CorrectionFolder(const std::filesystem::path& folder, const CorrectionLimits& limits = {});

  /// Throws  kInvalidArgument: a label that no folder can have, an image that cannot be decoded;  kUnsupported: another
  ///         format;  kExhausted: the folder, or the image, is at a limit;  kUnavailable: it cannot be written, or a
  ///         link lies where a folder is expected.
  SavedCorrection save(const Correction& correction);

 private:
  const std::filesystem::path folder_;
  const CorrectionLimits limits_;
  std::mutex mutex_;
};

}  // namespace recast
