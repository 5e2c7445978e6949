// qmath_avx512.h against qmath.h, bit for bit (see rescaling.h).

#include "qmath_avx512.h"

enum { LANES = 16 };

static int bits_of(const qmath_channel *channel) {
  (void)channel;
  return QMATH_ABSORBED_BITS;
}

static void rescale_exact(const qmath_channel *channel, const int32_t *in, int32_t *out) {
  _Alignas(64) qmath_exact16 lanes;
  for (int i = 0; i < LANES; ++i) qmath_exact16_set(&lanes, i, channel);
  _mm512_store_si512(out, qmath_rescale_exact16(_mm512_load_si512(in), &lanes));
}

static void rescale_absorbed(const qmath_channel *channel, const qmath_absorbed *absorbed, const int32_t *in,
                             int32_t *out) {
  _Alignas(64) qmath_absorbed16 lanes;
  (void)channel;
  for (int i = 0; i < LANES; ++i) qmath_absorbed16_set(&lanes, i, absorbed);
  const qmath_absorbed16_registers registers = qmath_absorbed16_load(&lanes);
  const __m512i vector = _mm512_load_si512(in);
  _mm512_store_si512(out, qmath_is_bent(absorbed) ? qmath_rescale_bent16(vector, &registers, &lanes)
                                                  : qmath_rescale_absorbed16(vector, &registers));
}

#include "rescaling.h"

int main(void) {
  __builtin_cpu_init();
  const bool able = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni");
  if (able && !qmath_has_absorbed16()) printf("absorbed form not run: this CPU has no AVX-512 IFMA\n");
  if (able) return check_channels(qmath_has_absorbed16());
  printf("skipped: this CPU has no AVX-512 VNNI\n");
  return SKIPPED;
}
