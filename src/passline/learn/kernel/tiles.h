// Tiles of bfloat16 numbers, and their forms.
//
// Matrices lie in tiles of 1 KiB, 16 rows of 64 bytes, in one of two forms:
//   left   16 rows of 32 numbers: tile (m, k) holds rows 16m.. and columns 32k.. of the matrix;
//   right  16 pairs of rows of 16 columns: each 4 bytes hold two numbers of a column, of the rows
//          2p and 2p + 1 (the form in which AMX and AVX-512 BF16 take their second operand).
// A left tile transposed by 4 bytes is a right tile of the transposed matrix.

#ifndef PASSLINE_LEARN_KERNEL_TILES_H_
#define PASSLINE_LEARN_KERNEL_TILES_H_

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace passline {

using Bfloat16 = uint16_t;

constexpr int kBlock = 256;               // rows (observations) that are computed together
constexpr int kSide = 16;                 // rows of a tile, columns of a result's tile
constexpr int kDepth = 32;                // numbers that a tile's row holds
constexpr int kTile = kSide * kDepth;     // numbers in a tile
constexpr int kCell = kSide * kSide;      // numbers in a result's tile
constexpr int kPairs = kBlock / 2;        // pairs of rows in a block
constexpr int kChunks = kBlock / kDepth;  // left tiles across a block

inline int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// The first n_left of 16 rows, none if there are none.
inline __mmask16 first_rows(int n_left) { return (1u << std::clamp(n_left, 0, kSide)) - 1; }

// Transposes 16 rows of 16 words.
inline void transpose(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

inline void transpose_tile(const Bfloat16* from, Bfloat16* to) {
  __m512i r[16];
  for (int i = 0; i < kSide; ++i) r[i] = _mm512_load_si512(from + i * kDepth);
  transpose(r);
  for (int i = 0; i < kSide; ++i) _mm512_store_si512(to + i * kDepth, r[i]);
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_TILES_H_
