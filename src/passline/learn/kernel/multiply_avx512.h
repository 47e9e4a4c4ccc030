// Products of tiles on processors with AVX-512 BF16.

#ifndef PASSLINE_LEARN_KERNEL_MULTIPLY_AVX512_H_
#define PASSLINE_LEARN_KERNEL_MULTIPLY_AVX512_H_

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "tiles.h"

namespace passline {

// There is nothing to ask the system for, and nothing that a thread must hold.
inline bool request_multiplier() { return true; }

class Multiplier {
 public:
  Multiplier() {}
  ~Multiplier() {}
};

// Does what is told for 0..7, spelled out eight times, so that arrays lie in registers.
template <typename Do, int... kNumbers>
__attribute__((always_inline)) inline void for_eight(std::integer_sequence<int, kNumbers...>,
                                                     const Do& what) {
  (what(kNumbers), ...);
}

// Multiplies 8 rows of left tiles by one or two right tiles.
template <int kColumnTiles>
void multiply_eight(const Bfloat16* left, size_t left_step, const Bfloat16* right,
                    size_t right_next, int n_pairs, bool is_first, float* cells) {
  constexpr std::make_integer_sequence<int, 8> kEight;
  constexpr bool kHasNext = kColumnTiles == 2;
  __m512 sums[8], next_sums[8];
  for_eight(kEight, [&](int i) __attribute__((always_inline)) {
    const float* from = cells + i * kSide;
    sums[i] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(from);
    if constexpr (kHasNext) {
      next_sums[i] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(from + kCell);
    }
  });
  for (; n_pairs > 0; n_pairs -= kSide, left += left_step, right += kTile) {
    const Bfloat16 *a = left, *b = right;
    for (int pair = std::min(n_pairs, kSide); pair > 0; --pair, a += 2, b += kDepth) {
      const __m512bh column = (__m512bh)_mm512_load_si512(b);
      const __m512bh next = (__m512bh)_mm512_load_si512(b + (kHasNext ? right_next : 0));
      for_eight(kEight, [&](int i) __attribute__((always_inline)) {
        int two;
        std::memcpy(&two, a + i * kDepth, sizeof two);
        const __m512bh row = (__m512bh)_mm512_set1_epi32(two);
        sums[i] = _mm512_dpbf16_ps(sums[i], row, column);
        if constexpr (kHasNext) next_sums[i] = _mm512_dpbf16_ps(next_sums[i], row, next);
      });
    }
  }
  for_eight(kEight, [&](int i) __attribute__((always_inline)) {
    _mm512_store_ps(cells + i * kSide, sums[i]);
    if constexpr (kHasNext) _mm512_store_ps(cells + i * kSide + kCell, next_sums[i]);
  });
}

// Multiplies left tiles [k][m] by right tiles [column][k] into cells, or adds to them.
//
// n_inner: numbers that each result adds up. cells: of kRowTiles x kColumnTiles results, those of
// the second row of tiles `below` further on.
template <int kRowTiles, int kColumnTiles>
void multiply(const Bfloat16* left, size_t left_step, const Bfloat16* right, size_t right_next,
              int n_inner, bool is_first, float* cells, size_t below) {
  for (int m = 0; m < kRowTiles; ++m) {
    for (int i = 0; i < kSide; i += 8) {
      multiply_eight<kColumnTiles>(left + m * kTile + i * kDepth, left_step, right, right_next,
                                   (n_inner + 1) / 2, is_first, cells + m * below + i * kSide);
    }
  }
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_MULTIPLY_AVX512_H_
