// The smallest whole program: learn a task from a folder of class folders, then classify one image with it.
//
//     example_learn_and_predict MODEL_DIR DATA_DIR IMAGE
//
// MODEL_DIR comes from `recast import` and `recast mimic`.
#include <fmt/format.h>

#include <cstdio>

#include "recast/base/error.h"
#include "recast/run/learn_task.h"
#include "recast/run/model_directory.h"
#include "recast/run/predict_images.h"

int main(int argc, char** argv) try {
  if (argc != 4) {
    fmt::print(stderr, "usage: {} MODEL_DIR DATA_DIR IMAGE\n", argv[0]);
    return 2;
  }
  recast::LearnRequest learn;
  learn.directory = argv[1];
  learn.data = argv[2];
  learn.task = "example";
  learn.image_size = 112;
  const nlohmann::json results = recast::learn_task(learn).results;
  fmt::print("test accuracy {:.3f} with {} coefficients\n", results["test"]["top1"].get<double>(),
             results["coefficients"].get<int>());

  const auto directory = recast::ModelDirectory::open(argv[1], /*read_only=*/true);
  recast::PredictRequest predict;
  predict.task = "example";
  predict.images = {argv[3]};
  const nlohmann::json answer = recast::predict_images(directory, predict);
  fmt::print("{}\n", answer["predictions"][0]["label"].get<std::string>());
} catch (const recast::Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return recast::exit_status(error.code());
}
