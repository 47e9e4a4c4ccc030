// Tiles of numbers on processors with AMX: their forms, and products of them.
//
// Products take bfloat16 operands and add up in float32. Matrices lie in tiles of 1 KiB, 16 rows of
// 64 bytes, in one of two forms:
//   left   16 rows of 32 numbers: tile (m, k) holds rows 16m.. and columns 32k.. of the matrix;
//   right  16 pairs of rows of 16 columns: each 4 bytes hold two numbers of a column, of the rows
//          2p and 2p + 1 (the form in which AMX takes its second operand).
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

// Tiles of 16 rows of 64 bytes, as long as it lives.
class TileScope {
 public:
  TileScope() {
    alignas(64) uint8_t config[64] = {};
    config[0] = 1;  // palette
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;  // bytes of a row
      config[48 + tile] = kSide;   // rows
    }
    asm volatile("" ::"r"(config) : "memory");  // compilers are told of its first bytes alone
    _tile_loadconfig(config);
  }
  ~TileScope() { _tile_release(); }
};

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

// ---------------------------------------------------------------------------------------------
// Products

// Has all that was written lie in memory: compilers are not told that loading a tile reads it.
inline void settle() { asm volatile("" ::: "memory"); }

// Multiplies left tiles [k][m] by right tiles [column][k] into kRowTiles x kColumnTiles results.
template <int kRowTiles, int kColumnTiles>
void multiply(const Bfloat16* left, size_t left_step, const Bfloat16* right, size_t right_step,
              int depth, size_t right_next) {
  for (int k = 0; k < depth; ++k) {
    const Bfloat16* a = left + k * left_step;
    const Bfloat16* b = right + k * right_step;
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumnTiles == 2) {
      _tile_loadd(7, b + right_next, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, a + kTile, 64);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kColumnTiles == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
}

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
// left: [depth][row_tiles] tiles. right: [2 * chunks][depth] tiles. `finish(results, i)` takes the
// outputs results.output(i) and the next of 32 rows.
template <typename Finish>
void product(const Bfloat16* left, int row_tiles, const Bfloat16* right, int depth, int chunks,
             const Finish& finish) {
  alignas(64) float cells[4 * kCell];
  const size_t next = static_cast<size_t>(depth) * kTile;
  const size_t step = static_cast<size_t>(row_tiles) * kTile;
  for (int s = 0; s < chunks; ++s) {
    const Bfloat16* columns = right + 2 * s * next;
    for (int m = 0; m < row_tiles; m += 2) {
      const Bfloat16* rows = left + static_cast<size_t>(m) * kTile;
      const bool has_two = m + 1 < row_tiles;
      settle();
      _tile_zero(0);
      _tile_zero(1);
      if (has_two) {
        _tile_zero(2);
        _tile_zero(3);
        multiply<2, 2>(rows, step, columns, kTile, depth, next);
        _tile_stored(2, cells + 2 * kCell, 64);
        _tile_stored(3, cells + 3 * kCell, 64);
      } else {
        multiply<1, 2>(rows, step, columns, kTile, depth, next);
      }
      _tile_stored(0, cells, 64);
      _tile_stored(1, cells + kCell, 64);
      const Results results{m, s, cells};
      for (int i = 0; i < (has_two ? kSide : kSide / 2); ++i) finish(results, i);
    }
  }
}

template <int kRowTiles, int kColumnTiles>
void add_cells(float* sums, bool is_first, int column_tiles, const Bfloat16* left,
               size_t left_step, const Bfloat16* right) {
  float* below = sums + static_cast<size_t>(column_tiles) * kCell;
  settle();
  if (is_first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, 64);
    if constexpr (kColumnTiles == 2) _tile_loadd(1, sums + kCell, 64);
    if constexpr (kRowTiles == 2) _tile_loadd(2, below, 64);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_loadd(3, below + kCell, 64);
  }
  multiply<kRowTiles, kColumnTiles>(left, left_step, right, kTile, kChunks,
                                    static_cast<size_t>(kChunks) * kTile);
  _tile_stored(0, sums, 64);
  if constexpr (kColumnTiles == 2) _tile_stored(1, sums + kCell, 64);
  if constexpr (kRowTiles == 2) _tile_stored(2, below, 64);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_stored(3, below + kCell, 64);
}

// Adds a product over the rows of a block to sums, cells [row tile][column tile]; the first one
// begins them.
//
// left: [kChunks][row_tiles] tiles. right: [column_tiles][kChunks] tiles.
inline void add_product(float* sums, bool is_first, const Bfloat16* left, int row_tiles,
                        const Bfloat16* right, int column_tiles) {
  const size_t step = static_cast<size_t>(row_tiles) * kTile;
  for (int m = 0; m < row_tiles; m += 2) {
    for (int n = 0; n < column_tiles; n += 2) {
      float* to = sums + (static_cast<size_t>(m) * column_tiles + n) * kCell;
      const Bfloat16* a = left + static_cast<size_t>(m) * kTile;
      const Bfloat16* b = right + static_cast<size_t>(n) * kChunks * kTile;
      const bool two_rows = m + 1 < row_tiles, two_columns = n + 1 < column_tiles;
      if (two_rows && two_columns) {
        add_cells<2, 2>(to, is_first, column_tiles, a, step, b);
      } else if (two_rows) {
        add_cells<2, 1>(to, is_first, column_tiles, a, step, b);
      } else if (two_columns) {
        add_cells<1, 2>(to, is_first, column_tiles, a, step, b);
      } else {
        add_cells<1, 1>(to, is_first, column_tiles, a, step, b);
      }
    }
  }
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_TILES_H_
