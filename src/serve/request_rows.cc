#include "request_rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "recast/format/printable.h"
#include "recast/serve/model_name.h"

namespace recast {
namespace {

constexpr float kPadding = -3.4028234663852886e38F;

struct Output {
  const char *name, *datatype;
  bool unasked;  ///< given where no output is asked for
};
constexpr std::array<Output, 8> kOutputs = {{{"logits", "FP32", true},
                                             {"probabilities", "FP32", true},
                                             {"num_classes", "INT64", true},
                                             {"label", "BYTES", true},
                                             {"features", "FP32", false},
                                             {"version", "INT64", false},
                                             {"top_label", "BYTES", false},
                                             {"top_probability", "FP32", false}}};

std::vector<std::string> output_names() {
  std::vector<std::string> names;
  for (const Output& output : kOutputs) names.emplace_back(output.name);
  return names;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  return near.empty() ? fmt::format(": there are {}", fmt::join(known, ", ")) : ", did you mean '" + near + "'?";
}

std::string shape_text(const std::vector<std::int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

const WireTensor* input(const InferenceRequest& request, std::string_view name) {
  const WireTensor* found = nullptr;
  for (const WireTensor& tensor : request.inputs) {
    if (tensor.name != name) continue;
    if (found) fail(Code::kInvalidArgument, "[serve] input '{}' is given twice", name);
    found = &tensor;
  }
  return found;
}

std::int64_t whole_parameter(const nlohmann::json& parameters, const char* key, std::int64_t least, std::int64_t most) {
  const auto found = parameters.find(key);
  if (found == parameters.end()) return 0;
  const bool whole =
      found->is_number_integer() && !(found->is_number_unsigned() && found->get<std::uint64_t>() > INT64_MAX);
  if (!whole || found->get<std::int64_t>() < least || found->get<std::int64_t>() > most)
    fail(Code::kInvalidArgument, "[serve] parameter '{}' is {}, expected a whole number from {} to {}", key,
         printable(found->dump()), least, most);
  return found->get<std::int64_t>();
}

/// [N] or [N, 1].
std::int64_t text_rows(const WireTensor& tensor) {
  const bool good = tensor.shape.size() == 1 || (tensor.shape.size() == 2 && tensor.shape[1] == 1);
  if (!good)
    fail(Code::kInvalidArgument, "[serve] input '{}' of BYTES has shape {}, expected [rows]", tensor.name,
         shape_text(tensor.shape));
  return tensor.shape[0];
}

void check_inputs(const InferenceRequest& request, bool mixed) {
  const std::vector<std::string> known =
      mixed ? std::vector<std::string>{"image", "task"} : std::vector<std::string>{"image"};
  for (const WireTensor& tensor : request.inputs)
    if (std::ranges::find(known, tensor.name) == known.end())
      fail(Code::kInvalidArgument, "[serve] model '{}' has no input '{}'{}", printable(request.model),
           printable(tensor.name), suggestion(tensor.name, known));
}

std::int64_t take_images(RequestRows& rows) {
  const WireTensor* image = input(rows.request, "image");
  if (!image) fail(Code::kInvalidArgument, "[serve] the input 'image' is missing");
  rows.bytes = static_cast<std::int64_t>(image->bytes.size());
  if (image->datatype == "BYTES") {
    const std::int64_t count = text_rows(*image);
    rows.images = split_bytes(image->bytes, count, "input 'image'");
    for (std::size_t row = 0; row < rows.images.size(); ++row)
      if (rows.images[row].size() > kMostImageBytes)
        fail(Code::kExhausted, "[serve] image of row {}: {} bytes, at most {} are taken", row, rows.images[row].size(),
             kMostImageBytes);
    return count;
  }
  if (image->datatype != "FP32")
    fail(Code::kInvalidArgument,
         "[serve] input 'image' is {}, expected BYTES (JPEG, PNG or WebP files) or FP32 (normalised pixels)",
         image->datatype);
  if (image->shape.size() != 4 || image->shape[1] != 3)
    fail(Code::kInvalidArgument, "[serve] input 'image' of FP32 has shape {}, expected [rows, 3, height, width]",
         shape_text(image->shape));
  rows.pixels = image->bytes.data();
  rows.height = image->shape[2];
  rows.width = image->shape[3];
  return image->shape[0];
}

/// The names of the rows' tasks: one for all by the parameter "task", or one each by the input "task".
std::vector<std::string> task_names(const InferenceRequest& request, std::int64_t count) {
  const WireTensor* tensor = input(request, "task");
  const auto parameter = request.parameters.find("task");
  if (tensor && parameter != request.parameters.end())
    fail(Code::kInvalidArgument, "[serve] the task is named by an input and by a parameter: give one of them");
  if (parameter != request.parameters.end()) {
    if (!parameter->is_string())
      fail(Code::kInvalidArgument, "[serve] parameter 'task' is {}, expected a text", printable(parameter->dump()));
    return std::vector<std::string>(static_cast<std::size_t>(count), parameter->get<std::string>());
  }
  if (!tensor)
    fail(Code::kInvalidArgument,
         "[serve] model '{}' needs the rows' tasks: a BYTES input 'task' [rows], or the request parameter 'task'",
         kMixedModel);
  if (tensor->datatype != "BYTES")
    fail(Code::kInvalidArgument, "[serve] input 'task' is {}, expected BYTES", tensor->datatype);
  if (text_rows(*tensor) != count)
    fail(Code::kInvalidArgument, "[serve] {} tasks for {} images", text_rows(*tensor), count);
  std::vector<std::string> names;
  for (const std::string_view name : split_bytes(tensor->bytes, count, "input 'task'")) names.emplace_back(name);
  return names;
}

void take_tasks(RequestRows& rows, std::int64_t count, const FindTask& find) {
  const InferenceRequest& request = rows.request;
  const auto n = static_cast<std::size_t>(count);
  if (!rows.mixed) {
    rows.tasks.assign(n, find(request.model, request.version));
    return;
  }
  const std::vector<std::string> names = task_names(request, count);
  std::map<std::string_view, std::shared_ptr<const ServedTask>> found;  // a request sees one version of each task
  for (std::size_t row = 0; row < n; ++row) {
    auto& task = found[names[row]];
    try {
      if (!task) task = find(names[row], "");
    } catch (const Error& error) {
      fail(error.code(), "[serve] task of row {}: {}", row, error.what());
    }
    rows.tasks.push_back(task);
  }
}

void take_outputs(RequestRows& rows) {
  const InferenceRequest& request = rows.request;
  rows.top = whole_parameter(request.parameters, "top_k", 1, 1 << 20);
  rows.timeout_us = whole_parameter(request.parameters, "timeout", 0, std::int64_t{1} << 40);
  const std::vector<std::string> known = output_names();
  for (const WireOutput& output : request.outputs) {
    if (std::ranges::find(known, output.name) == known.end())
      fail(Code::kInvalidArgument, "[serve] there is no output '{}'{}", printable(output.name),
           suggestion(output.name, known));
    if (std::ranges::find(rows.outputs, output.name) != rows.outputs.end())
      fail(Code::kInvalidArgument, "[serve] output '{}' is asked for twice", output.name);
    const std::int64_t best = whole_parameter(output.parameters, "classification", 0, 1 << 20);
    if (best > 0 && output.name != "logits" && output.name != "probabilities")
      fail(Code::kInvalidArgument, "[serve] output '{}' has no classification: 'logits' and 'probabilities' have",
           output.name);
    if (output.name.starts_with("top_") && rows.top == 0)
      fail(Code::kInvalidArgument, "[serve] output '{}' needs the request parameter 'top_k'", output.name);
    rows.outputs.push_back(output.name);
    rows.classification.push_back(best);
  }
  if (!rows.outputs.empty()) return;
  for (const Output& output : kOutputs) {
    if (!output.unasked && !(rows.top > 0 && std::string_view(output.name).starts_with("top_"))) continue;
    rows.outputs.emplace_back(output.name);
    rows.classification.push_back(0);
  }
}

void check_parameters(const InferenceRequest& request, bool mixed) {
  std::vector<std::string> known = {"top_k", "timeout"};
  if (mixed) known.emplace_back("task");
  for (const auto& [key, value] : request.parameters.items())
    if (std::ranges::find(known, key) == known.end())
      fail(Code::kInvalidArgument, "[serve] there is no request parameter '{}'{}", printable(key),
           suggestion(key, known));
}

// ---- answers --------------------------------------------------------------------------------------------------------

/// A row's probabilities and the order of its classes, the likeliest first.
struct Ranking {
  std::vector<float> logits, probabilities;
  std::vector<std::int64_t> order;
};

Ranking rank(const at::Tensor& logits) {
  const at::Tensor row = logits.contiguous();
  const at::Tensor shares = at::softmax(row.to(at::kDouble), 0);
  const at::Tensor order = std::get<1>(shares.sort(/*stable=*/true, 0, /*descending=*/true));
  const at::Tensor rounded = shares.to(at::kFloat);
  const auto n = static_cast<std::size_t>(row.numel());
  return {{row.const_data_ptr<float>(), row.const_data_ptr<float>() + n},
          {rounded.const_data_ptr<float>(), rounded.const_data_ptr<float>() + n},
          {order.const_data_ptr<std::int64_t>(), order.const_data_ptr<std::int64_t>() + n}};
}

class Answer {
 public:
  Answer(const RequestRows& rows, const std::vector<RowResult>& results) : rows_(rows), results_(results) {
    for (const RowResult& result : results) ranked_.push_back(rank(result.logits));
    for (const auto& task : rows.tasks) widest_ = std::max(widest_, task->classes());
  }

  WireTensor output(const std::string& name, std::int64_t classification) const {
    if (classification > 0) return best_as_text(name, classification);
    if (name == "logits") return per_class(name, &Ranking::logits, kPadding);
    if (name == "probabilities") return per_class(name, &Ranking::probabilities, 0);
    if (name == "num_classes") return per_row(name, [](const ServedTask& task) { return task.classes(); });
    if (name == "version") return per_row(name, [](const ServedTask& task) { return task.version; });
    if (name == "features") return features();
    if (name == "label") return labels(name, 1, {rows_.rows()});
    const std::int64_t best = std::min(rows_.top, widest_);
    if (name == "top_label") return labels(name, best, {rows_.rows(), best});
    RECAST_ASSERT(name == "top_probability");
    return top_probabilities(best);
  }

 private:
  static void append(std::string& bytes, const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  }

  WireTensor per_class(const std::string& name, std::vector<float> Ranking::*values, float padding) const {
    WireTensor out{name, "FP32", {rows_.rows(), widest_}, {}};
    for (const Ranking& row : ranked_) {
      std::vector<float> wide = row.*values;
      wide.resize(static_cast<std::size_t>(widest_), padding);
      append(out.bytes, wide.data(), wide.size() * sizeof(float));
    }
    return out;
  }

  template <class Get>
  WireTensor per_row(const std::string& name, const Get& get) const {
    WireTensor out{name, "INT64", {rows_.rows()}, {}};
    for (const auto& task : rows_.tasks) {
      const std::int64_t value = get(*task);
      append(out.bytes, &value, sizeof(value));
    }
    return out;
  }

  WireTensor features() const {
    const std::int64_t width = results_.empty() ? 0 : results_.front().features.numel();
    WireTensor out{"features", "FP32", {rows_.rows(), width}, {}};
    for (const RowResult& row : results_) {
      if (row.features.numel() != width)
        fail(Code::kInvalidArgument, "[serve] 'features' of rows of different backbones: {} and {} numbers", width,
             row.features.numel());
      const at::Tensor values = row.features.contiguous();
      append(out.bytes, values.const_data_ptr(), values.nbytes());
    }
    return out;
  }

  /// The labels of the best classes; empty texts behind the last.
  WireTensor labels(const std::string& name, std::int64_t best, std::vector<std::int64_t> shape) const {
    WireTensor out{name, "BYTES", std::move(shape), {}};
    for (std::size_t row = 0; row < ranked_.size(); ++row)
      for (std::int64_t i = 0; i < best; ++i) {
        const auto& order = ranked_[row].order;
        const bool there = i < static_cast<std::int64_t>(order.size());
        append_bytes(
            out.bytes,
            there ? rows_.tasks[row]->labels.at(static_cast<std::size_t>(order[static_cast<std::size_t>(i)])) : "");
      }
    return out;
  }

  WireTensor top_probabilities(std::int64_t best) const {
    WireTensor out{"top_probability", "FP32", {rows_.rows(), best}, {}};
    for (const Ranking& row : ranked_)
      for (std::int64_t i = 0; i < best; ++i) {
        const auto place = static_cast<std::size_t>(i);
        const float value =
            place < row.order.size() ? row.probabilities[static_cast<std::size_t>(row.order[place])] : 0;
        append(out.bytes, &value, sizeof(value));
      }
    return out;
  }

  /// "VALUE:CLASS:LABEL", as the classification extension has it.
  WireTensor best_as_text(const std::string& name, std::int64_t classification) const {
    const std::int64_t best = std::min(classification, widest_);
    WireTensor out{name, "BYTES", {rows_.rows(), best}, {}};
    for (std::size_t row = 0; row < ranked_.size(); ++row) {
      const Ranking& ranking = ranked_[row];
      const std::vector<float>& values = name == "logits" ? ranking.logits : ranking.probabilities;
      for (std::size_t i = 0; i < static_cast<std::size_t>(best); ++i) {
        if (i >= ranking.order.size()) {
          append_bytes(out.bytes, "");
          continue;
        }
        const auto place = static_cast<std::size_t>(ranking.order[i]);
        append_bytes(out.bytes, fmt::format("{:f}:{}:{}", values[place], place, rows_.tasks[row]->labels.at(place)));
      }
    }
    return out;
  }

  const RequestRows& rows_;
  const std::vector<RowResult>& results_;
  std::vector<Ranking> ranked_;
  std::int64_t widest_ = 0;
};

}  // namespace

RequestRows read_rows(InferenceRequest request, const FindTask& find, std::int64_t max_rows) {
  RequestRows rows;
  rows.request = std::move(request);
  rows.mixed = parse_model_name(rows.request.model, rows.request.version).mixed;
  check_inputs(rows.request, rows.mixed);
  check_parameters(rows.request, rows.mixed);
  take_outputs(rows);
  const std::int64_t count = take_images(rows);
  if (count < 1) fail(Code::kInvalidArgument, "[serve] the request has no row");
  if (count > max_rows) fail(Code::kExhausted, "[serve] {} rows in a request, at most {} are taken", count, max_rows);
  take_tasks(rows, count, find);
  return rows;
}

InferenceResponse write_rows(const RequestRows& rows, const std::vector<RowResult>& results) {
  const InferenceRequest& request = rows.request;
  InferenceResponse response;
  response.model = request.model;
  response.version = rows.version();
  response.id = request.id;
  const Answer answer(rows, results);
  for (std::size_t i = 0; i < rows.outputs.size(); ++i)
    response.outputs.push_back(answer.output(rows.outputs[i], rows.classification[i]));
  return response;
}

nlohmann::json describe_inputs(const ModelShape& shape) {
  nlohmann::json inputs = {{{"name", "image"}, {"datatype", "BYTES"}, {"shape", {-1}}}};
  if (shape.mixed) inputs.push_back({{"name", "task"}, {"datatype", "BYTES"}, {"shape", {-1}}, {"optional", true}});
  return inputs;
}

nlohmann::json describe_outputs(const ModelShape& shape) {
  nlohmann::json outputs = nlohmann::json::array();
  for (const Output& output : kOutputs) {
    const std::string_view name = output.name;
    nlohmann::json sizes = {-1};
    if (name == "logits" || name == "probabilities") sizes.push_back(shape.classes);
    if (name == "features") sizes.push_back(shape.features);
    if (name.starts_with("top_")) sizes.push_back(-1);
    outputs.push_back({{"name", output.name}, {"datatype", output.datatype}, {"shape", sizes}});
  }
  return outputs;
}

}  // namespace recast
