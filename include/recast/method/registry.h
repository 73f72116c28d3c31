#pragma once
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "recast/base/options.h"
#include "recast/method/contract.h"

namespace recast {

/// What a plug-in promises; the conformance suite holds it to each.
enum class Claim {
  kIsolated,       ///< learning one task cannot change another
  kNeutralStart,   ///< before training the backbone's features are unchanged, bit for bit
  kDefaultHead,    ///< taken where no other plug-in of a recipe has the base head
  kPreferred,      ///< taken where the user names no plug-in and its needs are met
  kOwnStatistics,  ///< keeps normalisation statistics of the task's own: what learn's flag --bn task takes
  kOrderFree,      ///< a head for which neither the order of the rows nor their division into steps matters
};
/// What a plug-in cannot do without, checked when a recipe is composed.
enum class Need {
  kBank,            ///< a mimicked model directory
  kWeightGradient,  ///< Step::weight_grad of its own weights (turns product() off at its slots)
  kFixedFeatures,   ///< a head that is refused beside plug-ins that move the features
  kNewClasses,      ///< a head that learns each class once: one that comes again is refused (kInvalidArgument)
};

/// All that is known of a plug-in without making one. Plain data.
struct MethodInfo {
  std::string name, summary, paper;
  std::vector<OptionSpec> options;
  std::vector<Family> families;
  std::set<Claim> claims;
  std::set<Need> needs;
  std::vector<std::string> varies_by;  ///< batch columns that its weight() reads: the engine slices on them
  double suggested_rate = 0;           ///< learning rate for recipes that ask the plug-in; 0: the recipe's own
  std::string peft_type;               ///< how HF PEFT calls what it computes ("LORA"); empty: it has no word for it
  std::function<std::unique_ptr<const Method>(const OptionTexts&)> make;

  bool has(Claim claim) const { return claims.count(claim) > 0; }
  bool has(Need need) const { return needs.count(need) > 0; }
  const Family* family(std::string_view name) const;
  /// Where a head keeps its classes: the scope of its families with a row a class; kTask where it declares none.
  Scope class_scope() const;
};

/// Every plug-in linked into the program, by name. Filled before main; read-only after.
class Registry {
 public:
  static const Registry& instance();
  /// Throws kInvalidArgument with the nearest name.
  const MethodInfo& find(const std::string& name) const;
  std::vector<const MethodInfo*> all() const;  ///< by name
  /// A duplicate name ends the program at start-up with a message: it is a fault of the build.
  static bool add(MethodInfo info);

 private:
  static Registry& mutable_instance();
  std::map<std::string, MethodInfo> methods_;
};

/// Describes and registers a plug-in M that is constructed from a plain struct of options O:
///
///     const bool kRegistered = describe<Lora, LoraOptions>("lora")
///         .summary("low-rank update of chosen weights").paper("arXiv:2106.09685")
///         .families({{"A"}, {"B"}}).claims({Claim::kIsolated})
///         .option("rank", &LoraOptions::rank, in_range(1, 256), "inner width r")
///         .add();
template <class M, class O>
class Describe {
 public:
  explicit Describe(std::string name) { info_.name = std::move(name); }
  Describe& summary(std::string text) { return info_.summary = std::move(text), *this; }
  Describe& paper(std::string text) { return info_.paper = std::move(text), *this; }
  Describe& families(std::vector<Family> families) { return info_.families = std::move(families), *this; }
  Describe& claims(std::set<Claim> claims) { return info_.claims = std::move(claims), *this; }
  Describe& needs(std::set<Need> needs) { return info_.needs = std::move(needs), *this; }
  Describe& varies_by(std::vector<std::string> columns) { return info_.varies_by = std::move(columns), *this; }
  Describe& suggested_rate(double rate) { return info_.suggested_rate = rate, *this; }
  Describe& peft_type(std::string type) { return info_.peft_type = std::move(type), *this; }
  template <class T>
  Describe& option(std::string name, T O::*member, Check check, std::string help) {
    return table_.add(std::move(name), member, std::move(check), std::move(help)), *this;
  }
  /// The description alone, for tests that do not register.
  MethodInfo info() const {
    MethodInfo info = info_;
    info.options = table_.specs();
    info.make = [table = table_, name = info_.name](const OptionTexts& texts) -> std::unique_ptr<const Method> {
      return std::make_unique<const M>(table.parse(name, texts));
    };
    return info;
  }
  bool add() const { return Registry::add(info()); }

 private:
  MethodInfo info_;
  OptionTable<O> table_;
};
template <class M, class O>
Describe<M, O> describe(std::string name) {
  return Describe<M, O>(std::move(name));
}
struct NoOptions {};

}  // namespace recast
