// qmath_neon.h against qmath.h, bit for bit (see rescaling.h).

#include "qmath_neon.h"

enum { LANES = 4, ADDS_TO_WORDS = true };

static int bits_of(const qmath_channel *channel) { return qmath_high_bits(channel); }

static void rescale_exact(const qmath_channel *channel, const int32_t *in, int32_t *out) {
  _Alignas(64) qmath_exact4 lanes;
  for (int i = 0; i < LANES; ++i) qmath_exact4_set(&lanes, i, channel);
  vst1q_s32(out, qmath_rescale_exact4(vld1q_s32(in), &lanes));
}

static void rescale_absorbed(const qmath_channel *channel, const qmath_absorbed *absorbed, const int32_t *in,
                             int32_t *out) {
  _Alignas(64) qmath_absorbed4 lanes;
  for (int i = 0; i < LANES; ++i) qmath_absorbed4_set(&lanes, i, absorbed, bits_of(channel));
  const int32x4_t vector = vld1q_s32(in), negative = qmath_negative4(vector, &lanes);
  vst1q_s32(out, qmath_is_bent(absorbed) ? qmath_rescale_bent4(vector, negative, &lanes)
                                         : qmath_rescale_absorbed4(vector, &lanes));
}

#include "rescaling.h"

int main(void) { return check_channels(); }
