#pragma once
#include <nlohmann/json.hpp>

#include "recast/model/backbone.h"

namespace recast {

/// How many numbers a task would train in this backbone, head aside, with each plug-in that lives on banks: at its
/// defaults, and at each choice of an option that changes the count. [{plug: "NAME:option=choice", numbers}], in the
/// order of the choices; empty without banks.
nlohmann::json task_numbers(const Backbone& backbone);

}  // namespace recast
