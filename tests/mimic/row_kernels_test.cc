// Each instruction set's passes beside their definition. A sum of P exact products in double, in any order, is off by
// at most P eps times the sum of the products' sizes.
#include "../../src/mimic/row_kernels.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../../src/mimic/row_passes.h"
#include "recast/base/key.h"

namespace recast {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon() / 2;

/// L rows that begin at odd addresses.
struct Rows {
  Rows(std::int64_t L, std::int64_t P) : memory(Key(static_cast<std::uint64_t>(97 * L + P)).normal({L, P + 1})) {
    for (std::int64_t l = 0; l < L; ++l) at.push_back(memory.data_ptr<float>() + l * (P + 1) + 1);
  }
  at::Tensor memory;
  std::vector<const float*> at;
};

class RowKernelsTest : public testing::TestWithParam<RowKernels> {};

TEST_P(RowKernelsTest, GramAddsTheProductsOfAllRows) {
  for (const std::int64_t L : {1, 2, 3, 4, 5, 6, 7, 8, 9})
    for (const std::int64_t P : {1, 7, 16, 33, 1023, 2100}) {
      const Rows rows(L, P);
      const Columns columns{P / 5, P};
      std::vector<double> got(static_cast<std::size_t>(L * L), 1.0);  // what is there stays in the sum
      GetParam().gram(rows.at.data(), L, columns, got.data());
      for (std::int64_t i = 0; i < L; ++i)
        for (std::int64_t j = 0; j < L; ++j) {
          double sum = 1, size = 1;
          for (std::int64_t p = columns.begin; j <= i && p < columns.end; ++p) {
            const double product = static_cast<double>(rows.at[i][p]) * rows.at[j][p];
            sum += product;
            size += std::abs(product);
          }
          EXPECT_NEAR(got[static_cast<std::size_t>(i * L + j)], sum, 2 * static_cast<double>(P + 1) * kEps * size)
              << L << " rows of " << P << ": " << i << ", " << j;
        }
    }
}

TEST_P(RowKernelsTest, CombineRoundsEachSumOnce) {
  for (const std::int64_t L : {1, 2, 5, 8})
    for (const std::int64_t n : {1, 2, 3, 4, 7})
      for (const std::int64_t P : {1, 7, 16, 33, 1030}) {
        const Rows rows(L, P);
        const at::Tensor u = Key(3).normal({L, n}).to(at::kDouble);
        at::Tensor out = at::full({n, P}, -7, at::kFloat);
        std::vector<float*> to;
        for (std::int64_t i = 0; i < n; ++i) to.push_back(out.data_ptr<float>() + i * P);
        const Columns columns{P / 5, P};
        GetParam().combine(rows.at.data(), L, columns, u.const_data_ptr<double>(), n, to.data());
        for (std::int64_t i = 0; i < n; ++i)
          for (std::int64_t p = 0; p < P; ++p) {
            double sum = 0, size = 0;
            for (std::int64_t l = 0; l < L; ++l) {
              const double product = u[l][i].item<double>() * rows.at[l][p];
              sum += product;
              size += std::abs(product);
            }
            const bool inside = p >= columns.begin;
            const double tolerance = inside ? std::abs(sum) * 0x1p-24 + 2 * static_cast<double>(L) * kEps * size : 0;
            EXPECT_NEAR(to[i][p], inside ? sum : -7, tolerance)
                << L << ", " << n << ", " << P << ": " << i << ", " << p;
          }
      }
}

TEST_P(RowKernelsTest, CompareSumsSquaresProductsAndDifferences) {
  for (const std::int64_t P : {1, 7, 16, 33, 1030}) {
    const Rows rows(2, P);
    const Columns columns{P / 5, P};
    RowSums got, same;
    GetParam().compare(rows.at[0], rows.at[1], columns, got);
    GetParam().compare(rows.at[0], rows.at[0], columns, same);
    RowSums want;
    double size = 0;
    for (std::int64_t p = columns.begin; p < columns.end; ++p) {
      const double a = rows.at[0][p], b = rows.at[1][p];
      want.aa += a * a;
      want.bb += b * b;
      want.ab += a * b;
      want.difference += (a - b) * (a - b);
      size += std::pow(std::abs(a) + std::abs(b), 2);
    }
    const double tolerance = 4 * static_cast<double>(P) * kEps * size;
    EXPECT_NEAR(got.aa, want.aa, tolerance) << P;
    EXPECT_NEAR(got.bb, want.bb, tolerance) << P;
    EXPECT_NEAR(got.ab, want.ab, tolerance) << P;
    EXPECT_NEAR(got.difference, want.difference, tolerance) << P;
    EXPECT_EQ(same.difference, 0) << P;
  }
}

TEST_P(RowKernelsTest, NaNAndInfinityStayWhereTheyAre) {
  for (const std::int64_t place : {3, 40}) {  // in a whole vector, and behind the last one
    Rows rows(2, 41);
    const_cast<float*>(rows.at[1])[place] = std::numeric_limits<float>::infinity();
    std::vector<double> sums(4);
    GetParam().gram(rows.at.data(), 2, {0, 41}, sums.data());
    EXPECT_TRUE(std::isfinite(sums[0]));
    EXPECT_TRUE(std::isinf(sums[2]) && std::isinf(sums[3]));
    at::Tensor out = at::empty({41}, at::kFloat);
    float* to = out.data_ptr<float>();
    const double ones[] = {1, 1};
    GetParam().combine(rows.at.data(), 2, {0, 41}, ones, 1, &to);
    for (std::int64_t p = 0; p < 41; ++p) EXPECT_EQ(std::isfinite(to[p]), p != place) << p;
    const_cast<float*>(rows.at[0])[place] = std::numeric_limits<float>::quiet_NaN();
    RowSums compared;
    GetParam().compare(rows.at[0], rows.at[1], {0, 41}, compared);
    EXPECT_TRUE(std::isnan(compared.aa) && std::isinf(compared.bb) && std::isnan(compared.difference));
  }
}

std::vector<RowKernels> usable() {
  std::vector<RowKernels> kernels;
  for (const RowKernels& candidate : row_kernels())
    if (candidate.usable()) kernels.push_back(candidate);
  return kernels;
}
INSTANTIATE_TEST_SUITE_P(Isa, RowKernelsTest, testing::ValuesIn(usable()),
                         [](const auto& info) { return std::string(info.param.isa); });

TEST(RowPasses, GiveTheSameBitsOnOneThreadAndOnMore) {
  const std::vector<at::Tensor> rows = Key(5).normal({5, 300, 200}).unbind();
  const at::Tensor u = Key(6).normal({5, 2}).to(at::kDouble).contiguous();
  std::vector<at::Tensor> sums, combined;
  std::vector<double> differences;
  const int before = at::get_num_threads();
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    sums.push_back(gram(rows));
    combined.push_back(at::empty({2, 300, 200}));
    combine(rows, u, combined.back());
    differences.push_back(compare(rows[0], rows[1]).difference);
  }
  at::set_num_threads(before);
  EXPECT_TRUE(sums[0].equal(sums[1]));
  EXPECT_TRUE(combined[0].equal(combined[1]));
  EXPECT_EQ(differences[0], differences[1]);
}

TEST(RowPasses, CopyPutsRowsOneBehindTheOther) {
  const std::vector<at::Tensor> rows = Key(7).normal({3, 150, 170}).unbind();  // rows end inside a chunk
  at::Tensor out = at::empty({3, 150, 170});
  copy(rows, out);
  EXPECT_TRUE(out.equal(at::stack(rows)));
}

}  // namespace
}  // namespace recast
