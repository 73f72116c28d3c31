// A path segment of a URL, and the model's name that it holds.
#include "recast/serve/model_name.h"

#include "recast/store/task_header.h"
#include "target.h"

using namespace recast;

RECAST_FUZZ_TARGET(model_name) {
  const auto segment = fuzz::accepted([&] { return decode_path_segment(bytes); });
  if (segment) {
    RECAST_FUZZ_CHECK(!segment->empty() && *segment != "." && *segment != "..");
    RECAST_FUZZ_CHECK(segment->find_first_of(std::string("/\\\0", 3)) == segment->npos);
  }
  const auto split = bytes.find('\n');  // a version beside the name
  const std::string name(segment ? std::string_view(*segment) : bytes.substr(0, split));
  const std::string_view version = split == bytes.npos ? "" : bytes.substr(split + 1);
  const auto model = fuzz::accepted([&] { return parse_model_name(name, version); });
  if (!model) return;
  RECAST_FUZZ_CHECK(parse_model_name(model->text()) == *model);
  RECAST_FUZZ_CHECK(model->mixed == model->task.empty() && !(model->version && !model->tag.empty()));
  RECAST_FUZZ_CHECK(!model->version || *model->version > 0);
  for (const std::string& part : {model->base, model->task, model->tag})
    if (!part.empty()) check_task_name(part);
}
