#include "task_listing.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>

#include "recast/base/error.h"
#include "recast/base/lower_case.h"
#include "recast/format/printable.h"
#include "recast/run/task_commands.h"

namespace recast {
namespace {

using nlohmann::json;
using Bases = std::vector<std::unique_ptr<ServedBase>>;

/// Names that are looked at for one page, so that a search for what nobody is called ends.
constexpr std::int64_t kNamesAtATime = 500, kMostNames = 10'000;

struct Place {
  std::string base, task;
};

/// A task on the page, and what the caller asks for it by.
struct Listed {
  const ServedBase* base;
  std::string task, name;
};

/// BASE@TASK, or TASK where there is one base.
Place place_after(const Bases& bases, const std::string& after) {
  if (after.empty()) return {};
  const std::size_t at = after.rfind('@');  // a base that is alone may be called anything
  const Place place =
      at == after.npos ? Place{bases.front()->name(), after} : Place{after.substr(0, at), after.substr(at + 1)};
  const bool is_base = is_task_name(place.base) || std::ranges::any_of(bases, [&](const auto& base) {
                         return base->name() == place.base;
                       });
  if ((at == after.npos && bases.size() > 1) || !is_base || !is_task_name(place.task))
    fail(Code::kInvalidArgument, "[serve] after: '{}'; expected the 'next' of the page before, BASE@TASK",
         printable(after));
  return place;
}

class Listing {
 public:
  Listing(const Bases& bases, const TaskQuery& query)
      : query_(query),
        wanted_(lower_case(query.search)),
        with_base_(wanted_.find('@') != wanted_.npos),
        several_(bases.size() > 1) {
    if (query.limit < 1 || query.limit > TaskQuery::kMostTasks)
      fail(Code::kInvalidArgument, "[serve] limit must lie in 1..{}, got {}", TaskQuery::kMostTasks, query.limit);
    const Place after = place_after(bases, query.after);
    for (const auto& base : bases) {
      if (base->name() < after.base) continue;
      if (!add(*base, base->name() == after.base ? after.task : "")) return;
    }
    next_ = nullptr;
  }

  json result() && {
    json tasks = json::array();
    for (auto at = listed_.begin(); at != listed_.end();) {
      const auto end = std::find_if(at, listed_.end(), [&](const Listed& one) { return one.base != at->base; });
      describe(std::span<const Listed>(at, end), tasks);
      at = end;
    }
    return {{"tasks", std::move(tasks)}, {"next", std::move(next_)}};
  }

 private:
  /// The tasks of a base that come after `from`; false once it is enough.
  bool add(const ServedBase& base, std::string from) {
    for (;;) {
      const auto names = base.directory().store().names_after(from, kNamesAtATime);
      for (const TaskName& task : names) {
        if (looked_at_ == kMostNames || !take(base, task.name)) return false;
        ++looked_at_;
        from = task.name;
        next_ = base.name() + "@" + from;
      }
      if (static_cast<std::int64_t>(names.size()) < kNamesAtATime) return true;
    }
  }

  /// False: the page is full, and this one is on the next.
  bool take(const ServedBase& base, const std::string& task) {
    const std::optional<std::string> name = name_of(base, task);
    if (!name || !fits(base, task)) return true;
    if (static_cast<std::int64_t>(listed_.size()) == query_.limit) return false;
    listed_.push_back({&base, task, *name});
    return true;
  }

  /// What the caller may ask for it by; nothing: it is not for the caller.
  std::optional<std::string> name_of(const ServedBase& base, const std::string& task) const {
    const std::string whole = base.name() + "@" + task;
    if (!several_ && (!query_.may_use || query_.may_use(task))) return task;
    if (!query_.may_use || query_.may_use(whole)) return whole;
    return {};
  }

  bool fits(const ServedBase& base, const std::string& task) const {
    return lower_case(with_base_ ? base.name() + "@" + task : task).find(wanted_) != std::string::npos;
  }

  /// Adds the tasks of one base, less those that another process has erased since.
  static void describe(std::span<const Listed> listed, json& tasks) {
    const ServedBase& base = *listed.front().base;
    std::vector<std::string> names;
    std::map<std::string_view, std::string_view> shown;
    for (const Listed& one : listed) {
      names.push_back(one.task);
      shown.emplace(one.task, one.name);
    }
    const json newest = list_tasks(base.directory(), names);
    for (json entry : newest["tasks"]) {
      const std::string task = entry["task"];
      entry.erase("removed");
      entry.update({{"name", std::string(shown.at(task))}, {"base", base.name()}, {"ready", !base.unloaded(task)}});
      tasks.push_back(std::move(entry));
    }
  }

  const TaskQuery& query_;
  const std::string wanted_;
  const bool with_base_, several_;
  std::int64_t looked_at_ = 0;
  std::vector<Listed> listed_;
  json next_;
};

}  // namespace

json list_served_tasks(const Bases& bases, const TaskQuery& query) { return Listing(bases, query).result(); }

json describe_served_task(const ServedBase& base, const ServedTask& task, const std::string& name, bool history) {
  json out = {{"name", name},
              {"base", base.name()},
              {"task", task.name},
              {"version", task.version},
              {"labels", task.labels},
              {"image_size", task.preprocessing.size_px}};
  if (history) out["versions"] = log_task(base.directory(), task.name)["versions"];
  return out;
}

}  // namespace recast
