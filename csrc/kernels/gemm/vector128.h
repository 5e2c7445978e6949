// The matrix product with vectors of 128 bits: Arm's Advanced SIMD (C11). The file that includes it defines UF_GEMM,
// the level's name, and UF_DOT4 where the CPU adds four products of bytes in one instruction: of signed bytes, or, with
// UF_MIXED_SIGNS, of unsigned by signed ones; UF_DOT4_LANE takes one of four inputs of four bytes each.
//
// Without UF_DOT4, two products of signed bytes are added in 16 bits (the paper's appendix B: they fit, as no weight is
// -128), and pairs of these in 32.

#include "../block16.h"
#include "gemm.h"

enum { STEP_DEPTH = 4, STEP_INPUT_BYTES = 4 };

#ifdef UF_DOT4
#define WIDE_STEPS 4  // a vector holds the inputs of so many steps
enum { TILE_ROWS = 4, LEAST_WEIGHT = INT8_MIN };
#else
enum { TILE_ROWS = 4, LEAST_WEIGHT = -INT8_MAX };
#endif

#ifdef UF_MIXED_SIGNS
enum { LOWERED = 0 };
#else
enum { LOWERED = 128 };
#endif

static int lane_channel(int vector, int lane) { return 4 * vector + lane; }

static int half_lane_channel(int vector, int lane) { return lane_channel(vector, lane); }

static int weight_place(int channel, int k, bool half) {
  (void)half;
#ifdef UF_DOT4
  return channel * 4 + k;
#else  // a half of a vector is multiplied at a time: two weights of four channels
  return channel / 4 * 16 + k / 2 * 8 + channel % 4 * 2 + k % 2;
#endif
}

typedef struct {
  int32x4_t v0, v1, v2, v3;
} row_type;

UF_INLINE row_type start_row(const uf_block16 *block) {
  const row_type row = {uf_start(block, 0), uf_start(block, 1), uf_start(block, 2), uf_start(block, 3)};
  return row;
}

typedef row_type weights_type;

UF_INLINE weights_type load_weights(const void *w) {
  const int8_t *weights = w;
  const row_type row = {vreinterpretq_s32_s8(vld1q_s8(weights)), vreinterpretq_s32_s8(vld1q_s8(weights + 16)),
                        vreinterpretq_s32_s8(vld1q_s8(weights + 32)), vreinterpretq_s32_s8(vld1q_s8(weights + 48))};
  return row;
}

#ifdef UF_DOT4

#ifdef UF_MIXED_SIGNS
typedef uint8x16_t input_type;
UF_INLINE input_type signs_of(uint8x16_t x) { return x; }
#else
typedef int8x16_t input_type;
UF_INLINE input_type signs_of(uint8x16_t x) { return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(LOWERED))); }
#endif

// One step of a row, whose run is at x.
UF_INLINE void dot_row(row_type *acc, const uint8_t *x, const row_type *weights, bool half) {
  uint32_t four;
  memcpy(&four, x, sizeof four);
  const input_type a = signs_of(vreinterpretq_u8_u32(vdupq_n_u32(four)));
  acc->v0 = UF_DOT4(acc->v0, vreinterpretq_s8_s32(weights->v0), a);
  acc->v1 = UF_DOT4(acc->v1, vreinterpretq_s8_s32(weights->v1), a);
  if (half) return;
  acc->v2 = UF_DOT4(acc->v2, vreinterpretq_s8_s32(weights->v2), a);
  acc->v3 = UF_DOT4(acc->v3, vreinterpretq_s8_s32(weights->v3), a);
}

UF_INLINE input_type load_wide(const uint8_t *x) { return signs_of(vld1q_u8(x)); }

// The pointer itself, not known before the accumulator is: weights that are loaded earlier cost registers, and gcc
// would spill accumulators for them.
#define FOLLOWING(pointer, acc)               \
  __extension__({                             \
    const uint8_t *following = (pointer);     \
    __asm__("" : "+r"(following), "+w"(acc)); \
    following;                                \
  })

// One of a wide input's steps; a macro, because the instruction names its lane.
#define DOT_STEP(acc, x, weights, step, half)                                          \
  do {                                                                                 \
    (acc)->v0 = UF_DOT4_LANE((acc)->v0, vreinterpretq_s8_s32((weights)->v0), x, step); \
    (acc)->v1 = UF_DOT4_LANE((acc)->v1, vreinterpretq_s8_s32((weights)->v1), x, step); \
    if (half) break;                                                                   \
    (acc)->v2 = UF_DOT4_LANE((acc)->v2, vreinterpretq_s8_s32((weights)->v2), x, step); \
    (acc)->v3 = UF_DOT4_LANE((acc)->v3, vreinterpretq_s8_s32((weights)->v3), x, step); \
  } while (0)

#else

UF_INLINE int8x8_t two_bytes(const uint8_t *x) {
  uint16_t two;
  memcpy(&two, x, sizeof two);
  return vreinterpret_s8_u8(veor_u8(vreinterpret_u8_u16(vdup_n_u16(two)), vdup_n_u8(LOWERED)));
}

UF_INLINE int32x4_t dot_vector(int32x4_t acc, int8x8_t first, int8x8_t second, int32x4_t weights) {
  const int8x16_t w = vreinterpretq_s8_s32(weights);
  return vpadalq_s16(acc, vmlal_s8(vmull_s8(vget_low_s8(w), first), vget_high_s8(w), second));
}

// One step of a row, whose run is at x.
UF_INLINE void dot_row(row_type *acc, const uint8_t *x, const row_type *weights, bool half) {
  const int8x8_t first = two_bytes(x), second = two_bytes(x + 2);
  acc->v0 = dot_vector(acc->v0, first, second, weights->v0);
  acc->v1 = dot_vector(acc->v1, first, second, weights->v1);
  if (half) return;
  acc->v2 = dot_vector(acc->v2, first, second, weights->v2);
  acc->v3 = dot_vector(acc->v3, first, second, weights->v3);
}

#endif

#define BEGIN_ROW(row, x) (void)0
#define NEXT_ROW(at, acc, half) (void)0

// The 16 bytes of a row, not clamped.
UF_INLINE uf_bytes row_bytes(const row_type *row, const uf_block16 *block, uf_form form) {
  return uf_bytes_of_sums(form, row->v0, row->v1, row->v2, row->v3, block);
}

// The first 8 of them.
UF_INLINE uf_bytes half_row_bytes(const row_type *row, const uf_block16 *block, uf_form form) {
  return uf_half_bytes_of_sums(form, row->v0, row->v1, block);
}

#include "blocks.h"
