#pragma once
#include <string>

#include "report_facts.h"

namespace recast {

/// A page of its own, from <!DOCTYPE> to </html>, in the style of all reports. `title`: plain; the others HTML: what
/// lies before <main> (its heading, too) and in it.
std::string html_document(const std::string& title, const std::string& before, const std::string& main,
                          const std::string& written_utc);
/// The whole page, from <!DOCTYPE> to </html>.
std::string page(const ReportFacts& facts);
/// The section of one task (report_task.cc). `index`: its place on the page, for ids.
std::string task_section(const TaskFacts& task, const ReportFacts& facts, std::size_t index);
/// Id of that section.
std::string task_id(std::size_t index);

/// Names in the order that they have on the page: "PLUG:key=value" of all plug-ins at work.
std::vector<std::string> plug_texts(const TaskRecord& record);
/// A term and what is said of it, for a <dl>; empty if there is nothing to say. `html` is HTML.
std::string definition(const std::string& term, const std::string& html);
/// `below`: HTML after the caption.
std::string figure(const std::string& svg, const std::string& caption_html, const std::string& below = {});
/// A table behind a line to open it.
std::string folded(const std::string& summary, const std::string& html);

}  // namespace recast
