#pragma once
#include <memory>

#include "recast/model/backbone.h"
#include "recast/model/model_files.h"

namespace recast {

/// Slots and couplings of a vision transformer, no bank filled in.
Anatomy vit_anatomy(const VitConfig& vit);

/// "blocks.3.attn.qkv": the one place that knows how slots and tensors of a block are called.
std::string block_name(std::int64_t block, std::string_view role);

/// The position grid [g, g, D] at another size, as rows [rows * columns, D].
at::Tensor position_rows(const VitConfig& vit, const at::Tensor& grid, std::int64_t rows, std::int64_t columns);

/// `files` must have passed check_files(). All tensors are moved to `device`, those that are there are shared.
std::shared_ptr<const Backbone> make_vit(const ModelFiles& files, at::Device device);

}  // namespace recast
