// Products over blocks of rows, in tiles.
//
// They take bfloat16 operands and add up in float32.

#ifndef PASSLINE_LEARN_KERNEL_PRODUCTS_H_
#define PASSLINE_LEARN_KERNEL_PRODUCTS_H_

#include <cstddef>

#ifdef __AMX_BF16__
#include "multiply_amx.h"
#else
#include "multiply_avx512.h"
#endif
#include "tiles.h"

namespace passline {

// Results for 32 rows, up to four cells of 16 x 16: [m tile][row half].
struct Results {
  int m;  // first of its tiles
  int s;  // the rows are 32s..
  const float* cells;

  // Cell of the pair's first result and the rows' first half.
  const float* pair(int i) const { return cells + i / 8 * 2 * kCell + i % 8 * 2 * kSide; }
  int output(int i) const { return m * kSide + 2 * i; }
};

// Computes weights times activations for one block of rows, 32 rows at a time.
//
// left: [depth][row_tiles] tiles, depth the tiles that hold n_inner numbers. right: [2 * chunks]
// [depth] tiles. `finish(results, i)` takes the outputs results.output(i) and the next of 32 rows.
template <typename Finish>
void product(const Bfloat16* left, int row_tiles, const Bfloat16* right, int n_inner, int chunks,
             const Finish& finish) {
  alignas(64) float cells[4 * kCell];
  const size_t next = static_cast<size_t>(round_up(n_inner, kDepth)) * kSide;
  const size_t step = static_cast<size_t>(row_tiles) * kTile;
  for (int s = 0; s < chunks; ++s) {
    const Bfloat16* columns = right + 2 * s * next;
    for (int m = 0; m < row_tiles; m += 2) {
      const Bfloat16* rows = left + static_cast<size_t>(m) * kTile;
      const bool has_two = m + 1 < row_tiles;
      if (has_two) {
        multiply<2, 2>(rows, step, columns, next, n_inner, true, cells, 2 * kCell);
      } else {
        multiply<1, 2>(rows, step, columns, next, n_inner, true, cells, 2 * kCell);
      }
      const Results results{m, s, cells};
      for (int i = 0; i < (has_two ? kSide : kSide / 2); ++i) finish(results, i);
    }
  }
}

// Adds a product over the rows of a block to sums, cells [row tile][column tile]; the first one
// begins them.
//
// left: [kChunks][row_tiles] tiles. right: [column_tiles][kChunks] tiles.
inline void add_product(float* sums, bool is_first, const Bfloat16* left, int row_tiles,
                        const Bfloat16* right, int column_tiles) {
  const size_t step = static_cast<size_t>(row_tiles) * kTile;
  const size_t next = static_cast<size_t>(kChunks) * kTile;
  const size_t below = static_cast<size_t>(column_tiles) * kCell;
  for (int m = 0; m < row_tiles; m += 2) {
    for (int n = 0; n < column_tiles; n += 2) {
      float* to = sums + m * below + n * kCell;
      const Bfloat16* a = left + static_cast<size_t>(m) * kTile;
      const Bfloat16* b = right + n * next;
      const bool two_rows = m + 1 < row_tiles, two_columns = n + 1 < column_tiles;
      if (two_rows && two_columns) {
        multiply<2, 2>(a, step, b, next, kBlock, is_first, to, below);
      } else if (two_rows) {
        multiply<2, 1>(a, step, b, next, kBlock, is_first, to, below);
      } else if (two_columns) {
        multiply<1, 2>(a, step, b, next, kBlock, is_first, to, below);
      } else {
        multiply<1, 1>(a, step, b, next, kBlock, is_first, to, below);
      }
    }
  }
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_PRODUCTS_H_
