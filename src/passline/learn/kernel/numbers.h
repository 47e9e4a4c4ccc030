// Arithmetic on 16 numbers at a time.

#ifndef PASSLINE_LEARN_KERNEL_NUMBERS_H_
#define PASSLINE_LEARN_KERNEL_NUMBERS_H_

#include <immintrin.h>

#include <cstdint>
#include <initializer_list>

namespace passline {

// tanh with a relative error below 2e-4, a twentieth of a bfloat16's last place.
inline __m512 tanh16(__m512 x) {
  // Of operands that are no numbers these return the second, so that they stay visible.
  x = _mm512_max_ps(_mm512_set1_ps(-5.0f), _mm512_min_ps(_mm512_set1_ps(5.0f), x));
  const __m512 t = _mm512_mul_ps(x, x);
  __m512 p = _mm512_fmadd_ps(t, _mm512_set1_ps(0.00067056704f), _mm512_set1_ps(0.10241773f));
  p = _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.99994802f));
  __m512 q = _mm512_fmadd_ps(t, _mm512_set1_ps(0.012819902f), _mm512_set1_ps(0.43543252f));
  q = _mm512_fmadd_ps(t, q, _mm512_set1_ps(1.0f));
  return _mm512_mul_ps(_mm512_mul_ps(x, p), _mm512_rcp14_ps(q));
}

// exp, to within two of float32's last places: e^r of the rest r, below 0.35, by its series.
inline __m512 exp16(__m512 x) {
  // Beyond these it is 0 and infinite; of operands that are no numbers the second is returned.
  x = _mm512_max_ps(_mm512_set1_ps(-110.0f), _mm512_min_ps(_mm512_set1_ps(90.0f), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);  // ln 2 in two parts
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
  __m512 p = _mm512_set1_ps(1.0f / 5040.0f);
  for (float factorial : {720.0f, 120.0f, 24.0f, 6.0f, 2.0f, 1.0f, 1.0f}) {
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / factorial));
  }
  return _mm512_scalef_ps(p, n);
}

// log of numbers from 1 on, to within three: 2 artanh of (m - 1) / (m + 1) by its series, where m
// lies in [1, 2).
inline __m512 log16(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  const __m512 s = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one));
  const __m512 t = _mm512_mul_ps(s, s);
  __m512 p = _mm512_set1_ps(1.0f / 15.0f);
  for (float odd : {13.0f, 11.0f, 9.0f, 7.0f, 5.0f, 3.0f, 1.0f}) {
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.0f / odd));
  }
  p = _mm512_mul_ps(_mm512_add_ps(s, s), p);
  return _mm512_fmadd_ps(_mm512_getexp_ps(x), _mm512_set1_ps(0.69314718f), p);
}

inline __m512i round_two(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// 16 numbers of each of two rows, side by side as a right tile has them.
inline __m512i round_pairs(__m512 even, __m512 odd) {
  alignas(64) static const uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                  21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), round_two(even, odd));
}

inline __m512 widen(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_NUMBERS_H_
