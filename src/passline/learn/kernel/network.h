// A tanh network's outputs and their gradient, for a block of rows (observations) at a time.
//
// Everything between the first product and the last stays in a core's second-level cache. Hidden
// activations run feature-major, [H, rows].

#ifndef PASSLINE_LEARN_KERNEL_NETWORK_H_
#define PASSLINE_LEARN_KERNEL_NETWORK_H_

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "memory.h"
#include "numbers.h"
#include "products.h"
#include "tiles.h"

namespace passline {

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
  bool is_single = false;  // the last layer has one output, which float32 computes
  int n_features() const { return layers.front().n_in; }
  int n_hidden() const { return static_cast<int>(layers.size()) - 1; }
  int widest() const {
    int widest = kDepth;
    for (const Layer& layer : layers) widest = std::max(widest, round_up(layer.n_out, kDepth));
    return widest;
  }
};

// Where each observation of a block lies, n of them.
struct RowSet {
  const Bfloat16* at[kBlock];
  int n;
};

// ---------------------------------------------------------------------------------------------
// Weights

using Weights = std::vector<const Bfloat16*>;  // tiles of each layer

// Left tiles of the weights, [out, in], in the order [in tile][out tile].
inline const Bfloat16* left_weights(const Layer& layer, Arena& arena) {
  const int out_tiles = layer.out_tiles(), in_tiles = layer.in_tiles();
  Bfloat16* tiles = arena.take<Bfloat16>(static_cast<size_t>(in_tiles) * out_tiles * kTile);
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
inline const Bfloat16* left_transposed(const Layer& layer, Arena& arena) {
  const int in_tiles = round_up(layer.n_in, kSide) / kSide;
  const int out_tiles = round_up(layer.n_out, kDepth) / kDepth;
  Bfloat16* tiles = arena.take<Bfloat16>(static_cast<size_t>(out_tiles) * in_tiles * kTile);
  for (int o = 0; o < out_tiles; ++o) {
    for (int i = 0; i < in_tiles; ++i) {
      const __mmask16 columns = (1u << std::min(layer.n_in - i * kSide, kSide)) - 1;
      const auto load = [&](int output) {
        const float* row = layer.weights + static_cast<size_t>(output) * layer.n_in + i * kSide;
        return output < layer.n_out ? _mm512_maskz_loadu_ps(columns, row) : _mm512_setzero_ps();
      };
      __m512i r[kSide];
      for (int p = 0; p < kSide; ++p) {
        const int output = o * kDepth + 2 * p;
        r[p] = round_pairs(load(output), load(output + 1));
      }
      transpose(r);
      Bfloat16* to = tiles + (static_cast<size_t>(o) * in_tiles + i) * kTile;
      for (int p = 0; p < kSide; ++p) _mm512_store_si512(to + p * kDepth, r[p]);
    }
  }
  return tiles;
}

// The tiles that `forward_block` takes.
inline Weights weights_of(const Net& net, Arena& arena) {
  Weights found;
  for (const Layer& layer : net.layers) found.push_back(left_weights(layer, arena));
  return found;
}

// The tiles that `backward_block` takes; nothing is taken back through the first layer.
inline Weights transposed_of(const Net& net, Arena& arena) {
  Weights found{nullptr};
  for (size_t i = 1; i < net.layers.size(); ++i) {
    found.push_back(left_transposed(net.layers[i], arena));
  }
  return found;
}

// ---------------------------------------------------------------------------------------------
// Observations

inline Bfloat16* features_space(int n_features, Arena& arena) {
  return arena.take<Bfloat16>(static_cast<size_t>(round_up(n_features, kDepth)) * kBlock);
}

// Right tiles over the features, [2 * chunks][in tile].
inline void features_right(const RowSet& rows, int n_features, int chunks, Bfloat16* tiles) {
  const int depth = round_up(n_features, kDepth) / kDepth;
  for (int s = 0; s < 2 * chunks; ++s) {
    for (int k = 0; k < depth; ++k) {
      const int left = std::min(n_features - k * kDepth, kDepth);
      const __mmask32 mask = left == kDepth ? ~0u : (1u << left) - 1;
      __m512i r[kSide];
      for (int i = 0; i < kSide; ++i) {
        const int row = s * kSide + i;
        r[i] = row < rows.n ? _mm512_maskz_loadu_epi16(mask, rows.at[row] + k * kDepth)
                            : _mm512_setzero_si512();
      }
      transpose(r);
      Bfloat16* to = tiles + (static_cast<size_t>(s) * depth + k) * kTile;
      for (int i = 0; i < kSide; ++i) _mm512_store_si512(to + i * kDepth, r[i]);
    }
  }
}

inline Bfloat16* rows_space(int n_features, Arena& arena) {
  return arena.take<Bfloat16>(static_cast<size_t>(round_up(n_features, kSide)) * kBlock);
}

// Right tiles over the rows, [column tile of 16 features][kChunks].
inline void rows_right(const RowSet& rows, int n_features, Bfloat16* tiles) {
  const int column_tiles = round_up(n_features, kSide) / kSide;
  for (int c = 0; c < column_tiles; ++c) {
    const __mmask16 mask = (1u << std::min(n_features - c * kSide, kSide)) - 1;
    const auto load = [&](int row) {
      return row < rows.n ? _mm512_cvtepu16_epi32(
                                _mm256_maskz_loadu_epi16(mask, rows.at[row] + c * kSide))
                          : _mm512_setzero_si512();
    };
    for (int p = 0; p < kPairs; ++p) {
      const __m512i odd = _mm512_slli_epi32(load(2 * p + 1), 16);
      _mm512_store_si512(tiles + (static_cast<size_t>(c) * kPairs + p) * kDepth,
                         _mm512_or_si512(load(2 * p), odd));
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Forward

// Lays two features of 32 rows down in right tiles over the features, [kBlock / 16][depth].
//
// a0, a1: feature `first` of the rows 32s.. and 32s + 16..; b0, b1: the next one.
inline void store_pairs(Bfloat16* right, int depth, int s, int first, __m512 a0, __m512 a1,
                        __m512 b0, __m512 b1) {
  const size_t tile = static_cast<size_t>(2 * s) * depth + first / kDepth;
  Bfloat16* to = right + tile * kTile + first % kDepth / 2 * kDepth;
  _mm512_store_si512(to, round_pairs(a0, b0));
  _mm512_store_si512(to + static_cast<size_t>(depth) * kTile, round_pairs(a1, b1));
}

struct ForwardScratch {
  ForwardScratch(const Net& net, Arena& arena)
      : even(arena.take<Bfloat16>(static_cast<size_t>(net.widest()) * kBlock)),
        odd(arena.take<Bfloat16>(static_cast<size_t>(net.widest()) * kBlock)) {}
  Bfloat16 *even, *odd;
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

// Computes the outputs of n rows.
//
// features: the rows' right tiles over the features, of so many chunks. outputs: [n_out, n_rows],
// of which n rows from here. kept: where each hidden layer's activations go, or nothing.
inline void forward_block(const Net& net, const Weights& weights, const Bfloat16* features, int n,
                          int chunks, float* outputs, size_t n_rows,
                          const std::vector<Bfloat16*>& kept, const ForwardScratch& scratch) {
  const int n_hidden = net.n_hidden();
  const Bfloat16* input = features;
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
    product(weights[i], layer.out_tiles(), input, layer.n_in, chunks, squash);
    input = hidden;
  }
  const Layer& last = net.layers.back();
  if (net.is_single) {
    for (int row = 0; row < n; ++row) outputs[row] = single[row] + last.biases[0];
    return;
  }
  product(weights[n_hidden], last.out_tiles(), input, last.n_in, chunks,
          [&](const Results& results, int i) {
            const int first = results.output(i);
            for (int j = 0; j < 2 && first + j < last.n_out; ++j) {
              const __m512 bias = _mm512_set1_ps(last.biases[first + j]);
              for (int half = 0; half < 2; ++half) {
                const int row = results.s * kDepth + half * kSide;
                const float* z = results.pair(i) + half * kCell + j * kSide;
                _mm512_mask_storeu_ps(outputs + (first + j) * n_rows + row, first_rows(n - row),
                                      _mm512_add_ps(_mm512_load_ps(z), bias));
              }
            }
          });
}

// ---------------------------------------------------------------------------------------------
// Backward

// Gradients of one part's rows: of a layer's weights in cells, of its biases 16 to be added up.
//
// Of the first layer the cells lie as [out, in], of the others as [in, out]: whichever factor lies
// there as a left one already. They begin with the part's first block.
struct Sums {
  Sums(const Net& net, Arena& arena) {
    for (const Layer& layer : net.layers) {
      const size_t n_cells = static_cast<size_t>(layer.out_tiles()) *
                             (round_up(layer.n_in, kSide) / kSide);
      const size_t n_biases = static_cast<size_t>(round_up(layer.n_out, kDepth)) * kSide;
      weights.push_back(arena.take<float>(n_cells * kCell));
      biases.push_back(arena.take<float>(n_biases));
      std::memset(biases.back(), 0, n_biases * sizeof(float));
    }
  }
  std::vector<float*> weights, biases;
  bool is_empty = true;
};

struct BackwardScratch {
  BackwardScratch(const Net& net, Arena& arena) {
    for (Bfloat16** space : {&left, &over_rows, &even, &odd}) {
      *space = arena.take<Bfloat16>(static_cast<size_t>(net.widest()) * kBlock);
    }
  }
  Bfloat16 *left, *over_rows, *even, *odd;
};

inline void add_to(float* sums, __m512 a, __m512 b) {
  _mm512_store_ps(sums, _mm512_add_ps(_mm512_load_ps(sums), _mm512_add_ps(a, b)));
}

// Lays a gradient of outputs down in both forms, and adds up the biases' gradient.
//
// grad: [n_out, n_rows], of which n rows from here. left: [kChunks][out tile of 16]. right:
// [kBlock / 16][out tile of 32], over the outputs.
inline void output_grads(const Layer& layer, const float* grad, size_t n_rows, int n,
                         Bfloat16* left, Bfloat16* right, float* biases) {
  const int out_rows = layer.out_tiles() * kSide, depth = round_up(layer.n_out, kDepth) / kDepth;
  const auto load = [&](int output, int row) {
    const __mmask16 rows = output < layer.n_out ? first_rows(n - row) : 0;
    return _mm512_maskz_loadu_ps(rows, rows == 0 ? grad : grad + output * n_rows + row);
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

// Adds the gradients of n rows to sums.
//
// rows: their right tiles over the rows. grad: [n_out, n_rows], of which n rows from here. kept:
// what `forward_block` kept of them.
inline void backward_block(const Net& net, const Weights& transposed, const Bfloat16* rows, int n,
                           const float* grad, size_t n_rows,
                           const std::vector<const Bfloat16*>& kept, Sums& sums,
                           const BackwardScratch& scratch) {
  int i = net.n_hidden();
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
    add_product(sums.weights[i], sums.is_empty, kept[i - 1], in_tiles, scratch.over_rows,
                out_tiles);
    Bfloat16* next = right == scratch.even ? scratch.odd : scratch.even;
    const Unsquash unsquash{kept[i - 1], layer.n_in, scratch.left, i > 1 ? next : nullptr,
                            sums.biases[i - 1]};
    product(transposed[i], in_tiles, right, layer.n_out, kChunks, unsquash);
    right = next;
  }
  add_product(sums.weights[0], sums.is_empty, scratch.left, net.layers[0].out_tiles(), rows,
              round_up(net.n_features(), kSide) / kSide);
  sums.is_empty = false;
}

// Adds up 16 outputs' gradients of the parts, in their order.
//
// weights: [n_out, n_in]. biases: [n_out].
inline void gather(const Net& net, const std::vector<Sums>& parts, int layer_index,
                   int out_tile, float* weights, float* biases) {
  const Layer& layer = net.layers[layer_index];
  const int out_tiles = layer.out_tiles(), in_tiles = round_up(layer.n_in, kSide) / kSide;
  const bool is_first = layer_index == 0;
  const int first = out_tile * kSide, stop = std::min(first + kSide, layer.n_out);
  for (int k = 0; k < in_tiles; ++k) {
    const size_t cell = is_first ? static_cast<size_t>(out_tile) * in_tiles + k
                                 : static_cast<size_t>(k) * out_tiles + out_tile;
    __m512 rows[kSide];
    for (int i = 0; i < kSide; ++i) rows[i] = _mm512_setzero_ps();
    for (const Sums& part : parts) {
      const float* from = part.weights[layer_index] + cell * kCell;
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
    for (int o = first; o < stop; ++o) {
      _mm512_mask_storeu_ps(weights + static_cast<size_t>(o) * layer.n_in + k * kSide,
                            (1u << n_columns) - 1, rows[o - first]);
    }
  }
  for (int o = first; o < stop; ++o) {
    __m512 sum = _mm512_setzero_ps();
    for (const Sums& part : parts) {
      sum = _mm512_add_ps(sum, _mm512_load_ps(part.biases[layer_index] + o * kSide));
    }
    biases[o] = _mm512_reduce_add_ps(sum);
  }
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_NETWORK_H_
