// ONNX models, by the field numbers of onnx.proto (github.com/onnx/onnx, IR version 8). protozero, a header of encoders
// without generated code, writes the wire format: libprotobuf would meet the copy of itself that libtorch carries.
#include "recast/format/onnx_graph.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <protozero/pbf_builder.hpp>

#include "recast/base/error.h"
#include "recast/format/files.h"

namespace recast {
namespace {

using protozero::pbf_builder;
using Tag = protozero::pbf_tag_type;

enum class ModelField : Tag { kIrVersion = 1, kProducer = 2, kProducerVersion = 3, kGraph = 7, kOpset = 8, kText = 14 };
enum class OpsetField : Tag { kDomain = 1, kVersion = 2 };
enum class EntryField : Tag { kKey = 1, kValue = 2 };
enum class GraphField : Tag { kNode = 1, kName = 2, kTensor = 5, kInput = 11, kOutput = 12 };
enum class NodeField : Tag { kInput = 1, kOutput = 2, kName = 3, kOp = 4, kAttribute = 5 };
enum class AttributeField : Tag { kName = 1, kFloat = 2, kInt = 3, kInts = 8, kType = 20 };
enum class TensorField : Tag { kDims = 1, kType = 2, kName = 8, kRaw = 9, kExternal = 13, kLocation = 14 };
enum class PortField : Tag { kName = 1, kType = 2 };
enum class TypeField : Tag { kTensor = 1 };
enum class TensorTypeField : Tag { kElement = 1, kShape = 2 };
enum class ShapeField : Tag { kDim = 1 };
enum class DimField : Tag { kValue = 1, kParam = 2 };

constexpr std::int32_t kFloatElement = 1, kInt64Element = 7;  // TensorProto.DataType
constexpr std::int32_t kFloatAttribute = 1, kIntAttribute = 2, kIntsAttribute = 7;
constexpr std::int32_t kExternalLocation = 1;

/// Smaller constants stay in the model file: readers need shapes and axes to judge a graph.
constexpr std::uint64_t kLeastExternalBytes = 1024;
constexpr std::uint64_t kExternalAlignment = 64;

/// Where in the data file a constant lies.
struct Extent {
  std::uint64_t offset, bytes;
};
using Extents = std::map<std::string, Extent>;

std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
}

at::Tensor in_order(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU).contiguous(); }

template <class Parent, class Field>
void write_entry(Parent& parent, Field field, const std::string& key, const std::string& value) {
  pbf_builder<EntryField> entry(parent, field);
  entry.add_string(EntryField::kKey, key);
  entry.add_string(EntryField::kValue, value);
}

void write_attribute(pbf_builder<NodeField>& node, const std::string& name, const OnnxGraph::Attribute& value) {
  pbf_builder<AttributeField> out(node, NodeField::kAttribute);
  out.add_string(AttributeField::kName, name);
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    out.add_int64(AttributeField::kInt, *number);
    out.add_enum(AttributeField::kType, kIntAttribute);
  } else if (const auto* real = std::get_if<double>(&value)) {
    out.add_float(AttributeField::kFloat, static_cast<float>(*real));
    out.add_enum(AttributeField::kType, kFloatAttribute);
  } else {
    for (const std::int64_t each : std::get<std::vector<std::int64_t>>(value))
      out.add_int64(AttributeField::kInts, each);
    out.add_enum(AttributeField::kType, kIntsAttribute);
  }
}

void write_node(pbf_builder<GraphField>& graph, const OnnxGraph::Node& node) {
  pbf_builder<NodeField> out(graph, GraphField::kNode);
  for (const std::string& input : node.inputs) out.add_string(NodeField::kInput, input);
  for (const std::string& output : node.outputs) out.add_string(NodeField::kOutput, output);
  out.add_string(NodeField::kName, node.name);
  out.add_string(NodeField::kOp, node.op);
  for (const auto& [name, value] : node.attributes) write_attribute(out, name, value);
}

void write_port(pbf_builder<GraphField>& graph, GraphField field, const OnnxGraph::Port& port) {
  pbf_builder<PortField> out(graph, field);
  out.add_string(PortField::kName, port.name);
  pbf_builder<TypeField> type(out, PortField::kType);
  pbf_builder<TensorTypeField> tensor(type, TypeField::kTensor);
  tensor.add_enum(TensorTypeField::kElement, kFloatElement);
  pbf_builder<ShapeField> shape(tensor, TensorTypeField::kShape);
  for (const OnnxDim& dim : port.shape) {
    pbf_builder<DimField> each(shape, ShapeField::kDim);
    if (const auto* size = std::get_if<std::int64_t>(&dim))
      each.add_int64(DimField::kValue, *size);
    else
      each.add_string(DimField::kParam, std::get<std::string>(dim));
  }
}

void write_tensor(pbf_builder<GraphField>& graph, const std::string& name, const at::Tensor& tensor,
                  const Extent* external, const std::string& data_file) {
  pbf_builder<TensorField> out(graph, GraphField::kTensor);
  for (const std::int64_t size : tensor.sizes()) out.add_int64(TensorField::kDims, size);
  out.add_enum(TensorField::kType, tensor.scalar_type() == at::kFloat ? kFloatElement : kInt64Element);
  out.add_string(TensorField::kName, name);
  if (external == nullptr) {
    const at::Tensor ordered = in_order(tensor);
    out.add_bytes(TensorField::kRaw, bytes_of(ordered).data(), ordered.nbytes());
    return;
  }
  write_entry(out, TensorField::kExternal, "location", data_file);
  write_entry(out, TensorField::kExternal, "offset", std::to_string(external->offset));
  write_entry(out, TensorField::kExternal, "length", std::to_string(external->bytes));
  out.add_enum(TensorField::kLocation, kExternalLocation);
}

/// A message is whole once its builder is gone: so the bytes are the caller's.
void encode(const OnnxGraph& graph, const Extents& extents, const std::string& data_file, std::string& bytes) {
  pbf_builder<ModelField> model(bytes);
  model.add_int64(ModelField::kIrVersion, OnnxGraph::kIrVersion);
  model.add_string(ModelField::kProducer, "recast");
  model.add_string(ModelField::kProducerVersion, graph.producer_version());
  {
    pbf_builder<OpsetField> opset(model, ModelField::kOpset);
    opset.add_string(OpsetField::kDomain, "");
    opset.add_int64(OpsetField::kVersion, OnnxGraph::kOpset);
  }
  for (const auto& [key, text] : graph.texts()) write_entry(model, ModelField::kText, key, text);
  pbf_builder<GraphField> out(model, ModelField::kGraph);
  for (const OnnxGraph::Node& node : graph.nodes()) write_node(out, node);
  out.add_string(GraphField::kName, graph.name());
  for (const auto& [name, tensor] : graph.tensors()) {
    const auto external = extents.find(name);
    write_tensor(out, name, tensor, external == extents.end() ? nullptr : &external->second, data_file);
  }
  for (const OnnxGraph::Port& port : graph.inputs()) write_port(out, GraphField::kInput, port);
  for (const OnnxGraph::Port& port : graph.outputs()) write_port(out, GraphField::kOutput, port);
}

Extents write_data(const std::filesystem::path& file, const OnnxGraph& graph) {
  Extents extents;
  AtomicFile out(file, graph.tensor_bytes());
  std::uint64_t end = 0;
  for (const auto& [name, tensor] : graph.tensors()) {
    if (tensor.nbytes() < kLeastExternalBytes) continue;
    const std::uint64_t begin = (end + kExternalAlignment - 1) / kExternalAlignment * kExternalAlignment;
    out.write(std::string(begin - end, '\0'));
    const at::Tensor ordered = in_order(tensor);
    out.write(bytes_of(ordered));
    extents[name] = {begin, ordered.nbytes()};
    end = begin + ordered.nbytes();
  }
  out.commit();
  return extents;
}

}  // namespace

std::string OnnxGraph::input(const std::string& name, OnnxShape shape) {
  inputs_.push_back({name, std::move(shape)});
  return name;
}

void OnnxGraph::output(const std::string& name, OnnxShape shape) { outputs_.push_back({name, std::move(shape)}); }

std::string OnnxGraph::tensor(const std::string& name, const at::Tensor& value) {
  RECAST_ASSERT(value.scalar_type() == at::kFloat || value.scalar_type() == at::kLong);
  tensors_.try_emplace(name, value);
  return name;
}

std::string OnnxGraph::numbers(const std::vector<std::int64_t>& values) {
  const std::string name = fmt::format("numbers_{}", fmt::join(values, "_"));
  return has_tensor(name) ? name : tensor(name, at::tensor(values, at::kLong));
}

std::string OnnxGraph::node(const std::string& op, std::vector<std::string> inputs, Attributes attributes,
                            std::string result) {
  const std::string name = fmt::format("{}_{}", op, nodes_.size());
  if (result.empty()) result = name;
  nodes_.push_back({op, name, std::move(inputs), {result}, std::move(attributes)});
  return result;
}

std::vector<std::string> OnnxGraph::nodes(const std::string& op, std::vector<std::string> inputs, std::size_t results,
                                          Attributes attributes) {
  const std::string name = fmt::format("{}_{}", op, nodes_.size());
  std::vector<std::string> names;
  for (std::size_t i = 0; i < results; ++i) names.push_back(fmt::format("{}_{}", name, i));
  nodes_.push_back({op, name, std::move(inputs), names, std::move(attributes)});
  return names;
}

std::uint64_t OnnxGraph::tensor_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors_) bytes += tensor.nbytes();
  return bytes;
}

std::filesystem::path onnx_data_path(const std::filesystem::path& file) { return file.string() + ".data"; }

std::uint64_t write_onnx(const std::filesystem::path& file, const OnnxGraph& graph, bool data_beside) {
  if (!data_beside && graph.tensor_bytes() > kMostOnnxTensorBytes)
    fail(Code::kExhausted,
         "[onnx] {} bytes of weights do not fit into one ONNX file (at most {}): let them lie in a file beside it",
         graph.tensor_bytes(), kMostOnnxTensorBytes);
  const std::filesystem::path data = onnx_data_path(file);
  const Extents extents = data_beside ? write_data(data, graph) : Extents();
  std::string bytes;
  if (!data_beside) bytes.reserve(graph.tensor_bytes() + (1 << 20));
  encode(graph, extents, data.filename().string(), bytes);
  write_file_atomically(file, bytes);
  return bytes.size() + (data_beside ? std::filesystem::file_size(data) : 0);
}

}  // namespace recast
