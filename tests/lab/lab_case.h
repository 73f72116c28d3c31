#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "format/expect_error.h"
#include "format/python_tool.h"
#include "lab/without_times.h"
#include "recast/lab/run_lab.h"
#include "run/toy_model.h"
#include "text/run_recast.h"

namespace recast {

/// A toy model, images of three colours, and a lab file over both: two tasks, two recipes, two seeds.
class LabCase : public ::testing::Test {
 protected:
  LabCase() {
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 12);
    write_lab(lab());
  }

  std::filesystem::path out() const { return folder_ / "out"; }
  std::filesystem::path file() const { return folder_ / "lab.yaml"; }
  std::string lab(const std::string& more = "") const {
    return "title: toy\nmodel: " + (folder_ / "model").string() +
           "\n"
           "tasks:\n"
           "  colours: {data: " +
           (folder_ / "data").string() +
           "}\n"
           "  pair: {data: " +
           (folder_ / "data").string() +
           ", classes: [blue, red]}\n"
           "recipes:\n"
           "  head: {plug: linear-probe, epochs: 0}\n"
           "  fine: {plug: \"recast:grain=part\", epochs: 2, batch-size: 4, augmentation: paper}\n"
           "seeds: [5, 6]\n"
           "baseline: head\n"
           "out: " +
           out().string() + "\n" + more;
  }
  /// The same two recipes on both colours at once and a stream of four classes, two a step.
  std::string stream_lab(const std::string& more = "") {
    write_toy_images(folder_ / "four", {"blue", "green", "lilac", "red"}, 12);
    return "model: " + (folder_ / "model").string() + "\ntasks:\n  colours: {data: " + (folder_ / "data").string() +
           "}\n  four: {data: " + (folder_ / "four").string() +
           ", scenario: class-il, increment: 2, class-seed: seed}\n"
           "recipes:\n"
           "  ncm: {plug: ncm}\n"
           "  probe: {plug: linear-probe, recipe: steps, epochs: 3, batch-size: 4}\n"
           "seeds: [5, 6]\nbaseline: ncm\nout: " +
           out().string() + "\n" + more;
  }
  void write_lab(const std::string& text) const { write_text(file(), text); }

  LabRequest request(std::vector<std::string> overrides = {}) const {
    LabRequest request;
    request.file = file();
    request.overrides = std::move(overrides);
    return request;
  }

  static nlohmann::json json_of(const std::filesystem::path& path) {
    return nlohmann::json::parse(read_file(path, 1 << 24));
  }

  TemporaryFolder folder_;
};

}  // namespace recast
