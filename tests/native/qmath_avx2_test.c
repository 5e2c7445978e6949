// qmath_avx2.h against qmath.h, bit for bit (see rescaling.h).

#include "qmath_avx2.h"

enum { LANES = 8, ADDS_TO_WORDS = true };

static int bits_of(const qmath_channel *channel) { return qmath_high_bits(channel); }

static void rescale_exact(const qmath_channel *channel, const int32_t *in, int32_t *out) {
  _Alignas(64) qmath_exact8 lanes;
  for (int i = 0; i < LANES; ++i) qmath_exact8_set(&lanes, i, channel);
  _mm256_store_si256((__m256i *)out, qmath_rescale_exact8(qmath_load8(in), &lanes));
}

static void rescale_absorbed(const qmath_channel *channel, const qmath_absorbed *absorbed, const int32_t *in,
                             int32_t *out) {
  _Alignas(64) qmath_absorbed8 lanes;
  for (int i = 0; i < LANES; ++i) qmath_absorbed8_set(&lanes, i, absorbed, bits_of(channel));
  const __m256i vector = qmath_load8(in), negative = qmath_negative8(vector, &lanes);
  _mm256_store_si256((__m256i *)out, qmath_is_bent(absorbed) ? qmath_rescale_bent8(vector, negative, &lanes)
                                                             : qmath_rescale_absorbed8(vector, &lanes));
}

#include "rescaling.h"

int main(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) return check_channels();
  printf("skipped: this CPU has no AVX2\n");
  return SKIPPED;
}
