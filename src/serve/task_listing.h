#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "recast/serve/service.h"
#include "served_base.h"

namespace recast {

// What a person reads of the tasks; the Service's tasks() and task() are made of these.

/// Service::tasks() over bases that are sorted by name.
nlohmann::json list_served_tasks(const std::vector<std::unique_ptr<ServedBase>>& bases, const TaskQuery& query);
/// Service::task() of a task of `base`; `name`: what it is called.
nlohmann::json describe_served_task(const ServedBase& base, const ServedTask& task, const std::string& name,
                                    bool history);

}  // namespace recast
