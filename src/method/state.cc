#include "recast/method/state.h"

#include <cstring>

#include "recast/base/error.h"

namespace recast {

std::string number_name(std::string_view family, std::string_view slot, std::string_view key) {
  std::string name(family);
  if (!slot.empty()) name.append("@").append(slot);
  if (!key.empty()) name.append("#").append(key);
  return name;
}

std::string_view family_of(std::string_view name) { return name.substr(0, name.find_first_of("@#")); }

const Number& State::number(std::string_view name) const {
  const auto found = numbers_.find(name);
  if (found == numbers_.end()) fail(Code::kNotFound, "[state] no number '{}' among {}", name, numbers_.size());
  return found->second;
}

template <class T>
static const T& typed(const Number& number, std::string_view name, const char* wanted) {
  const T* value = std::get_if<T>(&number);
  if (!value) fail(Code::kShapeMismatch, "[state] '{}' is no {}", name, wanted);
  return *value;
}

const at::Tensor& State::tensor(std::string_view name) const { return typed<at::Tensor>(number(name), name, "tensor"); }
std::int64_t State::integer(std::string_view name) const { return typed<std::int64_t>(number(name), name, "integer"); }
double State::real(std::string_view name) const { return typed<double>(number(name), name, "real number"); }
const std::string& State::text(std::string_view name) const { return typed<std::string>(number(name), name, "text"); }

void State::erase(std::string_view name) {
  const auto found = numbers_.find(name);
  if (found != numbers_.end()) numbers_.erase(found);
}

State State::clone() const {
  State copy = *this;
  for (auto& [name, number] : copy.numbers_)
    if (auto* tensor = std::get_if<at::Tensor>(&number)) *tensor = tensor->detach().clone();
  return copy;
}

std::int64_t State::bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [name, number] : numbers_) {
    if (const auto* tensor = std::get_if<at::Tensor>(&number))
      bytes += static_cast<std::int64_t>(tensor->nbytes());
    else if (const auto* text = std::get_if<std::string>(&number))
      bytes += static_cast<std::int64_t>(text->size());
    else
      bytes += 8;
  }
  return bytes;
}

State& Numbers::at(std::string_view plug, Scope scope) { return plugs_[std::string(plug)][scope]; }

const State& Numbers::at(std::string_view plug, Scope scope) const {
  static const State kEmpty;
  const auto scopes = plugs_.find(plug);
  if (scopes == plugs_.end()) return kEmpty;
  const auto state = scopes->second.find(scope);
  return state == scopes->second.end() ? kEmpty : state->second;
}

Numbers Numbers::clone() const {
  Numbers copy = *this;
  for (auto& [plug, scopes] : copy.plugs_)
    for (auto& [scope, state] : scopes) state = state.clone();
  return copy;
}

Numbers Numbers::only(Scope scope) const {
  Numbers chosen;
  for (const auto& [plug, scopes] : plugs_)
    if (const auto state = scopes.find(scope); state != scopes.end() && !state->second.empty())
      chosen.at(plug, scope) = state->second;
  return chosen;
}

/// By bytes, so that NaN equals itself and -0 is not 0.
static bool equal(const Number& a, const Number& b) {
  if (a.index() != b.index()) return false;
  if (const auto* x = std::get_if<std::int64_t>(&a)) return *x == std::get<std::int64_t>(b);
  if (const auto* x = std::get_if<double>(&a)) return std::memcmp(x, &std::get<double>(b), sizeof *x) == 0;
  if (const auto* x = std::get_if<std::string>(&a)) return *x == std::get<std::string>(b);
  const auto &x = std::get<at::Tensor>(a), &y = std::get<at::Tensor>(b);
  if (x.scalar_type() != y.scalar_type() || x.sizes() != y.sizes()) return false;
  const at::Tensor p = x.detach().cpu().contiguous(), q = y.detach().cpu().contiguous();
  return p.nbytes() == 0 || std::memcmp(p.const_data_ptr(), q.const_data_ptr(), p.nbytes()) == 0;
}

bool equal(const State& a, const State& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
           return x.first == y.first && equal(x.second, y.second);
         });
}

bool equal(const Numbers& a, const Numbers& b) {
  auto same = [](const Numbers& x, const Numbers& y) {
    for (const auto& [plug, scopes] : x.plugs())
      for (const auto& [scope, state] : scopes)
        if (!equal(state, y.at(plug, scope))) return false;
    return true;
  };
  return same(a, b) && same(b, a);
}

}  // namespace recast
