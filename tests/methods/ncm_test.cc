// Nearest class mean: the means, whatever the order, and classes that no row has come for.
#include "methods/stream_case.h"

namespace recast {
namespace {

TEST(Ncm, KeepsTheMeanOfEachClassWhateverTheSteps) {
  const Table table = random_table(60, 16, 4, 1);
  const Model model = head_model("ncm", 16);
  const Learned once = learn_table(model, table, 4);
  const Learned first = learn_table(model, table.rows(0, 20), 4);
  const Learned twice = learn_table(model, table.rows(20, 60), 4, first.model.numbers());
  const Head& head = *once.model.recipe().head().roles.head;
  for (std::int64_t c = 0; c < 4; ++c) {
    const at::Tensor mean = table.rows(table.y.eq(c).nonzero().flatten()).x.to(at::kDouble).mean(0);
    EXPECT_LT(((*head.class_rows(shared_of(once)))[c] - mean).abs().max().item<double>(), 1e-6);
    EXPECT_LT(((*head.class_rows(shared_of(twice)))[c] - mean).abs().max().item<double>(), 1e-6);
  }
}

TEST(Ncm, AnswersWithTheNearestMean) {
  const Table table = random_table(60, 16, 4, 2);
  for (const std::string distance : {"euclidean", "cosine"}) {
    const Learned learned = learn_table(head_model("ncm:distance=" + distance, 16), table, 4);
    const at::Tensor mean = *learned.model.recipe().head().roles.head->class_rows(shared_of(learned));
    const auto unit = [](const at::Tensor& x) { return x / x.norm(2, {1}, true); };
    const at::Tensor expected = distance == "cosine" ? at::matmul(unit(table.x), unit(mean).t()).argmax(1)
                                                     : at::cdist(table.x, mean, 2, 2).argmin(1);
    EXPECT_TRUE(at::equal(logits_of(learned.model, table.x).argmax(1), expected)) << distance;
  }
}

TEST(Ncm, NeverAnswersWithAClassThatHasNoRow) {
  Table table = random_table(60, 16, 4, 3);
  table.x = table.x * 1e-3;  // all near zero, where the mean of no row would lie
  const Learned learned = learn_table(head_model("ncm", 16), table, 6);
  EXPECT_LT(logits_of(learned.model, table.x).argmax(1).max().item<std::int64_t>(), 4);
}

}  // namespace
}  // namespace recast
