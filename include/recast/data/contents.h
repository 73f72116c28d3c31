#pragma once
#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "recast/data/example.h"
#include "recast/data/visit_rows.h"

namespace recast {

class Dataset;

using Digest = std::array<std::uint8_t, 32>;  ///< SHA-256

/// What the images of a dataset are made of, without decoding one.
struct Contents {
  /// By split and row, of the bytes as stored. Nothing for a file that cannot be read now: opening it says why.
  std::array<std::vector<std::optional<Digest>>, 3> digests;
  std::int64_t hashed = 0;         ///< images read and hashed
  std::int64_t remembered = 0;     ///< taken from the cache: same path, size and times
  std::int64_t unreadable = 0;     ///< images without a digest
  std::vector<std::string> notes;  ///< what went wrong with the cache; the digests are right all the same
};

/// Hashes every image. Digests of files are remembered in cache_folder()/scan, one file per dataset, keyed by path,
/// size and the times of change of content and inode, in nanoseconds; a file changed within two seconds of the scan
/// is hashed again next time. A damaged, foreign or unwritable cache costs time, never a wrong digest.
/// Throws kCancelled when stopped: what was hashed until then is remembered. kInvalidArgument as visit_rows().
Contents scan_contents(const Dataset& dataset, const VisitOptions& options = {});

/// Two examples with the same bytes.
struct SameImage {
  Split first_split, second_split;
  std::string first, second;  ///< ids
};

/// Images that lie in more than one split, so that figures say too much: found by their bytes, so the same picture
/// saved anew, or scaled, is another one.
struct Duplicates {
  std::int64_t test_in_train = 0;        ///< test images that are training images, too
  std::int64_t test_in_validation = 0;   ///< the same of validation images
  std::int64_t validation_in_train = 0;  ///< validation images that are training images, too
  std::int64_t with_other_label = 0;     ///< images whose bytes have another label elsewhere in the dataset
  std::vector<SameImage> examples;       ///< the first few, those of test first

  bool any() const { return test_in_train + test_in_validation + validation_in_train + with_other_label > 0; }
};

/// O(n log n). `contents` must be of this dataset. At most `most` examples.
Duplicates find_duplicates(const Dataset& dataset, const Contents& contents, std::size_t most = 5);

/// One line for people that says what is wrong and what it does to the figures; empty if there are no duplicates.
std::string warning_of(const Duplicates& duplicates);

/// {test_in_train, test_in_validation, validation_in_train, with_other_label, examples: [{first, second}]} with
/// texts "SPLIT: ID".
nlohmann::json describe(const Duplicates& duplicates);

}  // namespace recast
