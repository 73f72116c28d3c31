#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "recast/serve/token_table.h"

namespace recast {

// What every transport holds against a call, whichever way it came.

/// Who counts as one where shares go by address: the address, but of IPv6 the network of its first 64 bits, since one
/// client has them all, and of IPv4 as IPv6 has it (::ffff:192.0.2.1) the one of IPv4.
std::string network_of(const std::string& address);

/// Who calls.
struct Caller {
  std::shared_ptr<const TokenIdentity> identity;  ///< null: nobody was asked

  /// For logs; empty: nobody was asked.
  std::string_view name() const { return identity ? std::string_view(identity->name) : std::string_view(); }
  /// Who shares fairly with others what is bounded: the token's name, or the network where nobody was asked.
  std::string party(const std::string& address) const { return identity ? identity->name : network_of(address); }
  bool may_use(std::string_view model) const { return !identity || identity->may_use(model); }
  /// The same for CallContext, which outlives the call.
  std::function<bool(std::string_view)> rule() const;
};

/// Leaves the entries, {"name": ...} each, that the caller may use.
void keep_allowed(nlohmann::json& entries, const Caller& caller);

/// "cars:3", as an access log has it.
std::string shown_model(const std::string& model, const std::string& version);

/// To who wants to load or unload where there are no tokens and management is not allowed.
inline constexpr std::string_view kManagementIsOff =
    "[auth] loading and unloading need a server with tokens, or one that allows it to all";
/// Throws kInvalidArgument for a parameter of load that brings a model along or changes it.
void check_load_parameter(std::string_view key);

}  // namespace recast
