#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cell_record.h"
#include "recast/lab/lab_file.h"

namespace recast {

/// All cells of the file as they are on disk, in the file's order.
std::vector<CellRecord> read_cells(const LabFile& file);

/// The state of a cell as users are told: name(state), or "changed" where the file asks for other settings now.
std::string shown_state(const LabFile& file, const CellRecord& record);

/// The document of report_lab(), but for what provenance() says.
nlohmann::json lab_results(const LabFile& file, const std::vector<CellRecord>& records);

/// A line a cell, RFC 4180.
std::string lab_csv(const nlohmann::json& results);
/// The rows as a table of Markdown, with what is to be said of it.
std::string lab_markdown(const nlohmann::json& results);
/// A page of its own.
std::string lab_page(const nlohmann::json& results);
/// Plots as SVG files of their own; empty where nothing can be drawn.
std::string plot_over_bytes(const nlohmann::json& results);
std::string plot_over_seconds(const nlohmann::json& results);
/// The same of streams: the average of top-1 over their steps.
std::string plot_streams_over_bytes(const nlohmann::json& results);
std::string plot_streams_over_seconds(const nlohmann::json& results);

/// "0.8123 ± 0.0045", "+0.0123 ± 0.0045" with half of the 95 % interval where there is one; "-" for null.
std::string share_text(const nlohmann::json& spread);
std::string difference_text(const nlohmann::json& difference);
/// "3 to 5" of {least, mean, most}, or the one value that all have; as a count or as bytes.
std::string range_text(const nlohmann::json& range, bool bytes);

}  // namespace recast
