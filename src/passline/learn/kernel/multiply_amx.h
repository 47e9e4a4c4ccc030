// Products of tiles on processors with AMX.

#ifndef PASSLINE_LEARN_KERNEL_MULTIPLY_AMX_H_
#define PASSLINE_LEARN_KERNEL_MULTIPLY_AMX_H_

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "tiles.h"

namespace passline {

// Asks the system for the tiles, for all threads of this process; returns whether it has them.
inline bool request_multiplier() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // as <asm/prctl.h> numbers them
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// What a thread that multiplies holds: tiles of 16 rows of 64 bytes.
class Multiplier {
 public:
  Multiplier() {
    alignas(64) uint8_t config[64] = {};
    config[0] = 1;  // palette
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;  // bytes of a row
      config[48 + tile] = kSide;   // rows
    }
    asm volatile("" ::"r"(config) : "memory");  // compilers are told of its first bytes alone
    _tile_loadconfig(config);
  }
  ~Multiplier() { _tile_release(); }
};

// Multiplies left tiles [k][m] by right tiles [column][k] into cells, or adds to them.
//
// n_inner: numbers that each result adds up. cells: of kRowTiles x kColumnTiles results, those of
// the second row of tiles `below` further on.
template <int kRowTiles, int kColumnTiles>
void multiply(const Bfloat16* left, size_t left_step, const Bfloat16* right, size_t right_next,
              int n_inner, bool is_first, float* cells, size_t below) {
  // Compilers are not told that loading a tile reads memory.
  asm volatile("" ::: "memory");
  if (is_first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, cells, 64);
    if constexpr (kColumnTiles == 2) _tile_loadd(1, cells + kCell, 64);
    if constexpr (kRowTiles == 2) _tile_loadd(2, cells + below, 64);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_loadd(3, cells + below + kCell, 64);
  }
  for (; n_inner > 0; n_inner -= kDepth, left += left_step, right += kTile) {
    _tile_loadd(4, left, 64);
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumnTiles == 2) {
      _tile_loadd(7, right + right_next, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, left + kTile, 64);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kColumnTiles == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, cells, 64);
  if constexpr (kColumnTiles == 2) _tile_stored(1, cells + kCell, 64);
  if constexpr (kRowTiles == 2) _tile_stored(2, cells + below, 64);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_stored(3, cells + below + kCell, 64);
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_MULTIPLY_AMX_H_
