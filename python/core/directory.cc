#include <ATen/Parallel.h>

#include "bindings.h"
#include "recast/base/error.h"
#include "recast/run/compare_tasks.h"
#include "recast/run/evaluate_task.h"
#include "recast/run/export_onnx.h"
#include "recast/run/inspect_directory.h"
#include "recast/run/learn_seeds.h"
#include "recast/run/learn_task.h"
#include "recast/run/model_directory.h"
#include "recast/run/predict_images.h"
#include "recast/run/report.h"
#include "recast/run/stream_task.h"
#include "task.h"
#include "watch.h"

namespace recast::python {
namespace {

ModelDirectory open_directory(const Path& path, bool read_only, const std::string& device, const std::string& store) {
  const Computing computing;
  return ModelDirectory::open(path, read_only, parse_device(device), store);
}

void take_learning(const ModelDirectory& directory, const py::dict& settings, LearnRequest& request) {
  request.directory = directory.path();
  request.store = directory.store_url();
  request.device = directory.device().str();
  take(settings, "task", request.task);
  take(settings, "data", request.data);
  take(settings, "recipe", request.recipe);
  take(settings, "plugs", request.plugs);
  take(settings, "image_size", request.image_size);
  take(settings, "epochs", request.epochs);
  take(settings, "batch_size", request.batch_size);
  take(settings, "lr", request.lr);
  take(settings, "head_lr", request.head_lr);
  take(settings, "weight_decay", request.weight_decay);
  take(settings, "augmentation", request.augmentation);
  take(settings, "bn", request.bn);
  take(settings, "bf16", request.bf16);
  take(settings, "seed", request.seed);
  take(settings, "seeds", request.seeds);
  take(settings, "split_seed", request.split_seed);
  take(settings, "classes", request.classes);
  take(settings, "superclass", request.superclasses);
  take(settings, "limit_train", request.limit_train);
  take(settings, "limit_validation", request.limit_validation);
  take(settings, "limit_test", request.limit_test);
  take(settings, "shared", request.shared);
  take(settings, "run_folder", request.run_folder);
  take(settings, "resume", request.resume);
  take(settings, "force", request.force);
  take(settings, "test", request.test);
  take(settings, "tensorboard", request.tensorboard);
  take(settings, "mlflow", request.mlflow);
  take(settings, "mlflow_experiment", request.mlflow_experiment);
  take(settings, "command", request.command);
  std::string bad_images = "stop";
  take(settings, "bad_images", bad_images);
  request.bad_images = parse_bad_images(bad_images);
}

LearnRequest learn_request(const ModelDirectory& directory, const py::dict& settings) {
  LearnRequest request;
  take_learning(directory, settings, request);
  return request;
}

py::object stream(const ModelDirectory& directory, const py::dict& settings, const py::object& report) {
  StreamRequest request;
  take_learning(directory, settings, request);
  std::string kind = "disjoint";
  take(settings, "increment", request.stream.increment);
  take(settings, "base", request.stream.base);
  take(settings, "class_seed", request.stream.class_seed);
  take(settings, "kind", kind);
  take(settings, "share", request.stream.share);
  take(settings, "unlabelled", request.unlabelled);
  take(settings, "keep", request.keep);
  take(settings, "forward_transfer", request.forward_transfer);
  request.stream.kind = parse_stream_kind(kind);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    request.stop = stop;
    request.listener = listener;
    return stream_task(request).results;
  }));
}

py::object learn(const ModelDirectory& directory, const py::dict& settings, const py::object& report) {
  LearnRequest request = learn_request(directory, settings);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    request.stop = stop;
    request.listener = listener;
    return request.seeds.empty() ? learn_task(request).results : learn_with_seeds(request);
  }));
}

py::object evaluate(const ModelDirectory& directory, const py::dict& settings, const py::object& report) {
  EvaluateRequest request;
  std::string bad_images = "stop";
  take(settings, "task", request.task);
  take(settings, "data", request.data);
  take(settings, "bf16", request.bf16);
  take(settings, "bad_images", bad_images);
  take(settings, "command", request.command);
  request.bad_images = parse_bad_images(bad_images);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    request.stop = stop;
    request.listener = listener;
    return evaluate_tasks(directory, request);
  }));
}

py::object predict(const ModelDirectory& directory, const py::dict& settings, const py::object& report) {
  PredictRequest request;
  std::vector<std::string> images;
  take(settings, "task", request.task);
  take(settings, "images", images);
  take(settings, "top", request.top);
  take(settings, "features", request.features);
  take(settings, "force", request.force);
  take(settings, "bf16", request.bf16);
  request.images.assign(images.begin(), images.end());
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    request.stop = stop;
    request.listener = listener;
    return predict_images(directory, request);
  }));
}

py::object compare(const ModelDirectory& directory, const py::dict& settings, const py::object& report) {
  CompareRequest request;
  take(settings, "a", request.a);
  take(settings, "b", request.b);
  take(settings, "data", request.data);
  take(settings, "bf16", request.bf16);
  take(settings, "command", request.command);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    request.stop = stop;
    request.listener = listener;
    return compare_tasks(directory, request);
  }));
}

py::object report_page(const ModelDirectory& directory, const py::dict& settings, const py::object& report) {
  ReportOptions options;
  std::filesystem::path file;
  bool force = false;
  take(settings, "file", file);
  take(settings, "force", force);
  take(settings, "examples", options.examples);
  take(settings, "measure", options.measure);
  return to_python(watched(report, [&](const std::atomic<bool>* stop, Listener* listener) {
    options.stop = stop;
    options.listener = listener;
    return write_report(directory, file, force, options);
  }));
}

py::object export_graph(const ModelDirectory& directory, const py::dict& settings) {
  OnnxRequest request;
  take(settings, "file", request.file);
  take(settings, "task", request.task);
  take(settings, "like", request.like);
  take(settings, "per_row", request.per_row);
  take(settings, "image_size", request.image_size);
  take(settings, "external_data", request.external_data);
  take(settings, "force", request.force);
  return document_of([&] { return export_onnx(directory, request); });
}

py::object export_inputs(const ModelDirectory& directory, const std::string& task, const Path& file,
                         const std::string& like, bool force) {
  return document_of([&] { return export_onnx_inputs(directory, task, file, like, force); });
}

at::Tensor bare_features(const ModelDirectory& directory, const at::Tensor& input, bool bf16) {
  require_pixels(input);
  const Computing computing;
  const Batch batch{{{"input", input.to(directory.device())}}, input.size(0)};
  Run run;
  run.dtype = bf16 ? at::kBFloat16 : at::kFloat;
  return Model(directory.backbone(), compose({}, directory.backbone()->anatomy()), {}).features(batch, run);
}

/// The backbone's own weights and vectors by slot; those that a bank covers are rebuilt.
std::map<std::string, at::Tensor> weights_of(const ModelDirectory& directory) {
  const Computing computing;
  std::map<std::string, at::Tensor> weights;
  for (const Slot& slot : directory.backbone()->anatomy().slots)
    if (slot.kind == SlotKind::kWeight || slot.kind == SlotKind::kVector)
      weights[slot.name] = directory.backbone()->weight(slot);
  return weights;
}

}  // namespace

void add_directory(py::module_& m) {
  py::class_<ModelDirectory> directory(m, "ModelDirectory", "An opened model directory.");
  directory.def(py::init(&open_directory), py::arg("path"), py::arg("read_only"), py::arg("device"), py::arg("store"))
      .def_property_readonly("path", [](const ModelDirectory& d) { return d.path().string(); })
      .def_property_readonly("fingerprint", &ModelDirectory::fingerprint)
      .def_property_readonly("device", [](const ModelDirectory& d) { return d.device().str(); })
      .def_property_readonly("feature_width", [](const ModelDirectory& d) { return d.backbone()->feature_width(); })
      .def_property_readonly("config", [](const ModelDirectory& d) { return to_python(d.files().config.to_json()); })
      .def("bank",
           [](const ModelDirectory& d) {
             return std::map<std::string, at::Tensor>(d.files().bank.begin(), d.files().bank.end());
           })
      .def("inspect",
           [](const ModelDirectory& d) {
             nlohmann::json document;
             {
               const Computing computing;
               document = inspect_directory(d);
             }
             return to_python(document);
           })
      .def("weights", &weights_of)
      .def("features", &bare_features, py::arg("input"), py::arg("bf16"))
      .def(
          "load",
          [](const ModelDirectory& d, const std::string& task) {
            const Computing computing;
            return Task{d, d.load(task)};
          },
          py::arg("task"))
      .def("learn", &learn, py::arg("settings"), py::arg("report"))
      .def(
          "learn_settings",
          [](const ModelDirectory& d, const py::dict& settings) {
            const LearnRequest request = learn_request(d, settings);
            const Computing computing;
            return learn_settings_yaml(request);
          },
          py::arg("settings"))
      .def("stream", &stream, py::arg("settings"), py::arg("report"))
      .def("evaluate", &evaluate, py::arg("settings"), py::arg("report"))
      .def("predict", &predict, py::arg("settings"), py::arg("report"))
      .def("compare", &compare, py::arg("settings"), py::arg("report"))
      .def("export_onnx", &export_graph, py::arg("settings"))
      .def("export_onnx_inputs", &export_inputs, py::arg("task"), py::arg("file"), py::arg("like"), py::arg("force"))
      .def("report", &report_page, py::arg("settings"), py::arg("report"));
  refuse_pickle(directory,
                "a recast.ModelDirectory is open files and cannot be copied or pickled: open it again where it is "
                "needed, recast.open(path)");
}

}  // namespace recast::python
