#pragma once
// A toy model with tasks of many kinds in its store, and ways to ask an engine for them.
#include <future>
#include <optional>

#include "recast/run/learn_task.h"
#include "recast/run/model_directory.h"
#include "recast/serve/engine.h"
#include "run/toy_model.h"

namespace recast {

/// Learns once, so that there is a whole record of these plug-ins.
inline TaskRecord learned_record(const std::filesystem::path& model, const std::filesystem::path& data,
                                 const std::string& name, const std::vector<std::string>& plugs) {
  LearnRequest request;
  request.directory = model;
  request.data = data;
  request.task = name;
  request.plugs = plugs;
  request.epochs = 1;
  request.test = false;
  learn_task(request);
  return ModelDirectory::open(model, true).record(name);
}

/// The same kind of task with other numbers and so many classes: every float is moved, the head is drawn.
inline TaskRecord varied(const TaskRecord& like, const std::string& name, std::int64_t classes, std::uint64_t seed) {
  TaskRecord task = like;
  task.name = name;
  task.labels.clear();
  for (std::int64_t c = 0; c < classes; ++c) task.labels.push_back("class " + std::to_string(c));
  Numbers numbers;
  for (const auto& [alias, scopes] : like.numbers.plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [key, number] : state) {
        const auto* tensor = std::get_if<at::Tensor>(&number);
        const Key draw = Key(seed).fold(alias).fold(key);
        if (!tensor || !tensor->is_floating_point())
          numbers.at(alias, scope).set(key, number);
        else if (alias == "linear-probe")
          numbers.at(alias, scope)
              .set(key, tensor->dim() == 2 ? draw.normal({classes, tensor->size(1)}) : draw.normal({classes}));
        else
          numbers.at(alias, scope).set(key, *tensor + 0.2 * draw.normal(tensor->sizes()));
      }
  task.numbers = std::move(numbers);
  return task;
}

inline std::string image_file(std::uint64_t seed) {
  return encode_png((Key(seed).uniform({3, 16, 16}) * 255).to(at::kByte));
}

inline InferenceRequest request_for(const std::string& model, const std::vector<std::string>& images) {
  InferenceRequest request;
  request.model = model;
  WireTensor image{"image", "BYTES", {static_cast<std::int64_t>(images.size())}, {}};
  for (const std::string& bytes : images) append_bytes(image.bytes, bytes);
  request.inputs.push_back(std::move(image));
  return request;
}

inline InferenceRequest mixed_request(const std::vector<std::string>& tasks, const std::vector<std::string>& images) {
  InferenceRequest request = request_for("recast", images);
  WireTensor names{"task", "BYTES", {static_cast<std::int64_t>(tasks.size())}, {}};
  for (const std::string& name : tasks) append_bytes(names.bytes, name);
  request.inputs.push_back(std::move(names));
  return request;
}

inline std::future<InferenceResponse> send(Service& service, InferenceRequest request, CallContext context = {}) {
  auto answer = std::make_shared<std::promise<InferenceResponse>>();
  auto future = answer->get_future();
  service.infer(std::move(request), std::move(context), [answer](InferenceResult result) {
    if (auto* error = std::get_if<std::exception_ptr>(&result))
      answer->set_exception(*error);
    else
      answer->set_value(std::move(std::get<InferenceResponse>(result)));
  });
  return future;
}

inline const WireTensor& output(const InferenceResponse& response, const std::string& name) {
  for (const WireTensor& tensor : response.outputs)
    if (tensor.name == name) return tensor;
  throw std::runtime_error("no output " + name);
}

/// An FP32 output as a tensor; a copy.
inline at::Tensor floats(const InferenceResponse& response, const std::string& name) {
  const WireTensor& tensor = output(response, name);
  at::Tensor values = at::empty(tensor.shape);
  EXPECT_EQ(values.nbytes(), tensor.bytes.size());
  std::memcpy(values.mutable_data_ptr(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

inline std::vector<std::int64_t> integers(const InferenceResponse& response, const std::string& name) {
  const WireTensor& tensor = output(response, name);
  std::vector<std::int64_t> values(tensor.bytes.size() / sizeof(std::int64_t));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

inline std::vector<std::string> texts(const InferenceResponse& response, const std::string& name) {
  const WireTensor& tensor = output(response, name);
  std::vector<std::string> values;
  for (const std::string_view text : split_bytes(tensor.bytes, element_count(tensor.shape, name), name))
    values.emplace_back(text);
  return values;
}

}  // namespace recast
