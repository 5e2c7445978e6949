// Depthwise convolution by pairs of taps (C11, Arm's Advanced SIMD): two products of signed bytes are added in 16 bits,
// which they fit, as no weight is -128.

#include "../block16.h"

typedef int8_t weight_type;

enum { LOWERED = 128, LEAST_WEIGHT = -INT8_MAX };

static int weight_place(int channel, int tap) { return UF_BLOCK_CHANNELS * tap + channel; }

UF_INLINE int8x16_t signed_bytes(const uint8_t *x, int64_t count) {
  return vreinterpretq_s8_u8(veorq_u8(uf_load_first(x, count), vdupq_n_u8(LOWERED)));
}

// Up to 16 channels of a pixel, from `channel` on.
UF_INLINE uf_bytes run_block(const uint8_t *const *taps, int64_t channel, int64_t count, int pairs,
                             const uf_block16 *block) {
  const int8_t *weights = (const int8_t *)(block + 1);
  int32x4_t v0 = uf_start(block, 0), v1 = uf_start(block, 1), v2 = uf_start(block, 2), v3 = uf_start(block, 3);
  for (int pair = 0; pair < pairs; ++pair, weights += 2 * UF_BLOCK_CHANNELS) {
    const int8x16_t a = signed_bytes(taps[2 * pair] + channel, count);
    const int8x16_t b = signed_bytes(taps[2 * pair + 1] + channel, count);
    const int8x16_t first = vld1q_s8(weights), second = vld1q_s8(weights + UF_BLOCK_CHANNELS);
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(first)), vget_low_s8(b), vget_low_s8(second));
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(a, first), b, second);
    v0 = vaddw_s16(v0, vget_low_s16(low));
    v1 = vaddw_high_s16(v1, low);
    v2 = vaddw_s16(v2, vget_low_s16(high));
    v3 = vaddw_high_s16(v3, high);
  }
  return uf_clamped(block->form, uf_bytes_of_sums(block->form, v0, v1, v2, v3, block), block);
}

#include "pairs.h"

const uf_kernel depthwise_conv2d__neon = {
    .name = "depthwise_conv2d__neon",
    .level = UF_NEON,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .scratch_size = scratch_size,
    .run = run,
};
