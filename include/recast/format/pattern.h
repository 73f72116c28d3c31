#pragma once
#include <bitset>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

/// A regular expression from outside, matched in time bounded by text times states: no backtracking, so no text and no
/// expression can make it take long. Python's syntax, as far as it is regular and ASCII: characters, `.`, `[a-z]`,
/// `[^a-z]`, \d \w \s \D \W \S, escaped signs, groups `(...)` and `(?:...)`, `|`, `* + ? {m} {m,} {m,n}` and their lazy
/// forms, `^` and `$`.
/// Threads  all calls may run in parallel.
class Pattern {
 public:
  /// What the longest expression may need; a repetition counts as often as it repeats.
  static constexpr std::size_t kMostStates = 2000;
  static constexpr std::size_t kMostBytes = 1024;

  /// Throws  kUnsupported: look-around, back references, flags and whatever else is not named above, with its place;
  ///         kDataCorruption: no expression at all (an open group, nothing to repeat);  kExhausted: too large.
  /// `origin` names it in messages.
  Pattern(std::string_view expression, std::string_view origin);

  /// Whether the whole of `text` matches (Python's re.fullmatch).
  bool matches(std::string_view text) const;
  std::size_t states() const { return states_.size(); }

 private:
  friend class PatternCompiler;
  using Characters = std::bitset<128>;
  enum class Kind { kCharacters, kSplit, kBegin, kEnd, kMatch };
  struct State {
    Kind kind;
    Characters characters;      ///< kCharacters
    int next = -1, other = -1;  ///< other: kSplit
  };

  std::vector<State> states_;
  int start_ = -1;
};

}  // namespace recast
