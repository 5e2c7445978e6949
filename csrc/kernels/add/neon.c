// Addition with two products for each half of a plane (C11, Arm's Advanced SIMD; see plane.h).

#include <arm_neon.h>

#include "plane.h"

// A plane's halves, the factors of each operand apart.
typedef struct {
  int16_t low[2], high[2];
  int32x4_t low_constant, high_constant, shift;  // to the left: negative
} half_plane4;

static inline half_plane4 load_plane(const qmath_half_plane *plane) {
  const half_plane4 registers = {{(int16_t)plane->low_factors, (int16_t)(plane->low_factors >> 16)},
                                 {(int16_t)plane->high_factors, (int16_t)(plane->high_factors >> 16)},
                                 vdupq_n_s32(plane->low_constant),
                                 vdupq_n_s32(plane->high_constant),
                                 vdupq_n_s32(-plane->shift)};
  return registers;
}

// The heights, not clamped, over 4 pairs of bytes. The low sum never exceeds 2^25, the high one 2^31.
static inline int32x4_t heights(int16x4_t a, int16x4_t b, const half_plane4 *plane) {
  const int32x4_t low = vmlal_n_s16(vmlal_n_s16(plane->low_constant, a, plane->low[0]), b, plane->low[1]);
  const int32x4_t carried = vsraq_n_s32(plane->high_constant, low, 16);
  return vshlq_s32(vmlal_n_s16(vmlal_n_s16(carried, a, plane->high[0]), b, plane->high[1]), plane->shift);
}

static inline uint8x8_t add8(uint8x8_t a, uint8x8_t b, const half_plane4 *plane) {
  const int16x8_t x = vreinterpretq_s16_u16(vmovl_u8(a)), y = vreinterpretq_s16_u16(vmovl_u8(b));
  const int32x4_t first = heights(vget_low_s16(x), vget_low_s16(y), plane);
  const int32x4_t second = heights(vget_high_s16(x), vget_high_s16(y), plane);
  return vqmovun_s16(vcombine_s16(vqmovn_s32(first), vqmovn_s32(second)));
}

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  enum { WIDTH = 8 };
  const uf_output *output = &node->params.add.output;
  const half_plane4 plane = load_plane(node->packed);
  const uint8x8_t least = vdup_n_u8((uint8_t)output->clamp_min), most = vdup_n_u8((uint8_t)output->clamp_max);
  for (int64_t i = 0; i < count; i += WIDTH) {
    uint8_t first[WIDTH] = {0}, second[WIDTH] = {0}, sums[WIDTH];  // of what is left at the end
    const bool whole = count - i >= WIDTH;
    if (!whole) {
      memcpy(first, a + i, (size_t)(count - i));
      memcpy(second, b + i, (size_t)(count - i));
    }
    const uint8x8_t bytes = add8(vld1_u8(whole ? a + i : first), vld1_u8(whole ? b + i : second), &plane);
    vst1_u8(whole ? out + i : sums, vmax_u8(vmin_u8(bytes, most), least));
    if (!whole) memcpy(out + i, sums, (size_t)(count - i));
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

const uf_kernel add__neon = {
    .name = "add__neon",
    .level = UF_NEON,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
};
