#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "recast/format/pattern.h"

namespace recast {

// adapter_config.json of HF PEFT for LoRA, as far as recast computes it. Knows nothing of torch.

inline constexpr const char* kPeftConfigFile = "adapter_config.json";
inline constexpr const char* kPeftTensorFile = "adapter_model.safetensors";
inline constexpr std::uint64_t kMostPeftConfigBytes = 1 << 20;
inline constexpr std::int64_t kMostPeftRank = 4096;

/// The one type of adapter that is read and written; plug-ins whose numbers are such name it as their peft_type.
inline constexpr const char* kPeftLora = "LORA";

/// Modules as PEFT names them: whole names or what they end with (after a dot), or one expression for the whole name.
struct PeftModuleChoice {
  std::vector<std::string> names;
  std::string expression;
  bool given = false;  ///< false: the file leaves it open
};

struct PeftConfig {
  std::int64_t rank = 8;
  double alpha = 8;
  bool rank_stabilised = false;
  /// Expressions for the end of a module's name, in the file's order: the first that matches counts.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  PeftModuleChoice targets, excluded;
  std::vector<std::int64_t> layers;         ///< numbers of blocks; empty: all
  std::vector<std::string> layers_pattern;  ///< what stands before the number; empty: anything
  std::vector<std::string> modules_to_save;
  std::string base_model;            ///< as the file names it, from outside
  std::vector<std::string> ignored;  ///< fields that recast does not know

  /// Whether modules_to_save names the classifier.
  bool saves(std::string_view classifier) const;
};

/// Throws  kUnsupported: another type of adapter, or a variant of LoRA, named with what is read;  kDataCorruption: not
///         JSON, a field of another type or out of range;  kExhausted: over a megabyte, or too many values.
PeftConfig parse_peft_config(std::string_view text, std::string_view origin);
/// With the fields that PEFT writes; read back it gives the same config.
std::string encode_peft_config(const PeftConfig& config);

/// What a config says of modules. Names are those inside the model, without "base_model.model.".
class PeftRules {
 public:
  /// Throws as Pattern; kExhausted: all expressions together need more than 10,000 states.
  PeftRules(const PeftConfig& config, std::string_view origin);
  std::int64_t rank(std::string_view module) const;
  double alpha(std::string_view module) const;
  /// Whether PEFT adapts a module of this name; nothing where the config leaves that open.
  std::optional<bool> adapts(std::string_view module) const;

 private:
  /// An expression for the end of a name. Plain ones, which are nearly all, need no machine.
  struct Ending {
    std::string plain;
    std::optional<Pattern> pattern;
    bool matches(std::string_view module) const;
  };
  Ending ending(const std::string& expression);
  Pattern counted(const std::string& expression);
  bool in_layers(std::string_view module) const;

  const PeftConfig config_;
  std::string origin_;
  std::size_t states_ = 0;
  std::vector<Ending> ranks_, alphas_;
  std::optional<Pattern> targets_, excluded_;
};

}  // namespace recast
