#include "recast/data/dataset.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/base/lower_case.h"
#include "recast/data/image.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "source.h"
#include "split.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

std::size_t index_of(Split split) { return static_cast<std::size_t>(split); }

class SplitDataset final : public Dataset {
 public:
  SplitDataset(fs::path path, std::unique_ptr<RecordSource> source, std::uint64_t split_seed)
      : path_(std::move(path)),
        source_(std::move(source)),
        split_seed_(split_seed),
        partition_(partition(source_->records(), split_seed, printable_path(path_))) {}

  const std::vector<std::string>& classes() const override { return partition_.classes; }
  const std::vector<Example>& examples(Split split) const override { return partition_.examples[index_of(split)]; }
  at::Tensor image(Split split, std::int64_t index) const override {
    return to_tensor(source_->image(partition_.rows[index_of(split)].at(static_cast<std::size_t>(index))));
  }
  StoredImage stored(Split split, std::int64_t index) const override {
    return source_->stored(partition_.rows[index_of(split)].at(static_cast<std::size_t>(index)));
  }
  const fs::path& path() const override { return path_; }
  std::string_view kind() const override { return source_->kind(); }
  std::uint64_t split_seed() const override { return split_seed_; }
  std::map<std::string, std::vector<std::string>> superclasses() const override { return source_->superclasses(); }

 private:
  const fs::path path_;
  const std::unique_ptr<const RecordSource> source_;
  const std::uint64_t split_seed_;
  const Partition partition_;
};

/// Some rows of another dataset.
class PartOfDataset : public Dataset {
 public:
  const std::vector<std::string>& classes() const override { return whole_->classes(); }
  const std::vector<Example>& examples(Split split) const override { return examples_[index_of(split)]; }
  at::Tensor image(Split split, std::int64_t index) const override {
    return whole_->image(split, rows_[index_of(split)].at(static_cast<std::size_t>(index)));
  }
  StoredImage stored(Split split, std::int64_t index) const override {
    return whole_->stored(split, rows_[index_of(split)].at(static_cast<std::size_t>(index)));
  }
  const fs::path& path() const override { return whole_->path(); }
  std::string_view kind() const override { return whole_->kind(); }
  std::uint64_t split_seed() const override { return whole_->split_seed(); }
  std::array<std::int64_t, 3> limits() const override { return whole_->limits(); }
  std::map<std::string, std::vector<std::string>> superclasses() const override { return whole_->superclasses(); }
  bool chosen() const override { return whole_->chosen(); }

 protected:
  explicit PartOfDataset(std::unique_ptr<Dataset> whole) : whole_(std::move(whole)) {}

  /// `label`: its class in this dataset.
  void keep(Split split, std::int64_t row, std::int64_t label) {
    rows_[index_of(split)].push_back(row);
    examples_[index_of(split)].push_back({whole_->examples(split)[static_cast<std::size_t>(row)].id, label});
  }

  const std::unique_ptr<const Dataset> whole_;

 private:
  std::array<std::vector<Example>, 3> examples_;
  std::array<std::vector<std::int64_t>, 3> rows_;
};

class LimitedDataset final : public PartOfDataset {
 public:
  /// By split.
  LimitedDataset(std::unique_ptr<Dataset> whole, const std::array<std::int64_t, 3>& limits)
      : PartOfDataset(std::move(whole)), limits_(limits) {
    const std::int64_t train = limits[index_of(Split::kTrain)], test = limits[index_of(Split::kTest)];
    const auto classes = whole_->classes().size();
    keep_first(Split::kTrain, std::vector<std::int64_t>(classes, train));
    keep_first(Split::kValidation, validation_limits(train));
    keep_first(Split::kTest, std::vector<std::int64_t>(classes, test));
  }

  std::array<std::int64_t, 3> limits() const override { return limits_; }

 private:
  std::vector<std::int64_t> counts(Split split) const {
    std::vector<std::int64_t> out(whole_->classes().size());
    for (const auto& example : whole_->examples(split)) ++out[static_cast<std::size_t>(example.label)];
    return out;
  }

  std::vector<std::int64_t> validation_limits(std::int64_t train) const {
    const auto classes = whole_->classes().size();
    if (const std::int64_t chosen = limits_[index_of(Split::kValidation)]; chosen > 0)
      return std::vector<std::int64_t>(classes, chosen);
    const auto train_counts = counts(Split::kTrain), validation_counts = counts(Split::kValidation);
    std::vector<std::int64_t> validation(classes);
    for (std::size_t c = 0; c < classes; ++c) {
      const auto kept = train == 0 ? train_counts[c] : std::min(train, train_counts[c]);
      const double share = static_cast<double>(kept) / static_cast<double>(train_counts[c]);
      validation[c] = std::max<std::int64_t>(1, std::llround(share * static_cast<double>(validation_counts[c])));
    }
    return validation;
  }

  // Keeps the first most[c] of class c in split-hash order (0: all), in the order that they had.
  void keep_first(Split split, const std::vector<std::int64_t>& most) {
    const auto& all = whole_->examples(split);
    std::vector<std::vector<std::pair<std::string, std::int64_t>>> by_class(most.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      by_class[static_cast<std::size_t>(all[i].label)].emplace_back(split_order(all[i].id, split_seed()), i);
    }
    std::vector<std::int64_t> rows;
    for (std::size_t c = 0; c < most.size(); ++c) {
      auto& members = by_class[c];
      std::sort(members.begin(), members.end());
      if (most[c] > 0 && static_cast<std::int64_t>(members.size()) > most[c]) members.resize(most[c]);
      for (const auto& [order, row] : members) rows.push_back(row);
    }
    std::sort(rows.begin(), rows.end());
    for (const auto row : rows) keep(split, row, all[static_cast<std::size_t>(row)].label);
  }

  const std::array<std::int64_t, 3> limits_;
};

class ChosenDataset final : public PartOfDataset {
 public:
  ChosenDataset(std::unique_ptr<Dataset> whole, const std::set<std::string>& names) : PartOfDataset(std::move(whole)) {
    std::vector<std::int64_t> label_of;
    for (const std::string& name : whole_->classes()) {
      const bool wanted = names.count(name) > 0;
      label_of.push_back(wanted ? static_cast<std::int64_t>(classes_.size()) : -1);
      if (wanted) classes_.push_back(name);
    }
    for (const Split split : kSplits) {
      const auto& all = whole_->examples(split);
      for (std::size_t row = 0; row < all.size(); ++row) {
        const std::int64_t label = label_of[static_cast<std::size_t>(all[row].label)];
        if (label >= 0) keep(split, static_cast<std::int64_t>(row), label);
      }
    }
  }

  const std::vector<std::string>& classes() const override { return classes_; }
  bool chosen() const override { return true; }

 private:
  std::vector<std::string> classes_;
};

[[noreturn]] void unknown(const Dataset& dataset, std::string_view what, const std::string& name,
                          const std::vector<std::string>& known) {
  const std::string near = nearest(name, known);
  fail(Code::kNotFound, "[data] {}: no {} '{}'{}", printable_path(dataset.path()), what, printable(name),
       near.empty() ? "" : ", did you mean '" + printable(near) + "'?");
}

std::unique_ptr<RecordSource> open_source(const fs::path& path) {
  const auto status = fs::status(path);
  if (!fs::exists(status)) fail(Code::kNotFound, "[data] {}: no such file or folder", printable_path(path));
  if (fs::is_directory(status)) {
    if (holds_cifar(path)) return open_cifar(path);
    if (holds_idx(path)) return open_idx(path);
    return open_folder(path);
  }
  const auto name = lower_case(path.filename().string());
  if (name.ends_with(".csv")) return open_csv(path);
  if (name.ends_with(".bin")) return open_cifar(path);
  if (is_idx_name(name)) return open_idx(path);
  fail(Code::kUnsupported,
       "[data] {}: not a dataset that is known; give a folder of class folders, a .csv file with "
       "columns path,label, CIFAR binary files (.bin) or IDX files (*-images-idx3-ubyte[.gz])",
       printable_path(path));
}

std::string digest(const Dataset& dataset, Split split) {
  Sha256 sha;
  for (const auto& example : dataset.examples(split)) {
    sha.update(example.id);
    sha.update("\t");
    sha.update(dataset.classes()[static_cast<std::size_t>(example.label)]);
    sha.update("\n");
  }
  return sha.finish_hex();
}

}  // namespace

std::unique_ptr<Dataset> open_dataset(const fs::path& path, std::uint64_t split_seed) {
  try {
    const Stopwatch watch;
    auto opened = std::make_unique<SplitDataset>(path, open_source(path), split_seed);
    std::size_t rows = 0;
    for (const Split split : kSplits) rows += opened->examples(split).size();
    log_event(LogLevel::kInfo, "dataset.opened",
              {{"path", path.native()},
               {"kind", opened->kind()},
               {"classes", opened->classes().size()},
               {"rows", rows},
               {"ms", watch.ms()}});
    return opened;
  } catch (const fs::filesystem_error& e) {
    fail(Code::kUnavailable, "[data] {}: {}", printable_path(e.path1().empty() ? path : e.path1()), e.code().message());
  }
}

std::unique_ptr<Dataset> choose_classes(std::unique_ptr<Dataset> dataset, const std::vector<std::string>& classes,
                                        const std::vector<std::string>& superclasses) {
  if (classes.empty() && superclasses.empty()) return dataset;
  std::set<std::string> names;
  const std::set<std::string> known(dataset->classes().begin(), dataset->classes().end());
  for (const std::string& name : classes) {
    if (known.count(name) == 0) unknown(*dataset, "class", name, dataset->classes());
    names.insert(name);
  }
  const auto groups =
      superclasses.empty() ? std::map<std::string, std::vector<std::string>>() : dataset->superclasses();
  if (!superclasses.empty() && groups.empty())
    fail(Code::kUnsupported, "[data] {}: has no superclasses, as CIFAR-100 has; name the classes themselves",
         printable_path(dataset->path()));
  std::vector<std::string> group_names;
  for (const auto& [name, members] : groups) group_names.push_back(name);
  for (const std::string& name : superclasses) {
    const auto group = groups.find(name);
    if (group == groups.end()) unknown(*dataset, "superclass", name, group_names);
    names.insert(group->second.begin(), group->second.end());
  }
  if (names.size() < 2)
    fail(Code::kInvalidArgument, "[data] {}: one class alone was chosen ('{}'), at least two are needed",
         printable_path(dataset->path()), printable(*names.begin()));
  return std::make_unique<ChosenDataset>(std::move(dataset), names);
}

std::unique_ptr<Dataset> limit_per_class(std::unique_ptr<Dataset> dataset, std::int64_t train, std::int64_t test,
                                         std::int64_t validation) {
  if (train < 0 || test < 0 || validation < 0) {
    fail(Code::kInvalidArgument, "[data] limits per class must be 0 (all) or more, got {}, {} and {}", train,
         validation, test);
  }
  if (train == 0 && test == 0 && validation == 0) return dataset;
  return std::make_unique<LimitedDataset>(std::move(dataset), std::array{train, validation, test});
}

nlohmann::json describe_splits(const Dataset& dataset) {
  nlohmann::json counts, digests;
  for (const Split split : kSplits) {
    counts[name(split)] = dataset.examples(split).size();
    digests[name(split)] = digest(dataset, split);
  }
  const auto limits = dataset.limits();
  nlohmann::json most = {{"train", limits[index_of(Split::kTrain)]}, {"test", limits[index_of(Split::kTest)]}};
  if (const std::int64_t validation = limits[index_of(Split::kValidation)]; validation > 0)
    most["validation"] = validation;
  // A path that is not UTF-8 has no text in JSON; what identifies the data are the digests.
  nlohmann::json out = {
      {"path", is_utf8(dataset.path().string()) ? dataset.path().string() : printable_path(dataset.path())},
      {"kind", dataset.kind()},
      {"split_seed", dataset.split_seed()},
      {"limits", most},
      {"classes", dataset.classes()},
      {"counts", counts},
      {"sha256", digests}};
  if (dataset.chosen()) out["chosen"] = true;
  return out;
}

}  // namespace recast
