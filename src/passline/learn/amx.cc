// A tanh network's outputs and their gradient on processors with AMX, in one pass over the rows.
//
// Rows (observations) are taken in blocks of kBlock, so that everything between the first product
// and the last stays in a core's second-level cache. Products take bfloat16 operands and add up in
// float32; hidden activations run feature-major, [H, rows]. Parts of the rows are computed by as
// many threads as XLA has, and their gradients are added up in a fixed order: the same bits for
// any number of threads.
//
// Matrices lie in tiles of 1 KiB, 16 rows of 64 bytes, in one of two forms:
//   left   16 rows of 32 numbers: tile (m, k) holds rows 16m.. and columns 32k.. of the matrix;
//   right  16 pairs of rows of 16 columns: each 4 bytes hold two numbers of a column, of the rows
//          2p and 2p + 1 (the form in which AMX takes its second operand).
// A left tile transposed by 4 bytes is a right tile of the transposed matrix.

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

using Bfloat16 = uint16_t;
using Floats = ffi::Buffer<ffi::F32>;
using Rows = ffi::Buffer<ffi::U16, 2>;  // the bits of bfloat16 numbers
using Kept = ffi::Buffer<ffi::U16>;

constexpr int kBlock = 256;              // rows
constexpr int kSide = 16;                // rows of a tile, columns of a result's tile
constexpr int kDepth = 32;               // numbers that a tile's row holds
constexpr int kTile = kSide * kDepth;    // numbers in a tile
constexpr int kCell = kSide * kSide;     // numbers in a result's tile
constexpr int kPairs = kBlock / 2;       // pairs of rows in a block
constexpr int kChunks = kBlock / kDepth; // left tiles across a block
constexpr int kPartBlocks = 4;           // blocks that are worth a thread of their own
constexpr int kParts = 8;                // of the rows at most, each with a gradient of its own

int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// Memory that starts at a cache line; its numbers are not set.
template <typename T>
class Aligned {
 public:
  explicit Aligned(size_t n)
      : data_(static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Aligned() { std::free(data_); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  Aligned(Aligned&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  operator T*() const { return data_; }

 private:
  T* data_;
};

struct Layer {
  int n_in;
  int n_out;
  const float* weights;  // [n_out, n_in]
  const float* biases;   // [n_out]
  int in_tiles() const { return round_up(n_in, kDepth) / kDepth; }
  int out_tiles() const { return round_up(n_out, kSide) / kSide; }
};

struct Net {
  std::vector<Layer> layers;
  bool is_single;  // the last layer has one output, computed in float32
  int n_features() const { return layers.front().n_in; }
  int widest() const {
    int widest = kDepth;
    for (const Layer& layer : layers) widest = std::max(widest, round_up(layer.n_out, kDepth));
    return widest;
  }
};

// ---------------------------------------------------------------------------------------------
// Threads

// Runs task(0..n-1) on this thread and on those of XLA that are free. This thread never waits for
// a task that nobody has begun, so that calls on all of XLA's threads cannot block each other.
template <typename Task>
void for_each_part(ffi::ThreadPool& pool, int n, const Task& task) {
  struct Shared {
    std::atomic<int> next{0};
    int n_done = 0;
    std::mutex mutex;
    std::condition_variable is_done;
  };
  if (n == 1) return task(0);
  auto shared = std::make_shared<Shared>();
  auto work = [shared, n, &task] {
    int n_own = 0;
    for (int part; (part = shared->next.fetch_add(1)) < n; ++n_own) task(part);
    if (n_own == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->n_done += n_own;
    if (shared->n_done == n) shared->is_done.notify_all();
  };
  const int n_helpers = std::min<int>(pool.num_threads(), n) - 1;
  for (int i = 0; i < n_helpers; ++i) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->is_done.wait(lock, [&] { return shared->n_done == n; });
}

// Tiles of 16 rows of 64 bytes, as long as it lives.
class TileScope {
 public:
  TileScope() {
    alignas(64) uint8_t config[64] = {};
    config[0] = 1;  // palette
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;     // bytes of a row
      config[48 + tile] = kSide;      // rows
    }
    _tile_loadconfig(config);
  }
  ~TileScope() { _tile_release(); }
};

// ---------------------------------------------------------------------------------------------
// Numbers

// tanh with a relative error below 2e-4, a twentieth of a bfloat16's last place.
__m512 tanh16(__m512 x) {
  // Of operands that are no numbers these return the second, so that they stay visible.
  x = _mm512_max_ps(_mm512_set1_ps(-5.0f), _mm512_min_ps(_mm512_set1_ps(5.0f), x));
  const __m512 t = _mm512_mul_ps(x, x);
  __m512 p = _mm512_fmadd_ps(t, _mm512_set1_ps(0.00067056704f), _mm512_set1_ps(0.10241773f));
  p = _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.99994802f));
  __m512 q = _mm512_fmadd_ps(t, _mm512_set1_ps(0.012819902f), _mm512_set1_ps(0.43543252f));
  q = _mm512_fmadd_ps(t, q, _mm512_set1_ps(1.0f));
  return _mm512_mul_ps(_mm512_mul_ps(x, p), _mm512_rcp14_ps(q));
}

__m512i round_two(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// 16 numbers of each of two rows, side by side as a right tile has them.
__m512i round_pairs(__m512 even, __m512 odd) {
  alignas(64) static const uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                  21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), round_two(even, odd));
}

__m512 widen(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

Bfloat16 round_one(float x) {
  return (Bfloat16)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(x)), 0);
}

// Transposes 16 rows of 16 words.
void transpose(__m512i* r) {
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

void transpose_tile(const Bfloat16* from, Bfloat16* to) {
  __m512i r[16];
  for (int i = 0; i < kSide; ++i) r[i] = _mm512_load_si512(from + i * kDepth);
  transpose(r);
  for (int i = 0; i < kSide; ++i) _mm512_store_si512(to + i * kDepth, r[i]);
}

// ---------------------------------------------------------------------------------------------
// Weights

// Left tiles of the weights, [out, in], in the order [in tile][out tile].
Aligned<Bfloat16> left_weights(const Layer& layer) {
  const int out_tiles = layer.out_tiles(), in_tiles = layer.in_tiles();
  Aligned<Bfloat16> tiles(static_cast<size_t>(in_tiles) * out_tiles * kTile);
  for (int k = 0; k < in_tiles; ++k) {
    const int n_low = std::clamp(layer.n_in - k * kDepth, 0, 16);
    const int n_high = std::clamp(layer.n_in - k * kDepth - 16, 0, 16);
    for (int m = 0; m < out_tiles * kSide; ++m) {
      __m512 low = _mm512_setzero_ps(), high = low;
      if (m < layer.n_out) {
        const float* row = layer.weights + static_cast<size_t>(m) * layer.n_in + k * kDepth;
        low = _mm512_maskz_loadu_ps((1u << n_low) - 1, row);
        high = _mm512_maskz_loadu_ps((1u << n_high) - 1, row + 16);
      }
      _mm512_store_si512(tiles + (static_cast<size_t>(k) * out_tiles * kSide + m) * kDepth,
                         round_two(low, high));
    }
  }
  return tiles;
}

// Left tiles of the transposed weights, [in, out], in the order [out tile of 32][in tile of 16].
Aligned<Bfloat16> left_transposed(const Layer& layer) {
  const int in_rows = round_up(layer.n_in, kSide);
  const int out_tiles = round_up(layer.n_out, kDepth) / kDepth;
  Aligned<Bfloat16> tiles(static_cast<size_t>(out_tiles) * in_rows * kDepth);
  std::memset(tiles, 0, static_cast<size_t>(out_tiles) * in_rows * kDepth * sizeof(Bfloat16));
  for (int o = 0; o < layer.n_out; ++o) {
    const float* row = layer.weights + static_cast<size_t>(o) * layer.n_in;
    Bfloat16* column = tiles + static_cast<size_t>(o / kDepth) * in_rows * kDepth + o % kDepth;
    for (int i = 0; i < layer.n_in; ++i) column[i * kDepth] = round_one(row[i]);
  }
  return tiles;
}

// ---------------------------------------------------------------------------------------------
// Products

// Has all that was written lie in memory: compilers are not told that loading a tile reads it.
void settle() { asm volatile("" ::: "memory"); }

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
// results 2i and 2i + 1 of a row.
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
void add_cells(float* sums, int column_tiles, const Bfloat16* left, size_t left_step,
               const Bfloat16* right) {
  float* below = sums + static_cast<size_t>(column_tiles) * kCell;
  settle();
  _tile_loadd(0, sums, 64);
  if constexpr (kColumnTiles == 2) _tile_loadd(1, sums + kCell, 64);
  if constexpr (kRowTiles == 2) _tile_loadd(2, below, 64);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_loadd(3, below + kCell, 64);
  multiply<kRowTiles, kColumnTiles>(left, left_step, right, kTile, kChunks,
                                    static_cast<size_t>(kChunks) * kTile);
  _tile_stored(0, sums, 64);
  if constexpr (kColumnTiles == 2) _tile_stored(1, sums + kCell, 64);
  if constexpr (kRowTiles == 2) _tile_stored(2, below, 64);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_stored(3, below + kCell, 64);
}

// Adds a product over the rows of a block to sums, cells [row tile][column tile].
//
// left: [kChunks][row_tiles] tiles. right: [column_tiles][kChunks] tiles.
void add_product(float* sums, const Bfloat16* left, int row_tiles, const Bfloat16* right,
                 int column_tiles) {
  const size_t step = static_cast<size_t>(row_tiles) * kTile;
  for (int m = 0; m < row_tiles; m += 2) {
    for (int n = 0; n < column_tiles; n += 2) {
      float* to = sums + (static_cast<size_t>(m) * column_tiles + n) * kCell;
      const Bfloat16* a = left + static_cast<size_t>(m) * kTile;
      const Bfloat16* b = right + static_cast<size_t>(n) * kChunks * kTile;
      const bool two_rows = m + 1 < row_tiles, two_columns = n + 1 < column_tiles;
      if (two_rows && two_columns) {
        add_cells<2, 2>(to, column_tiles, a, step, b);
      } else if (two_rows) {
        add_cells<2, 1>(to, column_tiles, a, step, b);
      } else if (two_columns) {
        add_cells<1, 2>(to, column_tiles, a, step, b);
      } else {
        add_cells<1, 1>(to, column_tiles, a, step, b);
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Observations

// Right tiles over the features, [2 * chunks][in tile], of n rows [n, n_features].
void features_right(const Bfloat16* obs, int n, int n_features, int depth, int chunks,
                    Bfloat16* tiles) {
  for (int s = 0; s < 2 * chunks; ++s) {
    for (int k = 0; k < depth; ++k) {
      const int left = std::min(n_features - k * kDepth, kDepth);
      const __mmask32 mask = left == kDepth ? ~0u : (1u << left) - 1;
      __m512i r[16];
      for (int i = 0; i < kSide; ++i) {
        const int row = s * kSide + i;
        const Bfloat16* from = obs + static_cast<size_t>(row < n ? row : 0) * n_features;
        r[i] = _mm512_maskz_loadu_epi16(row < n ? mask : 0, from + k * kDepth);
      }
      transpose(r);
      Bfloat16* to = tiles + (static_cast<size_t>(s) * depth + k) * kTile;
      for (int i = 0; i < kSide; ++i) _mm512_store_si512(to + i * kDepth, r[i]);
    }
  }
}

// Right tiles over the rows, [column tile of 16 features][kChunks], of n rows [n, n_features].
void rows_right(const Bfloat16* obs, int n, int n_features, Bfloat16* tiles) {
  const int column_tiles = round_up(n_features, kSide) / kSide;
  for (int c = 0; c < column_tiles; ++c) {
    const int left = std::min(n_features - c * kSide, kSide);
    const __mmask16 mask = (1u << left) - 1;
    for (int p = 0; p < kPairs; ++p) {
      const Bfloat16* row = obs + static_cast<size_t>(2 * p) * n_features + c * kSide;
      __m512i pair = _mm512_setzero_si512();
      if (2 * p < n) pair = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row));
      if (2 * p + 1 < n) {
        const __m256i odd = _mm256_maskz_loadu_epi16(mask, row + n_features);
        pair = _mm512_or_si512(pair, _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
      }
      _mm512_store_si512(tiles + (static_cast<size_t>(c) * kPairs + p) * kDepth, pair);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Forward

// Lays two features of 32 rows down in right tiles over the features, [kBlock / 16][depth].
//
// a0, a1: feature `first` of the rows 32s.. and 32s + 16..; b0, b1: the next one.
void store_pairs(Bfloat16* right, int depth, int s, int first, __m512 a0, __m512 a1, __m512 b0,
                 __m512 b1) {
  const size_t tile = static_cast<size_t>(2 * s) * depth + first / kDepth;
  Bfloat16* to = right + tile * kTile + first % kDepth / 2 * kDepth;
  _mm512_store_si512(to, round_pairs(a0, b0));
  _mm512_store_si512(to + static_cast<size_t>(depth) * kTile, round_pairs(a1, b1));
}

struct ForwardScratch {
  explicit ForwardScratch(const Net& net)
      : first(static_cast<size_t>(net.layers.front().in_tiles()) * kDepth * kBlock),
        even(static_cast<size_t>(net.widest()) * kBlock),
        odd(static_cast<size_t>(net.widest()) * kBlock) {}
  Aligned<Bfloat16> first, even, odd;
};

// Computes tanh of a hidden layer's results and lays it down as the next product takes it.
//
// right: [kBlock / 16][H / 32] tiles over the features. kept: left tiles [kChunks][H / 16], or
// null. last: weights of the single output that reads this layer, or null; adds to `single`.
struct Squash {
  const float* biases;
  int width;
  Bfloat16* right;
  Bfloat16* kept;
  const float* last;
  float* single;

  void operator()(const Results& results, int i) const {
    const float* z = results.pair(i);
    const int first = results.output(i), s = results.s;
    const __m512 bias = _mm512_set1_ps(biases[first]);
    const __m512 next_bias = _mm512_set1_ps(biases[first + 1]);
    const __m512 a0 = tanh16(_mm512_add_ps(_mm512_load_ps(z), bias));
    const __m512 a1 = tanh16(_mm512_add_ps(_mm512_load_ps(z + kCell), bias));
    const __m512 b0 = tanh16(_mm512_add_ps(_mm512_load_ps(z + kSide), next_bias));
    const __m512 b1 = tanh16(_mm512_add_ps(_mm512_load_ps(z + kCell + kSide), next_bias));
    if (kept != nullptr) {
      Bfloat16* row = kept + (static_cast<size_t>(s) * width + first) * kDepth;
      _mm512_store_si512(row, round_two(a0, a1));
      _mm512_store_si512(row + kDepth, round_two(b0, b1));
    }
    if (last == nullptr) {
      store_pairs(right, width / kDepth, s, first, a0, a1, b0, b1);
      return;
    }
    const __m512 w = _mm512_set1_ps(last[first]), next_w = _mm512_set1_ps(last[first + 1]);
    float* to = single + s * kDepth;
    const __m512 sum0 = _mm512_fmadd_ps(w, a0, _mm512_mul_ps(next_w, b0));
    const __m512 sum1 = _mm512_fmadd_ps(w, a1, _mm512_mul_ps(next_w, b1));
    _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), sum0));
    _mm512_store_ps(to + kSide, _mm512_add_ps(_mm512_load_ps(to + kSide), sum1));
  }
};

using Weights = std::vector<Aligned<Bfloat16>>;

// Computes the outputs of n rows; kept: where the hidden layers' activations go, or nothing.
void forward_block(const Net& net, const Weights& weights, const Bfloat16* obs, int n,
                   float* outputs, size_t n_rows, const std::vector<Bfloat16*>& kept,
                   ForwardScratch& scratch) {
  const int n_hidden = static_cast<int>(net.layers.size()) - 1;
  // What is kept is read in whole blocks.
  const int chunks = kept.empty() ? round_up(n, kDepth) / kDepth : kChunks;
  features_right(obs, n, net.n_features(), net.layers[0].in_tiles(), chunks, scratch.first);
  const Bfloat16* input = scratch.first;
  alignas(64) float single[kBlock] = {};
  for (int i = 0; i < n_hidden; ++i) {
    const Layer& layer = net.layers[i];
    Bfloat16* hidden = i % 2 == 0 ? scratch.even : scratch.odd;
    const bool is_read_singly = net.is_single && i == n_hidden - 1;
    const Squash squash{layer.biases,
                        layer.n_out,
                        hidden,
                        kept.empty() ? nullptr : kept[i],
                        is_read_singly ? net.layers.back().weights : nullptr,
                        single};
    product(weights[i], layer.out_tiles(), input, layer.in_tiles(), chunks, squash);
    input = hidden;
  }
  const Layer& last = net.layers.back();
  if (net.is_single) {
    for (int row = 0; row < n; ++row) outputs[row] = single[row] + last.biases[0];
    return;
  }
  product(weights[n_hidden], last.out_tiles(), input, last.in_tiles(), chunks,
          [&](const Results& results, int i) {
            const int first = results.output(i);
            for (int j = 0; j < 2 && first + j < last.n_out; ++j) {
              const __m512 bias = _mm512_set1_ps(last.biases[first + j]);
              for (int half = 0; half < 2; ++half) {
                const int row = results.s * kDepth + half * kSide;
                const int n_left = std::clamp(n - row, 0, kSide);
                const float* z = results.pair(i) + half * kCell + j * kSide;
                _mm512_mask_storeu_ps(outputs + (first + j) * n_rows + row, (1u << n_left) - 1,
                                      _mm512_add_ps(_mm512_load_ps(z), bias));
              }
            }
          });
}

// ---------------------------------------------------------------------------------------------
// Backward

// Gradients of one part's rows: of a layer's weights in cells, of its biases 16 to be added up.
struct Sums {
  explicit Sums(const Net& net) {
    for (size_t i = 0; i < net.layers.size(); ++i) {
      const Layer& layer = net.layers[i];
      const size_t n_cells = static_cast<size_t>(layer.out_tiles()) *
                             (round_up(layer.n_in, kSide) / kSide);
      weights.emplace_back(n_cells * kCell);
      biases.emplace_back(static_cast<size_t>(round_up(layer.n_out, kDepth)) * kSide);
      std::memset(weights.back(), 0, n_cells * kCell * sizeof(float));
      std::memset(biases.back(), 0, round_up(layer.n_out, kDepth) * kSide * sizeof(float));
    }
  }
  std::vector<Aligned<float>> weights, biases;
};

struct BackwardScratch {
  explicit BackwardScratch(const Net& net)
      : rows(static_cast<size_t>(round_up(net.n_features(), kSide)) * kBlock),
        left(static_cast<size_t>(net.widest()) * kBlock),
        over_rows(static_cast<size_t>(net.widest()) * kBlock),
        even(static_cast<size_t>(net.widest()) * kBlock),
        odd(static_cast<size_t>(net.widest()) * kBlock) {}
  Aligned<Bfloat16> rows, left, over_rows, even, odd;
};

void add_to(float* sums, __m512 a, __m512 b) {
  _mm512_store_ps(sums, _mm512_add_ps(_mm512_load_ps(sums), _mm512_add_ps(a, b)));
}

// Lays a gradient of outputs down in both forms, and adds up the biases' gradient.
//
// grad: [n_out, n_rows], of which n rows from here. left: [kChunks][out tile of 16]. right:
// [kBlock / 16][out tile of 32], over the outputs.
void output_grads(const Layer& layer, const float* grad, size_t n_rows, int n, Bfloat16* left,
                  Bfloat16* right, float* biases) {
  const int out_rows = layer.out_tiles() * kSide, depth = round_up(layer.n_out, kDepth) / kDepth;
  const auto load = [&](int output, int row) {
    const int n_left = output < layer.n_out ? std::clamp(n - row, 0, kSide) : 0;
    return _mm512_maskz_loadu_ps((1u << n_left) - 1,
                                 n_left == 0 ? grad : grad + output * n_rows + row);
  };
  for (int s = 0; s < kChunks; ++s) {
    const int row = s * kDepth;
    for (int o = 0; o < depth * kDepth; o += 2) {
      const __m512 a0 = load(o, row), a1 = load(o, row + kSide);
      const __m512 b0 = load(o + 1, row), b1 = load(o + 1, row + kSide);
      add_to(biases + o * kSide, a0, a1);
      add_to(biases + (o + 1) * kSide, b0, b1);
      if (o < out_rows) {
        Bfloat16* to = left + (static_cast<size_t>(s) * out_rows + o) * kDepth;
        _mm512_store_si512(to, round_two(a0, a1));
        _mm512_store_si512(to + kDepth, round_two(b0, b1));
      }
      store_pairs(right, depth, s, o, a0, a1, b0, b1);
    }
  }
}

// Takes a gradient of hidden activations h back through tanh: times 1 - h * h.
struct Unsquash {
  const Bfloat16* hidden;  // left tiles [kChunks][H / 16]
  int width;
  Bfloat16* left;   // the same, of the gradient
  Bfloat16* right;  // [kBlock / 16][H / 32] tiles over the features, or null
  float* biases;    // [H][16]

  static __m512 one(const float* grad, __m256i h) {
    const __m512 x = widen(h);
    return _mm512_mul_ps(_mm512_load_ps(grad), _mm512_fnmadd_ps(x, x, _mm512_set1_ps(1.0f)));
  }

  void operator()(const Results& results, int i) const {
    const int first = results.output(i);
    const size_t at = (static_cast<size_t>(results.s) * width + first) * kDepth;
    const __m512i h = _mm512_load_si512(hidden + at);
    const __m512i next_h = _mm512_load_si512(hidden + at + kDepth);
    const float* grad = results.pair(i);
    const Bfloat16* next_block = hidden + at + static_cast<size_t>(kBlock) * width;
    _mm_prefetch(next_block, _MM_HINT_T1);  // may lie beyond the end, which does no harm
    _mm_prefetch(next_block + kDepth, _MM_HINT_T1);
    const __m512 a0 = one(grad, _mm512_castsi512_si256(h));
    const __m512 a1 = one(grad + kCell, _mm512_extracti64x4_epi64(h, 1));
    const __m512 b0 = one(grad + kSide, _mm512_castsi512_si256(next_h));
    const __m512 b1 = one(grad + kCell + kSide, _mm512_extracti64x4_epi64(next_h, 1));
    add_to(biases + first * kSide, a0, a1);
    add_to(biases + (first + 1) * kSide, b0, b1);
    _mm512_store_si512(left + at, round_two(a0, a1));
    _mm512_store_si512(left + at + kDepth, round_two(b0, b1));
    if (right != nullptr) store_pairs(right, width / kDepth, results.s, first, a0, a1, b0, b1);
  }
};

// Adds the gradients of n rows to sums. Of the first layer they lie as [out, in], of the others
// as [in, out]: whichever factor lies there as a left one already.
void backward_block(const Net& net, const Weights& transposed, const Bfloat16* obs, int n,
                    const float* grad, size_t n_rows, const std::vector<const Bfloat16*>& kept,
                    Sums& sums, BackwardScratch& scratch) {
  int i = static_cast<int>(net.layers.size()) - 1;
  Bfloat16* right = scratch.even;
  output_grads(net.layers[i], grad, n_rows, n, scratch.left, right, sums.biases[i]);
  for (; i > 0; --i) {
    const Layer& layer = net.layers[i];
    const int out_tiles = layer.out_tiles(), in_tiles = layer.n_in / kSide;
    for (int m = 0; m < out_tiles; ++m) {
      for (int s = 0; s < kChunks; ++s) {
        transpose_tile(scratch.left + (static_cast<size_t>(s) * out_tiles + m) * kTile,
                       scratch.over_rows + (static_cast<size_t>(m) * kChunks + s) * kTile);
      }
    }
    add_product(sums.weights[i], kept[i - 1], in_tiles, scratch.over_rows, out_tiles);
    Bfloat16* next = right == scratch.even ? scratch.odd : scratch.even;
    const Unsquash unsquash{kept[i - 1], layer.n_in, scratch.left, i > 1 ? next : nullptr,
                            sums.biases[i - 1]};
    product(transposed[i], in_tiles, right, round_up(layer.n_out, kDepth) / kDepth, kChunks,
            unsquash);
    right = next;
  }
  rows_right(obs, n, net.n_features(), scratch.rows);
  add_product(sums.weights[0], scratch.left, net.layers[0].out_tiles(), scratch.rows,
              round_up(net.n_features(), kSide) / kSide);
}

// Adds up the parts' gradients of one layer.
void gather(const Net& net, const std::vector<std::unique_ptr<Sums>>& parts, int layer_index,
            float* weights, float* biases) {
  const Layer& layer = net.layers[layer_index];
  const int out_tiles = layer.out_tiles(), in_tiles = round_up(layer.n_in, kSide) / kSide;
  const bool is_first = layer_index == 0;
  for (int o = 0; o < out_tiles; ++o) {
    for (int k = 0; k < in_tiles; ++k) {
      const size_t cell = is_first ? static_cast<size_t>(o) * in_tiles + k
                                   : static_cast<size_t>(k) * out_tiles + o;
      __m512 rows[kSide];
      for (int i = 0; i < kSide; ++i) rows[i] = _mm512_setzero_ps();
      for (const auto& part : parts) {
        const float* from = part->weights[layer_index] + cell * kCell;
        for (int i = 0; i < kSide; ++i) {
          rows[i] = _mm512_add_ps(rows[i], _mm512_load_ps(from + i * kSide));
        }
      }
      if (!is_first) {
        __m512i words[kSide];
        for (int i = 0; i < kSide; ++i) words[i] = _mm512_castps_si512(rows[i]);
        transpose(words);
        for (int i = 0; i < kSide; ++i) rows[i] = _mm512_castsi512_ps(words[i]);
      }
      const int n_columns = std::min(layer.n_in - k * kSide, kSide);
      for (int i = 0; i < kSide && o * kSide + i < layer.n_out; ++i) {
        _mm512_mask_storeu_ps(
            weights + static_cast<size_t>(o * kSide + i) * layer.n_in + k * kSide,
            (1u << n_columns) - 1, rows[i]);
      }
    }
  }
  for (int o = 0; o < layer.n_out; ++o) {
    __m512 sum = _mm512_setzero_ps();
    for (const auto& part : parts) {
      sum = _mm512_add_ps(sum, _mm512_load_ps(part->biases[layer_index] + o * kSide));
    }
    biases[o] = _mm512_reduce_add_ps(sum);
  }
}

// ---------------------------------------------------------------------------------------------
// Calls from XLA

// Reads layers w0, b0, w1, ...; their shapes are checked in Python.
Net read_net(ffi::RemainingArgs args, int n_layers) {
  Net net;
  for (int i = 0; i < n_layers; ++i) {
    const auto w = *args.get<Floats>(2 * i);
    const auto b = *args.get<Floats>(2 * i + 1);
    const auto dims = w.dimensions();
    const bool is_single = dims.size() == 1;
    net.is_single = is_single;
    net.layers.push_back({static_cast<int>(dims.back()),
                          is_single ? 1 : static_cast<int>(dims.front()), w.typed_data(),
                          b.typed_data()});
  }
  return net;
}

int n_blocks_of(size_t n_rows) { return static_cast<int>((n_rows + kBlock - 1) / kBlock); }

int n_parts_of(int n_blocks) {
  return std::clamp((n_blocks + kPartBlocks - 1) / kPartBlocks, 1, kParts);
}

template <typename Task>
void for_blocks_of_part(int part, int n_parts, int n_blocks, const Task& task) {
  const int first = static_cast<int>(static_cast<int64_t>(n_blocks) * part / n_parts);
  const int stop = static_cast<int>(static_cast<int64_t>(n_blocks) * (part + 1) / n_parts);
  for (int block = first; block < stop; ++block) task(block);
}

ffi::Error forward(ffi::ThreadPool pool, Rows obs, ffi::RemainingArgs args,
                   ffi::Result<Floats> outputs, ffi::RemainingRets rets) {
  const Net net = read_net(args, static_cast<int>(args.size()) / 2);
  const size_t n_rows = obs.dimensions()[0];
  Weights weights;
  for (const Layer& layer : net.layers) weights.push_back(left_weights(layer));
  const int n_blocks = n_blocks_of(n_rows), n_parts = n_parts_of(n_blocks);
  for_each_part(pool, n_parts, [&](int part) {
    const TileScope tiles;
    ForwardScratch scratch(net);
    for_blocks_of_part(part, n_parts, n_blocks, [&](int block) {
      const size_t row = static_cast<size_t>(block) * kBlock;
      std::vector<Bfloat16*> kept;
      for (size_t i = 0; i < rets.size(); ++i) {
        auto buffer = *rets.get<Kept>(i);
        kept.push_back(buffer->typed_data() + row * net.layers[i].n_out);
      }
      forward_block(net, weights, obs.typed_data() + row * net.n_features(),
                    static_cast<int>(std::min<size_t>(n_rows - row, kBlock)),
                    outputs->typed_data() + row, n_rows, kept, scratch);
    });
  });
  return ffi::Error::Success();
}

ffi::Error backward(ffi::ThreadPool pool, Rows obs, Floats grad,
                    ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const int n_layers = static_cast<int>(rets.size()) / 2;
  const Net net = read_net(args, n_layers);
  const size_t n_rows = obs.dimensions()[0];
  Weights transposed;
  for (const Layer& layer : net.layers) transposed.push_back(left_transposed(layer));
  const int n_blocks = n_blocks_of(n_rows), n_parts = n_parts_of(n_blocks);
  std::vector<std::unique_ptr<Sums>> sums(n_parts);
  for_each_part(pool, n_parts, [&](int part) {
    const TileScope tiles;
    sums[part] = std::make_unique<Sums>(net);
    BackwardScratch scratch(net);
    for_blocks_of_part(part, n_parts, n_blocks, [&](int block) {
      const size_t row = static_cast<size_t>(block) * kBlock;
      std::vector<const Bfloat16*> kept;
      for (int i = 0; i + 1 < n_layers; ++i) {
        const auto buffer = *args.get<Kept>(2 * n_layers + i);
        kept.push_back(buffer.typed_data() + row * net.layers[i].n_out);
      }
      backward_block(net, transposed, obs.typed_data() + row * net.n_features(),
                     static_cast<int>(std::min<size_t>(n_rows - row, kBlock)),
                     grad.typed_data() + row, n_rows, kept, *sums[part], scratch);
    });
  });
  for (int i = 0; i < n_layers; ++i) {
    auto weights = *rets.get<Floats>(2 * i);
    auto biases = *rets.get<Floats>(2 * i + 1);
    gather(net, sums, i, weights->typed_data(), biases->typed_data());
  }
  return ffi::Error::Success();
}

}  // namespace

// Asks the system for the tiles, for all threads of this process; returns whether it has them.
extern "C" int passline_request_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // as <asm/prctl.h> numbers them
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(passline_forward, forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Rows>()
                                  .RemainingArgs()
                                  .Ret<Floats>()
                                  .RemainingRets());

XLA_FFI_DEFINE_HANDLER_SYMBOL(passline_backward, backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Rows>()
                                  .Arg<Floats>()
                                  .RemainingArgs()
                                  .RemainingRets());
