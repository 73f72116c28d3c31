// What holds of heads that learn without gradient, and of those that claim to be free of order.
#include "conformance/plug_cases.h"

namespace recast {
namespace {

class HeadPlug : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Plugin, HeadPlug, testing::ValuesIn(variants_where([](const std::string& plug) {
                           return make_method(plug)->roles().head != nullptr;
                         })),
                         case_name);

/// Some rows of a source in memory.
std::shared_ptr<const Source> rows_of(const std::shared_ptr<const Source>& source,
                                      const std::vector<std::int64_t>& rows) {
  const auto& toy = dynamic_cast<const ToySource&>(*source);
  const at::Tensor chosen = at::tensor(rows, at::kLong);
  return std::make_shared<ToySource>(toy.images().index_select(0, chosen), toy.labels().index_select(0, chosen));
}

TEST_P(HeadPlug, IsFreeOfOrderWhereItSaysSo) {
  if (!info_of(GetParam()).has(Claim::kOrderFree)) return;
  const PlugCase run(GetParam(), 1);
  const auto learn_in = [&](const std::vector<std::vector<std::int64_t>>& pieces) {
    std::optional<Learned> learned;
    for (const auto& piece : pieces)
      learned.emplace(recast::learn(learned ? learned->model : run.start, run.task,
                                    {rows_of(run.sources.train, piece), run.sources.validation}, run.recipe, {}));
    return learned->model.forward(run.probe(), {}).at("logits");
  };
  std::vector<std::int64_t> all(20), turned(20);
  std::iota(all.begin(), all.end(), 0);
  std::reverse_copy(all.begin(), all.end(), turned.begin());
  const at::Tensor once = learn_in({all});
  for (const auto& other :
       {learn_in({turned}), learn_in({{all.begin(), all.begin() + 7}, {all.begin() + 7, all.end()}}),
        learn_in({{all.begin() + 13, all.end()}, {all.begin(), all.begin() + 13}})})
    EXPECT_LE((other - once).abs().max().item<double>(), 1e-5 * std::max(1.0, once.abs().max().item<double>()));
}

TEST_P(HeadPlug, GrowsByTheClassesThatAreNew) {
  PlugCase run(GetParam(), 1);
  const Learned first = run.learn();
  Sources fresh = toy_sources(20, 5);
  fresh = {classes_from(fresh.train, 3), classes_from(fresh.validation, 3)};
  const Learned grown = learn(first.model, toy_task("toy", 5), fresh, run.recipe, {});
  EXPECT_EQ(grown.model.forward(run.probe(), {}).at("logits").size(1), 5);
  const Plug& head = grown.model.recipe().head();
  for (const auto& [name, number] : grown.model.numbers().at(head.alias(), head.info->class_scope())) {
    const Family* family = head.info->family(family_of(name));
    const auto* tensor = std::get_if<at::Tensor>(&number);
    if (family->rows == Rows::kPerClass && tensor) {
      EXPECT_EQ(tensor->size(0), 5) << name;
    }
  }
}

TEST_P(HeadPlug, LooksAtUnlabelledRowsWithoutTheirLabels) {
  const PlugCase run(GetParam(), 1);
  class Unlabelled final : public Source {
   public:
    explicit Unlabelled(std::shared_ptr<const Source> rows) : rows_(std::move(rows)) {}
    std::int64_t rows() const override { return rows_->rows(); }
    std::unique_ptr<BatchStream> open(std::vector<std::int64_t> order, std::int64_t size, bool augmented,
                                      Key key) const override {
      return std::make_unique<Stream>(rows_->open(std::move(order), size, augmented, key));
    }

   private:
    struct Stream final : BatchStream {
      explicit Stream(std::unique_ptr<BatchStream> rows) : rows_(std::move(rows)) {}
      std::optional<Batch> next() override {
        auto batch = rows_->next();
        if (batch) batch->at.erase("label");
        return batch;
      }
      std::unique_ptr<BatchStream> rows_;
    };
    std::shared_ptr<const Source> rows_;
  };
  Sources sources = run.sources;
  sources.unlabelled = std::make_shared<Unlabelled>(sources.train);
  const Learned learned = learn(run.start, run.task, sources, run.recipe, {});
  EXPECT_TRUE(equal(learned.model.numbers(), run.learn().model.numbers()))
      << "the same rows, but for labels not needed";
}

}  // namespace
}  // namespace recast
