#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

/// How the training rows of a class-incremental stream are dealt out over its steps. In every stream each class has a
/// step in which it is new, the same one in all three; what differs is whether it comes back.
enum class StreamKind {
  kDisjoint,  ///< all rows of a class come in its own step
  kMixed,     ///< so do those of most classes; a share of the classes recurs: their rows are spread over their own step
              ///< and all later ones, in random sizes; every row comes once in the stream
  kRecurring,  ///< all rows of a class come in its own step; in each later step it comes back with a probability, with
               ///< a random number of its rows: a row may come several times
};
/// "disjoint", "mixed", "recurring".
std::string_view name(StreamKind kind);
/// Throws kInvalidArgument.
StreamKind parse_stream_kind(std::string_view text);

struct StreamOptions {
  std::int64_t increment = 0;      ///< new classes of each step after the first; the last step has what is left
  std::int64_t base = 0;           ///< classes of the first step; 0: as many as of the others
  std::int64_t class_seed = 1993;  ///< of the order of the classes, and of which rows recur; 0 to 2^32 - 1
  StreamKind kind = StreamKind::kDisjoint;
  double share = 0.5;  ///< mixed: of the classes that recur; recurring: probability that one comes back
};

/// Throws kInvalidArgument: options that are out of range whatever the classes are.
void check(const StreamOptions& options);

struct StreamStep {
  std::int64_t first = 0, classes = 0;  ///< columns first .. first + classes - 1 are new
  std::vector<std::int64_t> rows;       ///< to learn from, ascending, none twice in a step
};

/// A class's column is its place in `order`, so after step s the head has columns 0 .. first + classes - 1.
struct ClassStream {
  std::vector<std::int64_t> order;   ///< [C] column -> class
  std::vector<std::int64_t> column;  ///< [C] class -> column
  std::vector<StreamStep> steps;

  std::int64_t seen(std::size_t step) const { return steps.at(step).first + steps.at(step).classes; }
};

/// `labels`: the class of each training row, 0 .. classes - 1. The order of the classes is
/// numpy_permutation(class_seed, classes), as PyCIL, PILOT and iCaRL's followers draw it. No class is dropped: base + k
/// increment need not be C. Mixed: round(share C) classes recur; one with its own step f of T has its n rows, shuffled,
/// cut at random places into T - f pieces, each as long on average, the first of at least one row. Recurring: a class
/// known before comes back in a step with probability `share`, with 1 to n of its rows, all sizes alike. Throws
/// kInvalidArgument: options out of range, a class without a row.
ClassStream make_stream(const std::vector<std::int64_t>& labels, std::int64_t classes, const StreamOptions& options);

/// numpy.random.RandomState(seed).permutation(n): MT19937 (Matsumoto and Nishimura 1998), seeded by Knuth's recurrence,
/// and NumPy's legacy shuffle, whose bits NumPy has frozen. n below 2^32.
std::vector<std::int64_t> numpy_permutation(std::uint32_t seed, std::int64_t n);

}  // namespace recast
