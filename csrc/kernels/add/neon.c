// Addition with two products for each half of a plane (C11, Arm's Advanced SIMD; see plane.h).

#define UF_VARIANT neon
#define UF_VARIANT_LEVEL UF_NEON

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

typedef struct {
  half_plane4 plane;
  uint8x8_t least, most;
} sums_type;

enum { WIDTH = 8 };

static inline sums_type load_sums(const uf_node *node) {
  const uf_output *output = &node->params.add.output;
  const sums_type with = {load_plane(node->packed), vdup_n_u8((uint8_t)output->clamp_min),
                          vdup_n_u8((uint8_t)output->clamp_max)};
  return with;
}

static inline void add_bytes(const sums_type *with, const uint8_t *a, const uint8_t *b, uint8_t *out) {
  const uint8x8_t sums = add8(vld1_u8(a), vld1_u8(b), &with->plane);
  vst1_u8(out, vmax_u8(vmin_u8(sums, with->most), with->least));
}

#include "spans.h"

UF_DEFINE_KERNEL(UF_FAMILY, .supports = supports, .packed_size = packed_size, .pack = pack, .run = run, .span = span);
