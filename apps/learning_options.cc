#include "learning_options.h"

#include <cstdlib>

#include "progress.h"

namespace recast {
namespace {

std::string environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr ? value : "";
}

}  // namespace

void LearningFlags::declare(Command& command, CommandLine& line, LearnRequest& request) {
  command.option("dir", directory, "the model directory");
  command.store(request.store);
  command.option("--task", request.task, "name of the task; an existing one gets further versions", "NAME");
  command.option("--data", data, "folder of class folders, CSV (path,label), CIFAR or IDX files", "PATH");
  command.option("--recipe", request.recipe, "fast, paper or steps", "NAME");
  command.option("--plug", request.plugs, "plug-in with options; may be given several times", "NAME[:key=value,...]");
  command.option("--image-size", request.image_size, "side of the images in pixels (default: the backbone's)", "PX");
  command.option("--epochs", request.epochs, "passes over the training images", "N");
  command.option("--batch-size", request.batch_size, "images a step of the optimiser", "N");
  command.option("--lr", request.lr, "learning rate, before what plug-ins suggest", "RATE");
  command.option("--head-lr", request.head_lr, "learning rate of the head", "RATE");
  command.option("--weight-decay", request.weight_decay, "decoupled weight decay", "RATE");
  command.option("--augmentation", request.augmentation,
                 "of training images where the network moves: none, flips or paper", "NAME");
  command
      .option("--bn", request.bn,
              "batch norms: statistics of the backbone (frozen), or of the task's own, stored with it (task)", "WHOSE")
      .one_of({"frozen", "task"});
  command.option("--amp", amp, "number format of matrix products while learning: bf16 or fp32", "FORMAT")
      .one_of({"bf16", "fp32"});
  command.option("--seed", request.seed, "of everything random in learning", "S");
  command.option("--split-seed", request.split_seed, "of the split into train, validation and test", "S");
  command.option("--limit-train", request.limit_train, "training images of each class, 0: all", "N");
  command.option("--limit-test", request.limit_test, "test images of each class, 0: all", "N");
  command.option("--bad-images", bad_images, "images that cannot be decoded: stop, or skip and count them", "WHAT")
      .one_of({"stop", "skip"});
  command.option("--shared-state", request.shared, "name of the shared state, for methods that are not isolated",
                 "NAME");
  command.flag("--tensorboard", request.tensorboard,
               "write the figures into the run folder as TensorBoard reads them, too");
  command.flag("--mlflow", mlflow,
               "write the figures as a run of MLflow's file store, too: MLFLOW_TRACKING_URI (a folder or file:FOLDER), "
               "default ./mlruns");
  command.option("--device", request.device, "cpu, cuda or cuda:N", "NAME");
  command.flag("--force", request.force, "replace an existing run folder");
  command.option("--config", line.config_file, "YAML with these flags' long names as keys", "FILE");
  command.flag("--print-config", print_config, "print the resolved settings as YAML and stop");
}

void LearningFlags::settle(LearnRequest& request) const {
  request.directory = directory;
  request.data = data;
  request.run_folder = out;
  if (!amp.empty()) request.bf16 = amp == "bf16";
  request.bad_images = parse_bad_images(bad_images);
  if (!mlflow) return;
  request.mlflow = environment("MLFLOW_TRACKING_URI");
  request.mlflow_experiment = environment("MLFLOW_EXPERIMENT_NAME");
}

void attach(LearnRequest& request, CommandLine& line, Progress& progress) {
  request.command = line.command();
  request.stop = line.stop();
  request.listener = &progress;
}

}  // namespace recast
