#pragma once
#include <ATen/ATen.h>

#include <cstring>
#include <limits>
#include <string>

#include "recast/format/files.h"
#include "recast/store/task_record.h"

namespace recast {

inline std::string fingerprint_of(const std::string& backbone) { return sha256_hex(backbone); }

/// A small task whose numbers depend on `seed` alone.
inline TaskRecord sample_task(const std::string& name, std::int64_t seed = 1, const std::string& backbone = "base") {
  TaskRecord task;
  task.name = name;
  task.fingerprint = fingerprint_of(backbone);
  task.plugs = {{"recast", "recast", {{"grain", "slot"}}}, {"linear", "head", {}}};
  task.labels = {"cat", "dog", "Käfer"};
  task.recipe = {{"name", "fast"}, {"epochs", 3}, {"rate", 0.1}};
  task.metrics = {{"validation_top1", 0.5}};
  task.data = {{"path", "pets"}};
  task.numbers.at("recast", Scope::kTask).set("c@blocks.0.attn.qkv", at::arange(seed, seed + 4, at::kFloat) / 3);
  task.numbers.at("head", Scope::kTask).set("bias", at::full({3}, 0.1 * static_cast<double>(seed)));
  task.numbers.at("head", Scope::kTask).set("seen", seed);
  return task;
}

/// As many fp32 take more than the bytes that stay in the database.
constexpr std::int64_t kOverOneMiB = (1 << 18) + 1;

/// A task whose "w" lies in a file of its own.
inline TaskRecord large_task(const std::string& name, double value = 1) {
  TaskRecord task = sample_task(name);
  task.numbers.at("recast", Scope::kTask).set("w", at::full({kOverOneMiB}, value, at::kFloat));
  return task;
}

/// Numbers that two tasks share; a tensor of `elements` fp32.
inline Numbers sample_shared(double value, std::int64_t elements = 8) {
  Numbers numbers;
  numbers.at("recast", Scope::kShared).set("memory", at::full({elements}, value));
  return numbers;
}

/// Every kind of number, at its limits.
inline State awkward_numbers() {
  State state;
  state.set("least", std::numeric_limits<std::int64_t>::min());
  state.set("most", std::numeric_limits<std::int64_t>::max());
  state.set("minus zero", -0.0);
  state.set("denormal", std::numeric_limits<double>::denorm_min());
  state.set("largest", std::numeric_limits<double>::max());
  state.set("third", 1.0 / 3);
  state.set("text", std::string("ünïcode 字\n\t\"quoted\" \xf0\x9f\x90\x88"));
  state.set("nothing", std::string());
  state.set("integers@slot#0", at::tensor({std::numeric_limits<std::int64_t>::min(), std::int64_t{-1}}, at::kLong));
  state.set("flags@blocks.1.mlp.fc1", at::tensor({1, 0, 1}).to(at::kBool));
  state.set("doubles", at::tensor({-0.0, 5e-324, 1e308}, at::kDouble));
  state.set("halves", (at::arange(12, at::kFloat) / 7).to(at::kBFloat16).reshape({3, 4}).t());
  state.set("empty", at::empty({0, 5}));
  state.set("scalar", at::scalar_tensor(2.5));
  return state;
}

/// Stricter than equal(): -0 is not 0.
inline bool same_bits(const State& a, const State& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
           if (x.first != y.first || x.second.index() != y.second.index()) return false;
           if (const auto* real = std::get_if<double>(&x.second)) {
             return std::memcmp(real, &std::get<double>(y.second), sizeof *real) == 0;
           }
           const auto* tensor = std::get_if<at::Tensor>(&x.second);
           if (tensor == nullptr)
             return x.second.index() == 1 ? std::get<1>(x.second) == std::get<1>(y.second)
                                          : std::get<3>(x.second) == std::get<3>(y.second);
           const at::Tensor p = tensor->contiguous(), q = std::get<at::Tensor>(y.second).contiguous();
           return p.sizes() == q.sizes() && p.scalar_type() == q.scalar_type() &&
                  (p.nbytes() == 0 || std::memcmp(p.data_ptr(), q.data_ptr(), p.nbytes()) == 0);
         });
}

}  // namespace recast
