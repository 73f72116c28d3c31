#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "progress.h"
#include "recast/run/mimic_directory.h"
#include "recast/run/mimicry_studies.h"
#include "table.h"

namespace recast {
namespace {

struct MimicFlags {
  std::string directory, out, data;
  std::optional<std::int64_t> steps, heal, heal_batch, images, image_size;
  std::optional<double> rate, heal_rate;
  bool compare = false, sweep = false, force = false;
  MimicryOptions options;
};

std::string error_text(const nlohmann::json& error) { return fmt::format("{:.2e}", error.get<double>()); }
std::string cosine_text(const nlohmann::json& cosine) { return fmt::format("{:.6f}", cosine.get<double>()); }

// ---- mimic ---------------------------------------------------------------------------------------------------------

std::string heal_text(const nlohmann::json& heal) {
  if (heal.is_null()) return "";
  if (heal.contains("skipped")) return heal["skipped"].get<std::string>() + "\n";
  Table table({"layer", "cosine before", "after"});
  for (const auto& layer : heal["features"])
    table.add({layer["layer"].get<std::string>(), cosine_text(layer["before"]), cosine_text(layer["after"])});
  const auto& mean = heal["mean_feature_cosine"];
  std::string out = fmt::format(
      "\n{}mean cosine of layer outputs on {} test images: {} before, {} after {} steps of healing ({:.1f} s)\n",
      table.text(), heal["test_images"].get<std::int64_t>(), cosine_text(mean["before"]), cosine_text(mean["after"]),
      heal["steps"].get<std::int64_t>(), heal["seconds"].get<double>());
  if (const auto& task = heal["task"]; !task["before"].is_null())
    out += fmt::format("answers of the task pretrained that stay the original's: {} before, {} after\n",
                       share_text(task["before"]["same_answers"].get<double>()),
                       share_text(task["after"]["same_answers"].get<double>()));
  if (!heal["kept"].get<bool>())
    out += fmt::format(
        "healing did not help on the validation images ({} before, {} after) and was dropped: try a "
        "lower --heal-rate or more images\n",
        cosine_text(heal["validation"]["before"]), cosine_text(heal["validation"]["after"]));
  return out;
}

std::string templates_text(std::int64_t templates) {
  return templates > 0 ? fmt::format("{} templates", templates) : "as many templates as layers";
}

std::string mimic_text(const nlohmann::json& report) {
  Table table({"slot", "relative error", "cosine"});
  for (const auto& slot : report["slots"])
    table.add({slot["slot"].get<std::string>(), error_text(slot["relative_error"]),
               fmt::format("{:.9f}", slot["cosine"].get<double>())});
  std::string out = table.text() + heal_text(report["heal"]);
  out += fmt::format(
      "\n{}: {} slots ({}) in {} groups, n = {}, K = {} sets, solver {} ({:.3g} s)\n"
      "coefficients of a task: {}; bank: {} numbers, {}; other weights: {}; {:.2f} s\nfingerprint {}\n",
      report["directory"].get<std::string>(), report["slots"].size(), report["target"].get<std::string>(),
      report["groups"].get<std::int64_t>(), templates_text(report["templates"].get<std::int64_t>()),
      report["sets"].get<std::int64_t>(), report["solver"].get<std::string>(), report["solver_seconds"].get<double>(),
      report["coefficients"].get<std::int64_t>(), report["bank_numbers"].get<std::int64_t>(),
      bytes_text(report["bytes"]["bank"].get<double>()), bytes_text(report["bytes"]["backbone"].get<double>()),
      report["seconds"].get<double>(), report["fingerprint"].get<std::string>());
  if (!report["tasks"]["kept"].empty()) out += "tasks carried over: " + joined(report["tasks"]["kept"]) + "\n";
  if (!report["tasks"]["left"].empty())
    out += "tasks left behind, since they belong to the old weights: " + joined(report["tasks"]["left"]) + "\n";
  return out;
}

// ---- studies -------------------------------------------------------------------------------------------------------

/// Columns of what is left of features, where images were given, and of answers, where there is a classifier.
void add_likeness_heads(std::vector<std::string>& heads, const nlohmann::json& document) {
  if (document["images"].is_null()) return;
  heads.insert(heads.end(), {"features", "all layers"});
  if (document["images"]["classifies"]) heads.insert(heads.end(), {"answers kept", "top1 original", "top1"});
}

void add_likeness(std::vector<std::string>& cells, const nlohmann::json& likeness) {
  if (likeness.is_null()) return;
  cells.push_back(cosine_text(likeness["features"].back()["cosine"]));
  cells.push_back(cosine_text(likeness["mean_feature_cosine"]));
  if (likeness["task"].is_null()) return;
  for (const char* key : {"same_answers", "top1_original", "top1"}) {
    const auto& share = likeness["task"][key];
    cells.push_back(share_or_dash(share));
  }
}

std::string study_end(const nlohmann::json& document) {
  std::string out;
  if (const auto& images = document["images"]; images.is_null()) {
    out += "weights only: with --data PATH the outputs of the layers on real images are compared, too\n";
  } else {
    out += fmt::format("features: {} images of {}, {} px\n", images["images"].get<std::int64_t>(),
                       images["path"].get<std::string>(), images["image_size"].get<std::int64_t>());
    for (const auto& note : images["notes"]) out += "note: " + note.get<std::string>() + "\n";
  }
  if (!document["out"].is_null()) out += "written to " + document["out"].get<std::string>() + "\n";
  return out + provenance_text(document) + "\n";
}

/// A row per layer or slot, a column per solver: `entries` of a row are [{name_key, cosine}].
template <class Entries>
std::string per_place(const nlohmann::json& document, const char* name_key, const Entries& entries) {
  std::vector<std::string> heads = {std::string(name_key) + ", cosine"};
  std::vector<const nlohmann::json*> rows;
  for (const auto& row : document["solvers"])
    if (!row.contains("failed")) {
      heads.push_back(row["solver"].template get<std::string>());
      rows.push_back(&row);
    }
  Table table(heads);
  for (std::size_t i = 0; i < entries(*rows[0]).size(); ++i) {
    std::vector<std::string> cells = {entries(*rows[0])[i][name_key].template get<std::string>()};
    for (const nlohmann::json* row : rows) cells.push_back(cosine_text(entries(*row)[i]["cosine"]));
    table.add(cells);
  }
  return table.text() + "\n";
}

std::string compare_text(const nlohmann::json& document) {
  std::vector<std::string> heads = {"solver",         "seconds",    "times of closed",
                                    "relative error", "worst slot", "weights, cosine"};
  add_likeness_heads(heads, document);
  Table table(heads);
  std::string failures;
  for (const auto& row : document["solvers"]) {
    if (row.contains("failed")) {
      failures += row["failed"].get<std::string>() + "\n";
      continue;
    }
    std::vector<std::string> cells = {row["solver"].get<std::string>(),
                                      fmt::format("{:.4g}", row["seconds"].get<double>()),
                                      fmt::format("{:.0f}", row["times_of_closed"].get<double>()),
                                      error_text(row["relative_error"]),
                                      error_text(row["worst_relative_error"]),
                                      cosine_text(row["mean_cosine"])};
    add_likeness(cells, row["likeness"]);
    table.add(cells);
  }
  std::string out = per_place(document, "slot", [](const nlohmann::json& row) -> const auto& { return row["slots"]; });
  if (!document["images"].is_null())
    out += per_place(document, "layer",
                     [](const nlohmann::json& row) -> const auto& { return row["likeness"]["features"]; });
  out += table.text() + failures;
  if (!document["least_speed_ratio"].is_null())
    out += fmt::format("closed is at least {:.0f} times faster than the others; its error is {}\n",
                       document["least_speed_ratio"].get<double>(),
                       document["closed_has_least_error"].get<bool>() ? "at or below theirs" : "NOT the least");
  return out + study_end(document);
}

std::string sweep_text(const nlohmann::json& document) {
  std::vector<std::string> heads = {"groups", "templates", "model", "of original", "relative error", "weights, cosine"};
  add_likeness_heads(heads, document);
  Table table(heads);
  for (const auto& point : document["points"]) {
    const auto bytes = point["bytes"].get<double>();
    std::vector<std::string> cells = {point["groups"].dump(),
                                      point["templates"].dump(),
                                      bytes_text(bytes),
                                      fmt::format("{:.1f} %", 100 * bytes / document["original_bytes"].get<double>()),
                                      error_text(point["relative_error"]),
                                      cosine_text(point["mean_cosine"])};
    add_likeness(cells, point["likeness"]);
    table.add(cells);
  }
  std::string out = table.text();
  for (const auto& skipped : document["skipped"])
    out += fmt::format("{} groups: {}\n", skipped["groups"].dump(), skipped["reason"].get<std::string>());
  return out + study_end(document);
}

// ---- flags ---------------------------------------------------------------------------------------------------------

/// What can be seen to be wrong before a file is read.
void check_flags(const MimicFlags& flags) {
  const bool study = flags.compare || flags.sweep;
  if (flags.compare && flags.sweep) fail(Code::kInvalidArgument, "[mimic] --compare and --sweep: give one of them");
  if (study && flags.heal)
    fail(Code::kInvalidArgument, "[mimic] --heal belongs to a model that is written: leave it out, or --{}",
         flags.compare ? "compare" : "sweep");
  if (flags.compare && flags.options.solver != MimicryOptions{}.solver)
    fail(Code::kInvalidArgument, "[mimic] --compare runs every solver: leave --solver out");
  if (flags.sweep && (flags.options.groups != 0 || flags.options.templates != 0))
    fail(Code::kInvalidArgument,
         "[mimic] --sweep goes through groups and templates: leave --groups and --templates out");
  if (!study && flags.out.empty())
    fail(Code::kInvalidArgument,
         "[usage] --out DIR is required (without it only --compare and --sweep run); see recast mimic --help");
  if (!flags.heal && (flags.heal_batch || flags.heal_rate))
    fail(Code::kInvalidArgument, "[mimic] --heal-batch and --heal-rate need --heal STEPS");
  if (flags.steps && *flags.steps < 1)
    fail(Code::kInvalidArgument, "[mimic] --steps must be at least 1, got {}", *flags.steps);
  if (flags.rate && !(*flags.rate > 0))
    fail(Code::kInvalidArgument, "[mimic] --rate must be above 0, got {:g}", *flags.rate);
  if (flags.heal && *flags.heal < 1)
    fail(Code::kInvalidArgument, "[heal] --heal must be at least 1 step, got {}", *flags.heal);
}

StudyImages images_of(const MimicFlags& flags) {
  StudyImages images;
  images.data = flags.data;
  images.image_size = flags.image_size;
  if (flags.images) images.count = *flags.images;
  return images;
}

MimicryStudy study_of(const MimicFlags& flags, const CommandLine& line, const StudyWatch& watch) {
  return {flags.directory, flags.options, images_of(flags), flags.out, flags.force, line.command(), watch};
}

MimicRequest request_of(const MimicFlags& flags, const StudyWatch& watch) {
  MimicRequest request{flags.directory, flags.options, flags.out, flags.force, {}, watch};
  if (!flags.heal) return request;
  request.heal.steps = *flags.heal;
  request.heal.images = images_of(flags);
  if (flags.heal_batch) request.heal.batch = *flags.heal_batch;
  if (flags.heal_rate) request.heal.rate = *flags.heal_rate;
  return request;
}

void add_options(Command& command, MimicFlags& flags) {
  MimicryOptions& options = flags.options;
  command.option("dir", flags.directory, "the model directory to start from").required();
  command.option(
      "--target", options.target,
      "slots: attn (default), mlp, attn+mlp or all of a vision transformer; conv of a convolutional network: "
      "the convolutions of every block but a stage's first",
      "NAME");
  command.option("--groups", options.groups,
                 "runs of consecutive layers that share templates (default: 6; conv: 1, a bank a stage)", "G");
  command.option("--templates", options.templates,
                 "templates of each bank: with as many as a group has layers nothing is lost, with fewer the model is "
                 "smaller (default: 2; conv: as many as layers)",
                 "n");
  command.option("--sets", options.sets, "coefficient sets of each slot", "K");
  command.option(
      "--solver", options.solver,
      "closed: exact, or the least-squares optimum, at once; gradient, encoder: the paper's, by thousands of "
      "steps",
      "NAME");
  command.option("--steps", flags.steps, "of gradient (default 1000, with convolutions 3000) and encoder (2500)", "N");
  command.option("--rate", flags.rate,
                 "learning rate of gradient (default 0.1, with convolutions 0.2) and encoder "
                 "(0.002)",
                 "RATE");
  command.option("--seed", options.seed, "of all that is drawn", "S");
  command.option("--heal", flags.heal,
                 "after a lossy mimicry, train templates and coefficients so many steps until the layers' outputs on "
                 "the images of --data come back to the original's",
                 "STEPS");
  command.option("--heal-rate", flags.heal_rate, "share of a tensor's size that a step moves it by at most (0.003)",
                 "RATE");
  command.option("--heal-batch", flags.heal_batch, "images a step (8)", "N");
  command.flag("--compare", flags.compare,
               "run every solver, write no model: time, error, what is left of the features");
  command.flag("--sweep", flags.sweep,
               "groups 1, 2, 3, 4, 6, 12 x templates 1 to 4, write no model: size against fidelity");
  command.option("--data", flags.data, "images for --heal, --compare and --sweep, as for learn", "PATH");
  command.option("--images", flags.images, "how many of them models are compared on (32)", "N");
  command.option("--image-size", flags.image_size, "side of those images in pixels (default: the backbone's)", "PX");
  command.option("--out", flags.out,
                 "the new model directory; with --compare or --sweep FILE.html, a page with plots, or FILE.json",
                 "PATH");
  command.flag("--force", flags.force, "replace what is there");
}

}  // namespace

void add_mimic(CommandLine& line) {
  auto flags = std::make_shared<MimicFlags>();
  Command& command = line.add("mimic", "turn a model directory's weights into shared templates and coefficients",
                              "recast mimic base --target attn --out model\n"
                              "  recast mimic base --groups 3 --templates 2 --heal 200 --data photos --out smaller\n"
                              "  recast mimic base --compare --groups 3 --data photos --out solvers.html\n"
                              "  recast mimic base --sweep --target all --data photos --out sizes.html",
                              true);
  add_options(command, *flags);
  command.on([&line, flags] {
    check_flags(*flags);
    flags->options.steps = flags->steps.value_or(0);
    flags->options.rate = flags->rate.value_or(0);
    Progress progress(line.quiet(), line.verbose());
    const StudyWatch watch{line.stop(), &progress};
    if (!flags->data.empty() && !flags->compare && !flags->sweep && !flags->heal)
      progress.note("--data is read with --heal, --compare or --sweep only");
    if (flags->compare)
      line.print(compare_solvers(study_of(*flags, line, watch)), compare_text);
    else if (flags->sweep)
      line.print(sweep_mimicry(study_of(*flags, line, watch)), sweep_text);
    else
      line.print(mimic_directory(request_of(*flags, watch)), mimic_text);
  });
}

}  // namespace recast
