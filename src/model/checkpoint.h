#pragma once
#include <span>

#include "differences.h"

namespace recast {

using Names = std::vector<std::string>;

/// Whose names a checkpoint carries.
struct Library {
  const char* name;
  const char* anchor;  ///< a tensor that every checkpoint with these names has, and no other
};

struct Classifier {
  at::Tensor weight, bias;  ///< [C, D] and [C]; undefined if there is none
};

/// A foreign checkpoint while it is taken apart: what was taken is gone, so what is left over is known.
class Checkpoint {
 public:
  Checkpoint(NamedTensors given, std::string_view origin) : given_(std::move(given)), origin_(origin) {}

  const std::string& origin() const { return origin_; }
  /// Of all names but a classifier's: "vit.", "module.".
  const std::string& prefix() const { return prefix_; }
  /// All that was not taken, under full names.
  const NamedTensors& left() const { return given_; }

  /// The library whose anchor is there, once; from then on names are looked up below its prefix. Throws kUnsupported if
  /// there is none or more than one.
  const Library& recognise(std::span<const Library> libraries);
  /// Throws kUnsupported naming a tensor that is of no floating type.
  void require_floating() const;

  const at::Tensor* find(const std::string& name) const;
  const at::Tensor* find_any(const Names& names) const;
  /// The first of `names` that is there, or else the first.
  const std::string& present(const Names& names) const;
  void drop(const std::string& name) { given_.erase(prefix_ + name); }
  /// Of all networks in the file.
  void drop_ending(std::string_view ending);
  /// Removes a tensor and returns it in fp32, or notes it as missing and returns none.
  at::Tensor take(const std::string& name);
  /// As take(), or notes it as misshapen and returns none.
  at::Tensor take(const std::string& name, at::IntArrayRef shape);
  /// The first of `names` that has a weight, outside the prefix ("classifier.weight" beside "vit.embeddings...") or
  /// inside it. Its width must be one of `widths`; the first of them is named in the note where it is not.
  Classifier take_classifier(const Names& names, std::span<const std::int64_t> widths);

  void note_misshapen(const std::string& full_name, at::IntArrayRef got, const std::string& expected);
  /// What is left over is extra. Throws kShapeMismatch with all differences, if there are any.
  void finish(const std::string& architecture);

 private:
  at::Tensor as_fp32(const std::string& full_name, const at::Tensor& tensor) const;

  NamedTensors given_;
  std::string origin_, prefix_;
  Differences differences_;
};

/// Where the names of vision transformers and convolutional networks are known: src/model/import_vit.cc, import_cnn.cc.
std::span<const Library> vit_libraries();
std::span<const Library> cnn_libraries();
/// The architectures that a checkpoint with the names of `library` could be.
Names fitting_vits(const Checkpoint& checkpoint, const Library& library);
Names fitting_cnns(const Checkpoint& checkpoint, const Library& library);
/// As import_checkpoint(), for a checkpoint with the names of `library` and a config of the same kind.
ImportedCheckpoint import_vit(Checkpoint checkpoint, const Library& library, ModelConfig config);
ImportedCheckpoint import_cnn(Checkpoint checkpoint, const Library& library, ModelConfig config);

}  // namespace recast
