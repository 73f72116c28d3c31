#include "split.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr double kTestShare = 0.2, kValidationShare = 0.1;

// Numbers of at most 18 digits sort as numbers.
bool is_number(const std::string& name) {
  return name.size() <= 18 && !name.empty() && name.find_first_not_of("0123456789") == name.npos;
}

std::vector<std::string> sorted_classes(const std::vector<Record>& records) {
  std::set<std::string> seen;
  for (const auto& record : records) seen.insert(record.class_name);
  std::vector<std::string> classes(seen.begin(), seen.end());
  if (std::all_of(classes.begin(), classes.end(), is_number)) {
    std::stable_sort(classes.begin(), classes.end(),
                     [](const auto& a, const auto& b) { return std::stoll(a) < std::stoll(b); });
  }
  return classes;
}

std::set<std::string> classes_given(const std::vector<Record>& records, Given given) {
  std::set<std::string> out;
  for (const auto& record : records) {
    if (record.given == given) out.insert(record.class_name);
  }
  return out;
}

// At most five names that `a` has and `b` has not.
std::string only_in(const std::set<std::string>& a, const std::set<std::string>& b) {
  constexpr std::size_t kShown = 5;
  std::vector<std::string> names;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(names));
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    out += (i ? ", '" : "'") + printable(names[i]) + "'";
  }
  if (names.size() > kShown) out += fmt::format(" and {} more", names.size() - kShown);
  return out;
}

void check_labels(const std::set<std::string>& train, const std::set<std::string>& test, std::string_view name,
                  bool all_needed, const std::string& origin) {
  const auto extra = only_in(test, train), lacking = all_needed ? only_in(train, test) : "";
  if (extra.empty() && lacking.empty()) return;
  fail(Code::kUnsupported, "[data] {}: labels differ between train and {}:{}{}{}; make both hold the same classes",
       origin, name, extra.empty() ? "" : fmt::format(" only {} has {}", name, extra),
       extra.empty() || lacking.empty() ? "" : ",", lacking.empty() ? "" : " only train has " + lacking);
}

struct Plan {
  bool own_test = false, own_validation = false;
  Given test = Given::kTest;  // what the test images are marked as
};

Plan make_plan(const std::vector<Record>& records, const std::string& origin) {
  std::array<bool, 4> has{};
  for (const auto& record : records) has[static_cast<std::size_t>(record.given)] = true;
  const bool train = has[static_cast<std::size_t>(Given::kTrain)], test = has[static_cast<std::size_t>(Given::kTest)];
  const bool validation = has[static_cast<std::size_t>(Given::kValidation)];
  if (!train && (test || validation)) {
    fail(Code::kUnsupported, "[data] {}: holds images to {} with, none to train with", origin,
         test ? "test" : "validate");
  }
  if (!test && validation) return {true, false, Given::kValidation};
  return {test, validation, Given::kTest};
}

std::size_t share_of(std::size_t count, double share) {
  return std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(share * static_cast<double>(count))));
}

}  // namespace

std::string_view name(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kValidation:
      return "validation";
    case Split::kTest:
      return "test";
  }
  return "";
}

std::string split_order(const std::string& id, std::uint64_t split_seed) {
  return sha256_hex(fmt::format("{}\n{}", split_seed, id));
}

namespace {

void check_all_labels(const std::vector<Record>& records, const Plan& plan, const std::string& origin) {
  if (!plan.own_test) return;  // then nothing else is given either
  const auto train = classes_given(records, Given::kTrain);
  check_labels(train, classes_given(records, plan.test), "test", true, origin);
  // A class that validation has no image of only goes unmeasured there.
  if (plan.own_validation) check_labels(train, classes_given(records, Given::kValidation), "validation", false, origin);
}

// The split of every record.
std::vector<Split> assign(const std::vector<Record>& records, const std::vector<std::int64_t>& labels,
                          const std::vector<std::string>& classes, const Plan& plan, std::uint64_t split_seed,
                          const std::string& origin) {
  std::vector<Split> split_of(records.size(), Split::kTrain);
  std::vector<std::vector<std::pair<std::string, std::size_t>>> pools(classes.size());  // (order, record) by class
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (plan.own_test && records[i].given == plan.test) {
      split_of[i] = Split::kTest;
    } else if (plan.own_validation && records[i].given == Given::kValidation) {
      split_of[i] = Split::kValidation;
    } else {
      pools[static_cast<std::size_t>(labels[i])].emplace_back(split_order(records[i].id, split_seed), i);
    }
  }
  const std::size_t needed = 3u - plan.own_test - plan.own_validation;
  for (std::size_t c = 0; c < pools.size(); ++c) {
    auto& pool = pools[c];
    if (pool.size() < needed) {
      fail(Code::kUnsupported,
           "[data] {}: class '{}' has {} images to split, at least {} are needed: add images, or "
           "give folders train/, val/ and test/",
           origin, printable(classes[c]), pool.size(), needed);
    }
    std::sort(pool.begin(), pool.end());
    const std::size_t test = plan.own_test ? 0 : share_of(pool.size(), kTestShare);
    const std::size_t held = test + (plan.own_validation ? 0 : share_of(pool.size() - test, kValidationShare));
    for (std::size_t i = 0; i < held; ++i) split_of[pool[i].second] = i < test ? Split::kTest : Split::kValidation;
  }
  return split_of;
}

}  // namespace

Partition partition(const std::vector<Record>& records, std::uint64_t split_seed, const std::string& origin) {
  Partition out;
  out.classes = sorted_classes(records);
  if (out.classes.size() < 2) {
    fail(Code::kUnsupported, "[data] {}: all images are of one class ('{}'), at least two are needed", origin,
         out.classes.empty() ? "" : printable(out.classes.front()));
  }
  if (out.classes.size() > kMaxClasses) {
    fail(Code::kExhausted,
         "[data] {}: {} classes, at most {} are learned at once; is the column or folder level right?", origin,
         out.classes.size(), kMaxClasses);
  }
  const Plan plan = make_plan(records, origin);
  check_all_labels(records, plan, origin);

  std::map<std::string, std::int64_t> numbers;
  for (std::size_t i = 0; i < out.classes.size(); ++i) numbers[out.classes[i]] = static_cast<std::int64_t>(i);
  std::vector<std::int64_t> labels;
  labels.reserve(records.size());
  for (const auto& record : records) labels.push_back(numbers.at(record.class_name));
  const auto split_of = assign(records, labels, out.classes, plan, split_seed, origin);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto split = static_cast<std::size_t>(split_of[i]);
    out.examples[split].push_back({records[i].id, labels[i]});
    out.rows[split].push_back(i);
  }
  return out;
}

}  // namespace recast
