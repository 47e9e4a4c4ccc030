// The clipped objective of a block of decisions, and its gradient with respect to the outputs.
//
// The same as `_loss` in passline.learn.objective, whose gradient is spelled out here.

#ifndef PASSLINE_LEARN_KERNEL_OBJECTIVE_H_
#define PASSLINE_LEARN_KERNEL_OBJECTIVE_H_

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "numbers.h"
#include "tiles.h"

namespace passline {

constexpr int kMostActions = 32;

// What a rollout recorded of every decision, at least one action legal, a legal one taken; arrays
// [T * L].
struct Decisions {
  const uint32_t* mask_bits;
  const int32_t* action;
  const float* log_prob;
  const float* value;
  const float* advantage;
  const float* value_target;
};

// Weights and bounds of the objective.
struct Terms {
  float clip_range;
  float clip_range_value;
  float value_coef;
  float value_scale;
  float entropy_coef;
  float center;  // advantages are (advantage - center) / spread
  float spread;
  float per_row;  // 1 over the number of decisions that the mean is taken of
};

// What is told of a minibatch: sums over its decisions, 16 to be added up.
enum Told { kPolicyLoss, kValueLoss, kEntropy, kApproxKl, kClipFraction, kTold };

struct Totals {
  __m512 of[kTold];
  Totals() {
    for (__m512& sum : of) sum = _mm512_setzero_ps();
  }
  void add(Told told, __mmask16 rows, __m512 x) {
    of[told] = _mm512_mask_add_ps(of[told], rows, of[told], x);
  }
};

// Decisions of a minibatch: whole blocks of neighboring lanes, all their steps.
class Minibatch {
 public:
  // starts: first lane of each block over lane_block, n of them.
  Minibatch(const int32_t* starts, int n, int lane_block, int n_lanes, int n_steps)
      : n_lanes_(n_lanes), n_rows_(static_cast<size_t>(n) * lane_block * n_steps) {
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < lane_block; ++j) lanes_.push_back(starts[i] * lane_block + j);
    }
  }

  size_t n_rows() const { return n_rows_; }

  // Writes where its rows first.. lie in [T * L], at most n; returns how many there are.
  int places(size_t first, int n, int32_t* to) const {
    const int n_left = static_cast<int>(std::min<size_t>(n_rows_ - first, n));
    size_t step = first / lanes_.size(), lane = first % lanes_.size();
    for (int i = 0; i < n_left; ++i) {
      to[i] = static_cast<int32_t>(step) * n_lanes_ + lanes_[lane];
      if (++lane == lanes_.size()) {
        lane = 0;
        ++step;
      }
    }
    return n_left;
  }

 private:
  std::vector<int32_t> lanes_;
  int n_lanes_;
  size_t n_rows_;
};

// Mean and standard deviation of the minibatch's advantages.
inline void center_advantages(const float* advantage, const Minibatch& minibatch, Terms& terms) {
  const size_t n_rows = minibatch.n_rows();
  const auto sum_of = [&](float center, bool is_squared) {
    double sum = 0.0;
    for (size_t first = 0; first < n_rows; first += kBlock) {
      int32_t places[kBlock];
      const int n = minibatch.places(first, kBlock, places);
      float part = 0.0f;
      for (int i = 0; i < n; ++i) {
        const float x = advantage[places[i]] - center;
        part += is_squared ? x * x : x;
      }
      sum += part;
    }
    return sum;
  };
  terms.center = static_cast<float>(sum_of(0.0f, false) / static_cast<double>(n_rows));
  const double variance = sum_of(terms.center, true) / static_cast<double>(n_rows);
  terms.spread = static_cast<float>(std::sqrt(variance) + 1e-8);
}

// Turns the outputs of a block's n rows into the gradient with respect to them.
//
// places: of the rows in [T * L]. logits: [n_actions, kBlock], and values: [kBlock]; both are
// overwritten, beyond n with 0. What is no number stays visible in gradient and totals.
inline void objective_block(const Decisions& decisions, const int32_t* places, int n,
                            int n_actions, const Terms& terms, float* logits, float* values,
                            Totals& totals) {
  const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f);
  const __m512 low = _mm512_set1_ps(1.0f - terms.clip_range);
  const __m512 high = _mm512_set1_ps(1.0f + terms.clip_range);
  const __m512 scale = _mm512_set1_ps(terms.value_scale);
  const __m512 bound = _mm512_set1_ps(terms.clip_range_value);
  const __m512 per_row = _mm512_set1_ps(terms.per_row);
  const __m512 entropy_weight = _mm512_set1_ps(terms.entropy_coef * terms.per_row);
  const __m512 value_weight = _mm512_set1_ps(2.0f * terms.value_coef * terms.per_row);
  for (int row = 0; row < kBlock; row += kSide) {
    const __mmask16 rows = first_rows(n - row);
    const __m512i at = _mm512_maskz_loadu_epi32(rows, places + row);
    const auto read = [&](const float* from) {
      return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), rows, at, from, 4);
    };
    const auto read_words = [&](const void* from) {
      return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), rows, at, from, 4);
    };
    const __m512i bits = read_words(decisions.mask_bits), action = read_words(decisions.action);

    // The distribution over the legal actions: log p = z - log(total).
    __m512 z[kMostActions], p[kMostActions];
    __mmask16 legal[kMostActions];
    __m512 largest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    for (int a = 0; a < n_actions; ++a) {
      z[a] = _mm512_load_ps(logits + a * kBlock + row);
      legal[a] = _mm512_mask_test_epi32_mask(rows, bits, _mm512_set1_epi32(1u << a));
      largest = _mm512_mask_max_ps(largest, legal[a], largest, z[a]);
    }
    __m512 total = zero, weighted = zero, taken = zero;
    for (int a = 0; a < n_actions; ++a) {
      z[a] = _mm512_maskz_sub_ps(legal[a], z[a], largest);
      p[a] = _mm512_maskz_mov_ps(legal[a], exp16(z[a]));
      total = _mm512_add_ps(total, p[a]);
      weighted = _mm512_fmadd_ps(p[a], z[a], weighted);
      const __mmask16 is_taken = _mm512_cmpeq_epi32_mask(action, _mm512_set1_epi32(a));
      taken = _mm512_mask_mov_ps(taken, is_taken, z[a]);
    }
    const __m512 inverse = _mm512_div_ps(one, total), log_total = log16(total);
    const __m512 entropy = _mm512_fnmadd_ps(weighted, inverse, log_total);

    // min and max return their second operand where one is no number.
    const __m512 log_prob = _mm512_sub_ps(taken, log_total);
    const __m512 log_ratio = _mm512_sub_ps(log_prob, read(decisions.log_prob));
    const __m512 ratio = exp16(log_ratio), change = _mm512_sub_ps(ratio, one);
    const __m512 advantage = _mm512_div_ps(
        _mm512_sub_ps(read(decisions.advantage), _mm512_set1_ps(terms.center)),
        _mm512_set1_ps(terms.spread));
    const __m512 plain = _mm512_mul_ps(advantage, ratio);
    const __m512 clipped =
        _mm512_mul_ps(advantage, _mm512_max_ps(low, _mm512_min_ps(high, ratio)));
    const __mmask16 is_plain = _mm512_cmp_ps_mask(plain, clipped, _CMP_NGT_UQ);
    const __m512 back = _mm512_maskz_mul_ps(is_plain, plain, _mm512_sub_ps(zero, per_row));
    for (int a = 0; a < n_actions; ++a) {
      const __m512 prob = _mm512_mul_ps(p[a], inverse);
      const __m512 surprise = _mm512_add_ps(_mm512_sub_ps(z[a], log_total), entropy);
      __m512 grad = _mm512_mul_ps(prob, _mm512_fmsub_ps(entropy_weight, surprise, back));
      const __mmask16 is_taken = _mm512_cmpeq_epi32_mask(action, _mm512_set1_epi32(a));
      grad = _mm512_mask_add_ps(grad, is_taken, grad, back);
      _mm512_store_ps(logits + a * kBlock + row, _mm512_maskz_mov_ps(legal[a], grad));
    }
    totals.add(kPolicyLoss, rows, _mm512_sub_ps(zero, _mm512_min_ps(clipped, plain)));
    totals.add(kEntropy, rows, entropy);
    totals.add(kApproxKl, rows, _mm512_sub_ps(change, log_ratio));
    const __mmask16 is_clipped = _mm512_cmp_ps_mask(
        _mm512_abs_ps(change), _mm512_set1_ps(terms.clip_range), _CMP_GT_OQ);
    totals.add(kClipFraction, is_clipped & rows, one);

    // The value, in the critic's units.
    const __m512 old_value = _mm512_div_ps(read(decisions.value), scale);
    const __m512 moved = _mm512_sub_ps(_mm512_load_ps(values + row), old_value);
    const __m512 held = _mm512_max_ps(_mm512_sub_ps(zero, bound), _mm512_min_ps(bound, moved));
    const __m512 target = _mm512_div_ps(read(decisions.value_target), scale);
    const __m512 error = _mm512_sub_ps(_mm512_add_ps(old_value, held), target);
    totals.add(kValueLoss, rows, _mm512_mul_ps(error, error));
    const __mmask16 is_held = _mm512_cmp_ps_mask(_mm512_abs_ps(moved), bound, _CMP_GT_OQ);
    const __mmask16 is_open = ~is_held | _mm512_cmp_ps_mask(error, error, _CMP_UNORD_Q);
    _mm512_store_ps(values + row, _mm512_maskz_mul_ps(rows & is_open, error, value_weight));
  }
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_OBJECTIVE_H_
