#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "recast/method/plug_spec.h"
#include "recast/method/registry.h"

namespace recast {

/// "recast", "recast:grain=head", "lora:rank=4,as=second". Throws kInvalidArgument.
PlugSpec parse_plug(const std::string& text);
std::string plug_text(const PlugSpec& spec);

/// A plug-in at work in a composition.
struct Plug {
  const MethodInfo* info;
  PlugSpec spec;
  std::shared_ptr<const Method> method;
  Roles roles;
  const std::string& alias() const { return spec.alias; }
};

/// Plug-ins checked against each other and against a backbone's anatomy. Immutable.
class Composition {
 public:
  const std::vector<Plug>& plugs() const { return plugs_; }
  const Plug& plug(std::string_view alias) const;  ///< throws kNotFound
  std::vector<PlugSpec> specs() const;

  /// In the order of application.
  const std::vector<const Plug*>& weight_rules(std::string_view slot) const;
  /// Innermost first: one that replaces what stands there, then the others in the recipe's order.
  const std::vector<const Plug*>& branches(std::string_view slot) const;
  const Plug& head() const { return *head_; }
  const std::vector<const Plug*>& correctors() const { return correctors_; }
  /// Null in a composition that only runs.
  const Plug* primary_loss() const { return primary_loss_; }
  const Plug* driver() const { return driver_; }
  const Plug* schedule() const { return schedule_; }
  const std::set<std::string>& taps() const { return taps_; }
  /// Batch columns on which rows are sliced into passes of their own.
  const std::set<std::string>& varies_by() const { return varies_by_; }
  /// Learning one task cannot change another: every plug-in claims it.
  bool isolated() const;
  /// A weight rule or branch is there, so that features depend on the task.
  bool moves_features() const { return moves_features_; }
  /// A source rule makes this number ("plug.family@slot"), so that it is neither trained nor stored.
  bool covered(const std::string& param) const;

 private:
  friend std::shared_ptr<const Composition> compose(const std::vector<PlugSpec>&, const Anatomy&);
  std::vector<Plug> plugs_;
  std::map<std::string, std::vector<const Plug*>, std::less<>> weight_rules_, branches_;
  const Plug *head_ = nullptr, *primary_loss_ = nullptr, *driver_ = nullptr, *schedule_ = nullptr;
  std::vector<const Plug*> correctors_;
  std::set<std::string> taps_, varies_by_;
  bool moves_features_ = false;
};

/// Checks and orders the plug-ins of a recipe before a row is read; adds the default head where none is named.
/// Throws kInvalidArgument (a clash: both plug-ins and the rule named; unknown plug-in or option), kUnsupported (what
/// the backbone lacks), kAlreadyExists (one alias twice).
std::shared_ptr<const Composition> compose(const std::vector<PlugSpec>& specs, const Anatomy& anatomy);

}  // namespace recast
