// AMX's tiles in software, so that the kernel made for them is tested on processors without.

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

namespace emulated {

struct Tile {
  alignas(64) uint8_t rows[16][64];
};

inline thread_local Tile tiles[8];

inline void load(int tile, const void* from, size_t stride) {
  for (int i = 0; i < 16; ++i) {
    std::memcpy(tiles[tile].rows[i], static_cast<const uint8_t*>(from) + i * stride, 64);
  }
}

inline void store(int tile, void* to, size_t stride) {
  for (int i = 0; i < 16; ++i) {
    std::memcpy(static_cast<uint8_t*>(to) + i * stride, tiles[tile].rows[i], 64);
  }
}

inline void clear(int tile) { std::memset(&tiles[tile], 0, sizeof(Tile)); }

inline void multiply(int to, int left, int right) {
  for (int i = 0; i < 16; ++i) {
    __m512 sums = _mm512_load_ps(tiles[to].rows[i]);
    for (int pair = 0; pair < 16; ++pair) {
      int two;
      std::memcpy(&two, tiles[left].rows[i] + 4 * pair, sizeof two);
      const __m512i columns = _mm512_load_si512(tiles[right].rows[pair]);
      sums = _mm512_dpbf16_ps(sums, (__m512bh)_mm512_set1_epi32(two), (__m512bh)columns);
    }
    _mm512_store_ps(tiles[to].rows[i], sums);
  }
}

// Tiles hold what the last one left until they are configured.
inline void configure(const void*) { std::memset(tiles, 0xff, sizeof(tiles)); }

}  // namespace emulated

#define _tile_loadconfig emulated::configure
#define _tile_release() emulated::configure(nullptr)
#define _tile_loadd emulated::load
#define _tile_stored emulated::store
#define _tile_zero emulated::clear
#define _tile_dpbf16ps emulated::multiply
#define syscall(...) 0
