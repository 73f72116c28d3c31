#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>

namespace recast {

/// Named tensors whose dimension 0 counts rows; a ragged "x" brings "x.offsets" [B+1]; text is ragged uint8.
using Fields = std::map<std::string, at::Tensor, std::less<>>;

using Number = std::variant<at::Tensor, std::int64_t, double, std::string>;

/// Where a number lives. kTask: one task. kShared: all tasks of a recipe. kClient: one holder of data. kLive: changes
/// while serving. kRun: training only, dies with the run (it is in the checkpoint).
enum class Scope { kTask, kShared, kClient, kLive, kRun };

/// "family", "family@slot", "family@slot#key": how a number is called inside its plug-in.
std::string number_name(std::string_view family, std::string_view slot = {}, std::string_view key = {});
/// The family of such a name.
std::string_view family_of(std::string_view name);

/// One plug-in's numbers of one scope: an ordered map from number_name to tensor or scalar. A copy shares its tensors;
/// clone() does not, and whoever writes tensors in place owns a clone. Threads: reads in parallel.
class State {
 public:
  using Map = std::map<std::string, Number, std::less<>>;

  bool has(std::string_view name) const { return numbers_.find(name) != numbers_.end(); }
  /// Throw kNotFound naming the number, kShapeMismatch if it is of another type.
  const at::Tensor& tensor(std::string_view name) const;
  std::int64_t integer(std::string_view name) const;
  double real(std::string_view name) const;
  const std::string& text(std::string_view name) const;

  void set(std::string name, Number number) { numbers_.insert_or_assign(std::move(name), std::move(number)); }
  void erase(std::string_view name);
  bool empty() const { return numbers_.empty(); }
  std::size_t size() const { return numbers_.size(); }
  Map::const_iterator begin() const { return numbers_.begin(); }
  Map::const_iterator end() const { return numbers_.end(); }

  /// Copies every tensor's bytes; the copies require no gradient.
  State clone() const;
  /// Bytes of all tensors plus 8 for each scalar number and the length of each text.
  std::int64_t bytes() const;

 private:
  const Number& number(std::string_view name) const;
  Map numbers_;
};

/// All numbers of a recipe: plug-in's alias -> scope -> state.
class Numbers {
 public:
  using Scopes = std::map<Scope, State>;

  State& at(std::string_view plug, Scope scope);
  /// An empty state where there is none.
  const State& at(std::string_view plug, Scope scope) const;
  std::map<std::string, Scopes, std::less<>>& plugs() { return plugs_; }
  const std::map<std::string, Scopes, std::less<>>& plugs() const { return plugs_; }
  Numbers clone() const;
  /// Only the states of one scope.
  Numbers only(Scope scope) const;

 private:
  std::map<std::string, Scopes, std::less<>> plugs_;
};

/// Bit-equality of every number.
bool equal(const State& a, const State& b);
bool equal(const Numbers& a, const Numbers& b);

}  // namespace recast
