#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace recast {

constexpr double kGiB = 1 << 30;

/// The findings of `recast doctor`, in order.
class Findings {
 public:
  void ok(const std::string& check, const std::string& text) { add(check, "ok", text, ""); }
  void warn(const std::string& check, const std::string& text, const std::string& remedy) {
    add(check, "warn", text, remedy);
  }
  void fail(const std::string& check, const std::string& text, const std::string& remedy) {
    add(check, "fail", text, remedy);
    healthy_ = false;
  }
  bool healthy() const { return healthy_; }
  const nlohmann::json& list() const { return list_; }

 private:
  void add(const std::string& check, const std::string& verdict, const std::string& text, const std::string& remedy) {
    list_.push_back({{"check", check}, {"verdict", verdict}, {"text", text}, {"remedy", remedy}});
  }
  nlohmann::json list_ = nlohmann::json::array();
  bool healthy_ = true;
};

/// Looks at processor, memory, limits and libraries; returns their part of the report.
nlohmann::json examine_machine(Findings& findings);
/// Looks at every file of a model directory, and at its task store, or at the one that has the URL; returns the
/// report's "model".
nlohmann::json examine_model(const std::filesystem::path& directory, const std::string& store, Findings& findings);

}  // namespace recast
