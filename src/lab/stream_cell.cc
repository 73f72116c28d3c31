#include "stream_cell.h"

#include "lab_stream.h"
#include "recast/base/statistics.h"
#include "recast/run/stream_task.h"

namespace recast {
using nlohmann::json;

json learn_stream_cell(const LearnRequest& request, const LabStream& stream) {
  StreamRequest streamed;
  static_cast<LearnRequest&>(streamed) = request;
  streamed.stream = stream_of(stream, request.seed);
  streamed.unlabelled = stream.unlabelled;
  streamed.forward_transfer = stream.forward_transfer;
  streamed.keep = "all";
  return stream_task(streamed).results;
}

json stream_result(const LabRecipe& recipe, const json& streamed) {
  json result;
  for (const char* key :
       {"classes",          "images",  "image_size",   "recipe",       "plugs",       "coefficients",
        "head_numbers",     "numbers", "stored_bytes", "shared_bytes", "duplicates",  "bad_images",
        "split_seed",       "stream",  "average",      "last",         "forgetting",  "backward_transfer",
        "forward_transfer", "run",     "machine",      "versions",     "finished_utc"})
    result[key] = streamed.at(key);
  json curve = json::array();
  for (const json& step : streamed.at("steps"))
    curve.push_back({{"classes", step.at("classes")}, {"top1", step.at("top1")}});
  const json& end = streamed.at("steps").back();
  const Interval interval =
      share_interval(streamed.at("last").get<double>(), static_cast<double>(end.at("test_rows").get<std::int64_t>()));
  result["top1"] = streamed.at("last");
  result["top1_interval95"] = {interval.low, interval.high};
  result["curve"] = std::move(curve);
  result["rows"] = end.at("test_rows");
  result["version"] = end.at("version");
  result["stored_task"] = streamed.at("task");
  result["kept_task"] = recipe.keep_task;
  result["learn_seconds"] = streamed.at("seconds");
  return result;
}

}  // namespace recast
