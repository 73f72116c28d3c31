#include "engine_statistics.h"

#include <chrono>

namespace recast {
namespace {

void count(std::int64_t& counter, std::int64_t& sum, std::int64_t ns) {
  ++counter;
  sum += ns;
}

}  // namespace

EngineStatistics::Counts& EngineStatistics::counts(const Key& key) {
  auto [found, fresh] = by_model_.try_emplace(key);
  if (fresh) {
    order_.push_front(key);
    found->second.place = order_.begin();
    if (by_model_.size() > models_) {
      by_model_.erase(order_.back());
      order_.pop_back();
    }
  }
  order_.splice(order_.begin(), order_, found->second.place);
  return found->second;
}

void EngineStatistics::add(const std::string& model, const std::string& version, const RequestRows& rows,
                           const RequestTimes& times, bool failed) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::lock_guard lock(mutex_);
  Counts& of = counts({model, version});
  const auto add_to = [](Duration& duration, std::int64_t ns) { count(duration.count, duration.ns, ns); };
  add_to(failed ? of.fail : of.success, times.total_ns);
  if (failed) return;
  of.last_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  of.rows += rows.rows();
  ++of.requests;
  add_to(of.queue, times.queue_ns);
  add_to(of.input, times.input_ns);
  add_to(of.infer, times.infer_ns);
  add_to(of.output, times.output_ns);
}

nlohmann::json EngineStatistics::model_stats(const std::string& model, const std::string& version) const {
  const auto duration = [](const Duration& d) { return nlohmann::json{{"count", d.count}, {"ns", d.ns}}; };
  nlohmann::json list = nlohmann::json::array();
  const std::lock_guard lock(mutex_);
  for (const auto& [key, of] : by_model_) {
    if (!model.empty() && key.first != model) continue;
    if (!version.empty() && key.second != version) continue;
    list.push_back({{"name", key.first},
                    {"version", key.second},
                    {"last_inference", of.last_ms},
                    {"inference_count", of.rows},
                    {"execution_count", of.requests},
                    {"inference_stats",
                     {{"success", duration(of.success)},
                      {"fail", duration(of.fail)},
                      {"queue", duration(of.queue)},
                      {"compute_input", duration(of.input)},
                      {"compute_infer", duration(of.infer)},
                      {"compute_output", duration(of.output)}}},
                    {"batch_stats", nlohmann::json::array()}});
  }
  return list;
}

}  // namespace recast
