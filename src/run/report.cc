#include "recast/run/report.h"

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "report_facts.h"
#include "report_page.h"

namespace recast {

std::string report_html(const ModelDirectory& directory, const ReportOptions& options) {
  return page(collect_facts(directory, options));
}

nlohmann::json write_report(const ModelDirectory& directory, const std::filesystem::path& file, bool force,
                            const ReportOptions& options) {
  const std::string shown = printable_path(file);
  if (!force && std::filesystem::exists(std::filesystem::symlink_status(file)))
    fail(Code::kAlreadyExists, "[report] {} exists: choose another --out, or --force to replace it", shown);
  AtomicFile out(file);  // shows now what would otherwise show after minutes of work
  const ReportFacts facts = collect_facts(directory, options);
  const std::string html = page(facts);
  out.write(html);
  out.commit();
  nlohmann::json tasks = nlohmann::json::array(), notes = nlohmann::json::array();
  for (const TaskFacts& task : facts.tasks) {
    tasks.push_back(task.record.name);
    for (const std::string& note : task.notes) notes.push_back(task.record.name + ": " + note);
  }
  return {{"file", shown}, {"bytes", html.size()}, {"tasks", tasks}, {"notes", notes}};
}

}  // namespace recast
