// Thompson's construction: an expression becomes a machine of states, and all states that it could be in are followed
// at once. K. Thompson, "Regular expression search algorithm", CACM 11(6), 1968.
#include "recast/format/pattern.h"

#include <cctype>
#include <charconv>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

/// A recursive descent that appends states. A repetition reads its atom once for every copy.
class PatternCompiler {
 public:
  PatternCompiler(std::string_view expression, std::string_view origin, Pattern& pattern)
      : text_(expression), origin_(origin), states_(pattern.states_) {}

  int run() {
    if (text_.size() > Pattern::kMostBytes)
      fail(Code::kExhausted, "[pattern] {}: an expression of {} bytes, at most {} are accepted", origin_, text_.size(),
           Pattern::kMostBytes);
    const Fragment whole = alternation(0);
    if (at_ < text_.size()) refuse(Code::kDataCorruption, "a ) without its (");
    join(whole, add({Pattern::Kind::kMatch, {}}));
    return whole.start;
  }

 private:
  /// Where a piece of the machine begins, and its loose ends: a state and which of its two ways out.
  struct Fragment {
    int start;
    std::vector<std::pair<int, bool>> ends;
  };
  static constexpr int kMostNested = 32;
  static constexpr int kMostRepeats = 1000;

  [[noreturn]] void refuse(Code code, std::string_view what) const {
    fail(code, "[pattern] {}: '{}' has {} at byte {}; understood are characters, classes, groups, | * + ? {{m,n}} ^ $",
         origin_, printable(text_), what, at_ + 1);
  }
  bool more() const { return at_ < text_.size(); }
  bool next_is(char c) const { return more() && text_[at_] == c; }
  bool take(char c) { return next_is(c) && ++at_ > 0; }
  char take_any() {
    if (!more()) refuse(Code::kDataCorruption, "an end where more must follow");
    const char c = text_[at_];
    if (static_cast<unsigned char>(c) >= 128) refuse(Code::kUnsupported, "a character beyond ASCII");
    ++at_;
    return c;
  }

  int add(Pattern::State state) {
    if (states_.size() >= Pattern::kMostStates)
      fail(Code::kExhausted, "[pattern] {}: '{}' needs more than {} states", origin_, printable(text_),
           Pattern::kMostStates);
    states_.push_back(std::move(state));
    return static_cast<int>(states_.size()) - 1;
  }
  void join(const Fragment& fragment, int target) {
    for (const auto& [state, other] : fragment.ends) (other ? states_[state].other : states_[state].next) = target;
  }
  Fragment single(Pattern::Kind kind, Pattern::Characters characters = {}) {
    const int state = add({kind, characters});
    return {state, {{state, false}}};
  }
  /// Matches nothing, at the cost of a state, so that copies of it are counted too. Both ways lead on.
  Fragment empty() {
    const int state = add({Pattern::Kind::kSplit, {}});
    return {state, {{state, false}, {state, true}}};
  }

  Fragment alternation(int nested) {
    if (nested > kMostNested) refuse(Code::kExhausted, "groups nested too deep");
    Fragment left = sequence(nested);
    while (take('|')) {
      const Fragment right = sequence(nested);
      const int split = add({Pattern::Kind::kSplit, {}, left.start, right.start});
      left.start = split;
      left.ends.insert(left.ends.end(), right.ends.begin(), right.ends.end());
    }
    return left;
  }

  Fragment sequence(int nested) {
    Fragment whole = empty();
    while (more() && !next_is('|') && !next_is(')')) {
      const Fragment piece = repetition(nested);
      join(whole, piece.start);
      whole.ends = piece.ends;
    }
    return whole;
  }

  Fragment repetition(int nested) {
    const std::size_t begin = at_;
    const Fragment first = atom(nested);
    int least = 1, most = 1;  // most < 0: without end
    if (!quantifier(least, most)) return first;
    const std::size_t end = at_;
    if (text_[begin] == '^' || text_[begin] == '$') refuse(Code::kDataCorruption, "a place, which cannot be repeated,");
    Fragment whole = empty();
    join(whole, least > 0 ? first.start : -1);
    if (least > 0) whole.ends = first.ends;
    for (int copy = 1; copy < least; ++copy) append(whole, again(begin, nested));
    if (most < 0) append(whole, star(least > 0 ? again(begin, nested) : first));
    for (int copy = least; copy < most; ++copy) append(whole, optional(copy == 0 ? first : again(begin, nested)));
    at_ = end;
    return whole;
  }

  void append(Fragment& whole, const Fragment& piece) {
    join(whole, piece.start);
    whole.ends = piece.ends;
  }
  Fragment again(std::size_t begin, int nested) {
    at_ = begin;
    return atom(nested);
  }
  Fragment star(const Fragment& piece) {
    const int split = add({Pattern::Kind::kSplit, {}, piece.start});
    join(piece, split);
    return {split, {{split, true}}};
  }
  Fragment optional(const Fragment& piece) {
    const int split = add({Pattern::Kind::kSplit, {}, piece.start});
    Fragment made{split, piece.ends};
    made.ends.emplace_back(split, true);
    return made;
  }

  bool quantifier(int& least, int& most) {
    if (take('*')) {
      least = 0, most = -1;
    } else if (take('+')) {
      least = 1, most = -1;
    } else if (take('?')) {
      least = 0, most = 1;
    } else if (take('{')) {
      counts(least, most);
    } else {
      return false;
    }
    take('?');  // lazy: which match is found first makes no difference to whether there is one
    if (next_is('*') || next_is('+') || next_is('?') || next_is('{'))
      refuse(Code::kUnsupported, "a repetition of a repetition");
    return true;
  }
  void counts(int& least, int& most) {
    least = next_is(',') ? 0 : number();
    most = least;
    if (take(',')) most = next_is('}') ? -1 : number();
    if (!take('}')) refuse(Code::kUnsupported, "a { that begins no {m,n}");
    if (most >= 0 && most < least) refuse(Code::kDataCorruption, "a {m,n} with n below m");
  }
  int number() {
    int value = 0;
    const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error == std::errc::invalid_argument || value < 0) refuse(Code::kUnsupported, "a { that begins no {m,n}");
    if (error != std::errc() || value > kMostRepeats) refuse(Code::kExhausted, "over 1,000 repetitions");
    at_ = static_cast<std::size_t>(stop - text_.data());
    return value;
  }

  Fragment atom(int nested) {
    if (next_is('*') || next_is('+') || next_is('?') || next_is('{'))
      refuse(Code::kDataCorruption, "nothing to repeat");
    const char c = take_any();
    switch (c) {
      case '(':
        return group(nested);
      case '[':
        return single(Pattern::Kind::kCharacters, character_class());
      case '.':
        return single(Pattern::Kind::kCharacters, Pattern::Characters().set().reset('\n'));
      case '^':
        return single(Pattern::Kind::kBegin);
      case '$':
        return single(Pattern::Kind::kEnd);
      case '\\':
        return single(Pattern::Kind::kCharacters, escaped());
      default:
        return single(Pattern::Kind::kCharacters, Pattern::Characters().set(static_cast<std::size_t>(c)));
    }
  }

  Fragment group(int nested) {
    if (take('?') && !take(':')) refuse(Code::kUnsupported, "look-around, a name, a flag or a comment (?...");
    const Fragment inside = alternation(nested + 1);
    if (!take(')')) refuse(Code::kDataCorruption, "a ( without its )");
    return inside;
  }

  /// Of \d, \w, \s, their opposites, or an escaped sign.
  Pattern::Characters escaped() {
    const char c = take_any();
    if (std::ispunct(static_cast<unsigned char>(c))) return Pattern::Characters().set(static_cast<std::size_t>(c));
    Pattern::Characters set;
    for (int code = 0; code < 128; ++code) {
      const bool word = std::isalnum(code) || code == '_';
      const bool in = std::tolower(c) == 'd' ? std::isdigit(code) : std::tolower(c) == 'w' ? word : std::isspace(code);
      set.set(static_cast<std::size_t>(code), in);
    }
    if (std::string_view("dwsDWS").find(c) == std::string_view::npos)
      refuse(Code::kUnsupported, "an escape other than \\d \\w \\s and signs");
    return std::isupper(static_cast<unsigned char>(c)) ? ~set : set;
  }

  Pattern::Characters character_class() {
    const bool all_but = take('^');
    Pattern::Characters set;
    for (bool first = true; first || !next_is(']'); first = false) {
      const char low = take_any();
      if (low == '\\') {
        set |= escaped();
        continue;
      }
      char high = low;
      if (next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        take('-');
        high = take_any();
        if (high == '\\' || high < low) refuse(Code::kUnsupported, "a range that runs backwards or ends in an escape");
      }
      for (int code = low; code <= high; ++code) set.set(static_cast<std::size_t>(code));
    }
    take(']');
    return all_but ? ~set : set;
  }

  std::string_view text_, origin_;
  std::vector<Pattern::State>& states_;
  std::size_t at_ = 0;
};

Pattern::Pattern(std::string_view expression, std::string_view origin) {
  start_ = PatternCompiler(expression, origin, *this).run();
}

bool Pattern::matches(std::string_view text) const {
  std::vector<int> now, then, open;
  std::vector<std::size_t> seen(states_.size(), 0);  // 1 + the place at which a state was entered last
  const auto enter = [&](int from, std::size_t place, std::vector<int>& into) {
    open.push_back(from);
    while (!open.empty()) {
      const int at = open.back();
      open.pop_back();
      if (at < 0 || seen[static_cast<std::size_t>(at)] == place + 1) continue;
      seen[static_cast<std::size_t>(at)] = place + 1;
      const State& state = states_[static_cast<std::size_t>(at)];
      if (state.kind == Kind::kSplit) open.push_back(state.other);
      const bool passes = state.kind == Kind::kSplit || (state.kind == Kind::kBegin && place == 0) ||
                          (state.kind == Kind::kEnd && place == text.size());
      if (passes) open.push_back(state.next);
      if (state.kind == Kind::kCharacters || state.kind == Kind::kMatch) into.push_back(at);
    }
  };
  enter(start_, 0, now);
  for (std::size_t place = 0; place < text.size() && !now.empty(); ++place) {
    const auto code = static_cast<unsigned char>(text[place]);
    for (const int at : now) {
      const State& state = states_[static_cast<std::size_t>(at)];
      if (state.kind == Kind::kCharacters && code < 128 && state.characters.test(code))
        enter(state.next, place + 1, then);
    }
    now.swap(then);
    then.clear();
  }
  for (const int at : now)
    if (states_[static_cast<std::size_t>(at)].kind == Kind::kMatch) return true;
  return false;
}

}  // namespace recast
