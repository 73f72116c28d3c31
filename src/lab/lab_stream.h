#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "recast/lab/lab_file.h"
#include "setting_table.h"

namespace recast {

// What a task of a lab file may say of its scenario: `task` (all classes at once, the default) or `class-il`, a stream
// of classes, whose keys are called as the flags of `recast stream`.

/// The keys that only tasks of scenario class-il have.
const std::vector<std::string>& stream_keys();
/// Whether an entry, or else the defaults, ask for a stream. Throws kInvalidArgument: a scenario that nobody knows.
bool asks_for_stream(const SettingsTree& entry, const SettingsTree& defaults, const Place& place);
/// Adds those keys to a task's table.
void add_stream_keys(SettingTable& table, LabStream& stream);
/// Throws kInvalidArgument where a key of streams stands in the entry of a task that is none.
void refuse_stream_keys(const SettingsTree& entry, const Place& place);
/// Throws kInvalidArgument: no increment, values out of range, a seed that is none of an order of classes.
void check_lab_stream(const LabStream& stream, const std::vector<std::uint64_t>& seeds, const Place& place);
/// "task" or "class-il".
std::string_view scenario_name(const LabTask& task);
/// The stream that a seed gets.
StreamOptions stream_of(const LabStream& stream, std::uint64_t seed);

}  // namespace recast
