#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace recast {

/// A dimension of a graph's input or output: its size, or a name where any size will do ("batch").
using OnnxDim = std::variant<std::int64_t, std::string>;
using OnnxShape = std::vector<OnnxDim>;

/// A graph of ONNX operators (opset 17, IR version 8) being drawn. Values go by name: tensor(), numbers() and node()
/// return the name of what they add, input() and output() take it. Inputs and outputs are fp32. Constants are fp32 or
/// int64 tensors, kept as they are until the graph is written: not to be written to meanwhile.
/// Nothing is checked that the ONNX checker checks. Threads: one at a time.
class OnnxGraph {
 public:
  using Attribute = std::variant<std::int64_t, double, std::vector<std::int64_t>>;
  using Attributes = std::vector<std::pair<std::string, Attribute>>;

  static constexpr std::int64_t kOpset = 17, kIrVersion = 8;

  /// `producer_version`: of the program, for readers.
  OnnxGraph(std::string name, std::string producer_version)
      : name_(std::move(name)), producer_version_(std::move(producer_version)) {}

  std::string input(const std::string& name, OnnxShape shape);
  /// `name` must be that of a node's result.
  void output(const std::string& name, OnnxShape shape);
  /// A constant. Where one of this name is there already that one is meant, and `value` is not looked at.
  std::string tensor(const std::string& name, const at::Tensor& value);
  bool has_tensor(const std::string& name) const { return tensors_.count(name) > 0; }
  /// The constant int64 vector of these numbers (axes, shapes), the same for whoever asks for them.
  std::string numbers(const std::vector<std::int64_t>& values);
  /// One result, called `result` or, where that is empty, by operator and number.
  std::string node(const std::string& op, std::vector<std::string> inputs, Attributes attributes = {},
                   std::string result = {});
  /// Several results.
  std::vector<std::string> nodes(const std::string& op, std::vector<std::string> inputs, std::size_t results,
                                 Attributes attributes = {});
  /// A text that readers find in the model's metadata_props.
  void describe(const std::string& key, std::string text) { texts_[key] = std::move(text); }

  /// Bytes of all constants.
  std::uint64_t tensor_bytes() const;

  struct Port {
    std::string name;
    OnnxShape shape;
  };
  struct Node {
    std::string op, name;
    std::vector<std::string> inputs, outputs;
    Attributes attributes;
  };
  const std::string& name() const { return name_; }
  const std::string& producer_version() const { return producer_version_; }
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::map<std::string, at::Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& texts() const { return texts_; }

 private:
  std::string name_, producer_version_;
  std::vector<Port> inputs_, outputs_;
  std::vector<Node> nodes_;
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, std::string> texts_;
};

/// More bytes of constants do not fit into one ONNX file: a protobuf message ends at 2 GiB.
inline constexpr std::uint64_t kMostOnnxTensorBytes = 2'000'000'000;

/// FILE.data for FILE: where constants lie that are not in the model file itself.
std::filesystem::path onnx_data_path(const std::filesystem::path& file);

/// Writes the model, each file whole or not at all. `data_beside`: constants of 1 KiB and more go into
/// onnx_data_path(), in the same folder and named without one, as they must where there are more than
/// kMostOnnxTensorBytes of them. Returns the bytes of the files written.
/// Throws  kExhausted: too many bytes of constants, and not data_beside;  as AtomicFile.
std::uint64_t write_onnx(const std::filesystem::path& file, const OnnxGraph& graph, bool data_beside);

}  // namespace recast
