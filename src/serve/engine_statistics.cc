#include "engine_statistics.h"

#include <chrono>

namespace recast {

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
  (failed ? of.fail : of.success).add(times.total_ns);
  if (failed) return;
  of.last_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  of.rows += rows.rows();
  ++of.requests;
  of.queue.add(times.queue_ns);
  of.input.add(times.input_ns);
  of.infer.add(times.infer_ns);
  of.output.add(times.output_ns);
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
