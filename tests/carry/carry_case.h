#pragma once
// Throwaway plug-ins, each the bare bones of a published method, over the toy ViT: what the contract must carry. They
// are registered in this test program only and their names begin with "test-".
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "conformance/plug_cases.h"
#include "format/expect_error.h"

namespace recast {

/// A toy run with these plug-ins.
struct Carry {
  Carry(std::vector<std::string> names, std::int64_t epochs = 2)
      : recipe(toy_recipe(epochs)), backbone(toy_backbone()), start(toy_model(backbone, recipe, names)) {}
  Learned learn(const Budget& budget = {}) const { return recast::learn(start, task, sources, recipe, budget); }
  Learned learn_from(const Learned& earlier, const Scope kept, const Sources& rows) const {
    const Model next(backbone, earlier.model.shared_recipe(), earlier.model.numbers().only(kept));
    return recast::learn(next, task, rows, recipe, {});
  }
  double loss(const Model& model) const { return evaluate(model, *sources.train, 3, false).loss; }
  Batch probe() const { return toy_batch(*sources.validation, {0, 1, 2, 3, 4}); }

  Recipe recipe;
  std::shared_ptr<const Backbone> backbone;
  Model start;
  Task task = toy_task();
  Sources sources = toy_sources(20);
};

inline std::vector<std::int64_t> all_rows_of(const Source& source) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(source.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

/// Stopping after each step and going on gives the same bits.
inline void expect_resumable(const Carry& run) {
  const Learned whole = run.learn();
  for (std::int64_t k = 1;; ++k) {
    SCOPED_TRACE("stopped after step " + std::to_string(k));
    ASSERT_LT(k, 100);
    const TemporaryFolder folder;
    StopAfter listener(k);
    Budget budget;
    budget.checkpoint = folder / "checkpoint.safetensors";
    budget.listener = &listener;
    budget.stop = &listener.stop;
    try {
      run.learn(budget);
      return;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kCancelled) << error.what();
    }
    budget = {};
    budget.checkpoint = folder / "checkpoint.safetensors";
    budget.resume = true;
    EXPECT_TRUE(equal(run.learn(budget).model.numbers(), whole.model.numbers()));
  }
}

}  // namespace recast
