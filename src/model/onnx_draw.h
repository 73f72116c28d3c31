#pragma once
#include "recast/model/onnx_network.h"

namespace recast {

// draw_features(), one function a kind of network.
std::string draw_vit(OnnxGraph& graph, const VitConfig& vit, const Anatomy& anatomy, std::int64_t side_px,
                     const std::string& image, OnnxRoute& route);
std::string draw_cnn(OnnxGraph& graph, const CnnConfig& cnn, const Anatomy& anatomy, std::int64_t side_px,
                     const std::string& image, OnnxRoute& route);

}  // namespace recast
