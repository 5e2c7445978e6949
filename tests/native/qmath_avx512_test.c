// qmath_avx512.h against qmath.h, bit for bit (see rescaling.h).

#include "qmath_avx512.h"

enum { LANES = 16, ADDS_TO_WORDS = false };

static bool shifted;  // the form for CPUs without AVX-512 IFMA

static int bits_of(const qmath_channel *channel) { return shifted ? qmath_high_bits(channel) : QMATH_ABSORBED_BITS; }

static void rescale_exact(const qmath_channel *channel, const int32_t *in, int32_t *out) {
  _Alignas(64) qmath_exact16 lanes;
  for (int i = 0; i < LANES; ++i) qmath_exact16_set(&lanes, i, channel);
  _mm512_store_si512(out, qmath_rescale_exact16(_mm512_load_si512(in), &lanes));
}

static __m512i rescale_shifted(const qmath_channel *channel, const qmath_absorbed *absorbed, __m512i vector) {
  _Alignas(64) qmath_shifted16 lanes;
  for (int i = 0; i < LANES; ++i) qmath_shifted16_set(&lanes, i, absorbed, bits_of(channel));
  return qmath_rescale_shifted16(vector, &lanes);
}

static __m512i rescale_by52(const qmath_absorbed *absorbed, __m512i vector) {
  _Alignas(64) qmath_absorbed16 lanes;
  for (int i = 0; i < LANES; ++i) qmath_absorbed16_set(&lanes, i, absorbed);
  const qmath_absorbed16_registers registers = qmath_absorbed16_load(&lanes);
  return qmath_is_bent(absorbed) ? qmath_rescale_bent16(vector, &registers, &lanes.bend)
                                 : qmath_rescale_absorbed16(vector, &registers);
}

static void rescale_absorbed(const qmath_channel *channel, const qmath_absorbed *absorbed, const int32_t *in,
                             int32_t *out) {
  const __m512i vector = _mm512_load_si512(in);
  _mm512_store_si512(out, shifted ? rescale_shifted(channel, absorbed, vector) : rescale_by52(absorbed, vector));
}

#include "rescaling.h"

// Accumulators of 64 bits: the ends of what gives 32-bit results, ties, and others.
static int check_wide(void) {
  static const int32_t multipliers[] = {1 << 30, (1 << 30) + (1 << 15), 0x5A827999, 0x7FFF0000 - 1, INT32_MAX};
  int failures = 0;
  for (int shift = -31; shift <= 7; ++shift) {
    for (int m = 0; m < 5; ++m) {
      const int32_t reduced = qmath_reduced_multiplier(multipliers[m]);
      const int64_t room = shift < -16 ? ((int64_t)1 << 47) - 1 : ((int64_t)1 << (30 - (shift < 0 ? 0 : shift)));
      const int64_t tie = ((int64_t)1 << (14 - shift)) / reduced;
      const int64_t in[8] = {room, -room, tie, -tie, tie + 1, -tie - 1, room / 3 - tie, 0};
      int64_t out[8];
      qmath_acc64x8 lanes;
      for (int i = 0; i < 8; ++i) qmath_acc64x8_set(&lanes, i, reduced, shift);
      _mm512_storeu_si512(out, qmath_requantize_acc64x8(_mm512_loadu_si512(in), &lanes));
      for (int i = 0; i < 8; ++i) {
        if (out[i] == qmath_requantize_acc64(in[i], reduced, shift)) continue;
        printf("acc64: %lld by %d, shift %d differs\n", (long long)in[i], reduced, shift);
        ++failures;
      }
    }
  }
  return failures;
}

static bool is_able(void) {
#ifdef UF_EMULATED
  return true;
#else
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
#endif
}

int main(void) {
  if (!is_able()) {
    printf("skipped: this CPU has no AVX-512 VNNI\n");
    return SKIPPED;
  }
  shifted = true;
  if (check_wide() > 0 || check_channels() != 0) return 1;
  shifted = false;
  if (qmath_has_absorbed16()) return check_channels();
  printf("absorbed form not run: this CPU has no AVX-512 IFMA\n");
  return 0;
}
