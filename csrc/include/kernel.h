// The interface between the engine and its kernels (C99, also read by C++).
//
// A *kernel* computes one operator. A *node* is one instruction of a Program made ready for a kernel: tensor views,
// parameters, packed weights. The engine checks everything once, at load; kernels check nothing and never fail.
//
// Storage: an activation is a byte, `code + offset`, with offset 128 for int8 codes and 0 for uint8 codes, so that
// every activation is unsigned (what x86's dot products want). Zero points, clamps and pad values are shifted by the
// same offset at load: a kernel sees *byte-space* numbers in [0, 255] and rarely needs the offset itself. int16 codes
// are words of two bytes, as they are; their zero point is 0.

#ifndef UNFLOAT_KERNEL_H_
#define UNFLOAT_KERNEL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qmath.h"
#include "qmath_resize.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  UF_MAX_RANK = 6,
  UF_AHEAD = 128 << 10,  // bytes past packed weights that may be prefetched: those of layers that run next
  UF_ALIGNMENT = 64,     // of packed weights, scratch and the arena's start; a tensor inside the arena may have less
  UF_SLACK =
      64,  // bytes that may be *read* past the end of a tensor, a constant, packed weights or scratch; never written
};

// What a kernel needs from the CPU, slowest first. `level.cc` knows their names and how to detect them.
typedef enum {
  UF_SCALAR,
  UF_AVX2,  // x86-64
  UF_AVXVNNI,
  UF_AVX512VL,
  UF_AVX512VNNI,
  UF_AMX,
  UF_NEON,  // Arm64
  UF_DOTPROD,
  UF_I8MM,
} uf_level;

// Contiguous bytes or words, channels last. shape[0] is the batch; at load (supports, pack, scratch_size) it is 1.
// A constant operand has its own leading 1.
typedef struct {
  uint8_t *data;
  int32_t offset;  // byte = code + offset: 128 for int8, 0 for uint8 and int16
  int32_t width;   // bytes of a code: 2 for int16, else 1
  int32_t rank;
  int32_t shape[UF_MAX_RANK];
} uf_tensor;

// How results leave: q = min(max(requantize(...) + zero_point, clamp_min), clamp_max), all in byte space.
typedef struct {
  int32_t zero_point;
  int32_t clamp_min;
  int32_t clamp_max;
  qmath_rounding rounding;
} uf_output;

// A sliding window. Padding bottom and right follow from the shapes.
typedef struct {
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t dilation_h, dilation_w;
  int32_t pad_top, pad_left;
} uf_window;

// conv2d, depthwise_conv2d, fully_connected, transpose_conv2d: acc = bias[o] + sum (w - weight_zero_point) * (x -
// input_zero_point). Weights are signed; uint8 weights were shifted by -128 together with their zero point. Padding
// adds nothing.
typedef struct {
  uf_window window;  // unused by fully_connected; of transpose_conv2d the padding is what is cropped in front
  int32_t groups;    // conv2d only
  int32_t input_zero_point;
  int32_t weight_zero_point;
  const int8_t *weight;       // conv2d [Cout, kh, kw, Cin / groups]; depthwise [kh, kw, C * m]; fully_connected [N, K]
  const int32_t *bias;        // [outputs], as are the next three
  const int64_t *wide_bias;   // instead of `bias` where the input is int16
  const int32_t *multiplier;  // reduced to 15 bits where the input is int16
  const int8_t *shift;        // positive to the left, -31..30
  uf_output output;
} uf_linear;

// add, sub: v_i = requantize((q_i - Z_i) << left_shift, ...); q = requantize(v_0 + sign * v_1, ...).
typedef struct {
  int32_t sign;  // 1, or -1 for a difference
  int32_t left_shift;
  int32_t input_zero_point[2];
  int32_t input_multiplier[2];
  int32_t input_shift[2];
  int32_t multiplier;
  int32_t shift;
  uf_output output;
} uf_add;

// mul, mean, sum, rescale, batch_matmul: one multiplier, reduced to 15 bits for 64-bit accumulators. mul and
// batch_matmul have two inputs. `axes` has a bit for each axis of mean and sum, and for each transposed input of
// batch_matmul. l2_normalization has the zero point alone.
typedef struct {
  int32_t input_zero_point[2];
  int32_t multiplier;
  int32_t shift;
  uint32_t axes;
  uf_output output;
} uf_scale;

// pad, concatenation, transpose, slice, gather: codes that only move; reduce_max, reduce_min, arg_max: that compare.
typedef struct {
  int32_t before[UF_MAX_RANK];       // pad: cells before the input, along each axis; slice: the first cell taken
  int32_t value;                     // pad: the byte or word around it
  int32_t axis;                      // concatenation, gather, arg_max
  int32_t permutation[UF_MAX_RANK];  // transpose: output axis i is input axis permutation[i]
  int32_t stride[UF_MAX_RANK];       // slice: cells from one that is taken to the next, not 0
  const int32_t *indices;            // gather: the cells of the axis that are taken, one for each of the output
  uint32_t axes;                     // reduce_max, reduce_min: a bit for each axis
} uf_move;

// softmax and log_softmax over the last axis, fixed point as in TFLite's reference kernels.
typedef struct {
  int32_t multiplier;
  int32_t shift;                              // to the left; of int16 codes, either way
  int32_t diff_min;                           // differences to the row's maximum below it give 0
  int32_t reverse_multiplier, reverse_shift;  // log_softmax: from Q5.26 to codes
} uf_softmax;

// resize_bilinear.
typedef struct {
  qmath_axis rows, columns;
} uf_resize;

// logistic, tanh, hard_swish, gelu: a table of all bytes; or of the ends of segments, for words (see
// qmath_along_curve).
typedef struct {
  const uint8_t *bytes;  // [256], byte to byte
  const int16_t *ends;   // [257]
  qmath_curve curve;
} uf_lookup;

// leaky_relu, abs, prelu: one factor from 0 on and one below it, there of the step times the sign, or times the slope.
typedef struct {
  int32_t input_zero_point[2];  // prelu: of the value and of the slopes
  int32_t multiplier, shift;
  int32_t below_sign;
  int32_t below_multiplier, below_shift;
  uf_output output;
} uf_slopes;

// svdf: feature = clamp(requantize(sum w * (x - input_zero_point))), remembered;
// acc = bias[o] + sum time * feature, over the filters of an output and the runs they remember.
typedef struct {
  const int8_t *weight;  // [filters, inputs]
  const int16_t *time;   // [filters, memory]
  const int32_t *bias;   // [outputs]
  int32_t rank;          // filters of an output
  int32_t memory;
  int32_t input_zero_point;
  int32_t feature_multiplier, feature_shift;
  int32_t state_min, state_max;
  int32_t multiplier, shift;
  uf_output output;
} uf_svdf;

// lstm: gates input, forget, cell, output; weights are symmetric.
typedef struct {
  const int8_t *weight;       // [4, units, inputs]
  const int8_t *recurrent;    // [4, units, units]
  const int32_t *bias;        // [4, units]
  const int32_t *multiplier;  // [8]: of each gate's sum over the input, then of those over the last output
  const int8_t *shift;        // [8]
  const int16_t *logistic;    // [257], as are the next: ends of segments, see qmath_along_curve
  const int16_t *tanh;
  int32_t input_zero_point;
  int32_t cell_multiplier, cell_shift;  // of input gate times cell gate
  int32_t cell_min, cell_max;
  qmath_curve curve;                        // tanh of the cell
  int32_t output_multiplier, output_shift;  // of output gate times that
  bool carried;                             // whether the state stays from one run to the next
  uf_output output;
} uf_lstm;

typedef union {
  uf_linear linear;
  uf_window window;  // average_pool2d, max_pool2d
  uf_add add;
  uf_scale scale;
  uf_move move;
  uf_softmax softmax;
  uf_resize resize;
  uf_lookup lookup;
  uf_slopes slopes;
  uf_svdf svdf;
  uf_lstm lstm;
} uf_params;

typedef struct uf_node uf_node;

enum { UF_FOUND = 32 };  // bytes of uf_node.found

// An elementwise operator on `count` codes of each of its two inputs. `out` may be `a` or `b` itself.
typedef void (*uf_span)(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count);

struct uf_node {
  int32_t input_count;
  const uf_tensor *const *inputs;
  const uf_tensor *output;
  uf_params params;
  void *found;         // UF_FOUND bytes, at load: what supports() found out, for pack() of the same kernel
  const void *packed;  // what pack() wrote; behind it, in the engine, lies what the layers after this one packed
  uint8_t *scratch;    // of all threads; see uf_scratch
  size_t scratch_stride;
  int16_t *state;  // what runs leave to the next one, sample by sample; all 0 at the start
  // An elementwise operator on this node's output and another tensor of its shape, a residual addition; or NULL.
  const uf_node *follower;
  uf_span follower_span;
};

// Which tensors a kernel takes: of bytes, of words, or of either, mixed ones too.
typedef enum { UF_BYTES, UF_WORDS, UF_ANY_STORAGE } uf_storage;

// A kernel. The functions that may be NULL say so. The output overlaps no input, except that of operators that are
// `in_place` (src/unfloat/ops), which may be given one of their inputs as the output. At load, in this order: supports,
// packed_size, pack, scratch_size. Where packed_size() > 0 `linear.weight` is gone after pack(): run() must use
// `packed` for weights; bias, multiplier and shift stay. None of the load-time answers may depend on the batch.
typedef struct {
  const char *name;  // "<family>__<variant>", the family being the operator's name or the one its loader names
  uf_level level;    // run() may use its instructions; the other functions too
  bool (*supports)(const uf_node *node);            // NULL: every node. False: the next kernel of the list is asked
  size_t (*packed_size)(const uf_node *node);       // NULL: nothing to pack
  void (*pack)(const uf_node *node, void *packed);  // into zeroed memory
  size_t (*scratch_size)(const uf_node *node);      // bytes for each thread; NULL: none
  size_t (*state_size)(const uf_node *node);        // words of `state` for each sample; NULL: none
  // One thread's share of the work; called once for each thread in [0, threads), at the same time. Every output byte
  // has exactly one writer and its value does not depend on `threads`.
  void (*run)(const uf_node *node, int thread, int threads);
  uf_storage storage;
  uf_span span;  // of an elementwise operator of two inputs, else NULL
  bool leads;    // run() calls uf_follow() for what it has written, while that is in the cache
} uf_kernel;

// Runs the follower, which the node has, on `count` bytes from `at` on that this thread has just written.
static inline void uf_follow(const uf_node *node, int64_t at, int64_t count) {
  const uf_node *next = node->follower;
  node->follower_span(next, next->inputs[0]->data + at, next->inputs[1]->data + at, next->output->data + at, count);
}

// A thread's scratch memory: UF_ALIGNMENT-aligned, contents undefined.
static inline void *uf_scratch(const uf_node *node, int thread) {
  return node->scratch + node->scratch_stride * (size_t)thread;
}

typedef struct {
  int64_t begin, end;
} uf_range;

// The static split: the thread's share of `count` items, in chunks of `grain` (>= 1), as even as that allows.
static inline uf_range uf_share(int64_t count, int64_t grain, int thread, int threads) {
  const int64_t chunks = (count + grain - 1) / grain;
  const int64_t begin = chunks * thread / threads * grain;
  const int64_t end = chunks * (thread + 1) / threads * grain;
  const uf_range share = {begin < count ? begin : count, end < count ? end : count};
  return share;
}

// The product of shape[from..to).
static inline int64_t uf_volume(const uf_tensor *tensor, int from, int to) {
  int64_t volume = 1;
  for (int axis = from; axis < to; ++axis) volume *= tensor->shape[axis];
  return volume;
}

// Codes of the whole tensor.
static inline int64_t uf_size(const uf_tensor *tensor) { return uf_volume(tensor, 0, tensor->rank); }

// Whether every weight lies in [least, greatest]: from -127 on where two products are added in 16 bits (files made by
// others may hold -128), or 4 bits.
static inline bool uf_weights_within(const int8_t *weight, int64_t count, int least, int greatest) {
  if (least <= INT8_MIN && greatest >= INT8_MAX) return true;
  for (int64_t i = 0; i < count; ++i) {
    if (weight[i] < least || weight[i] > greatest) return false;
  }
  return true;
}

// Rescales one accumulator and clamps it to a byte.
static inline uint8_t uf_emit(int32_t accumulator, int32_t multiplier, int shift, const uf_output *output) {
  const int32_t scaled = qmath_requantize(accumulator, multiplier, shift, output->rounding);
  return (uint8_t)qmath_clamp_sum(scaled, output->zero_point, output->clamp_min, output->clamp_max);
}

// The same from a 64-bit accumulator to an int16 code.
static inline int16_t uf_emit_word(int64_t accumulator, int32_t reduced_multiplier, int shift,
                                   const uf_output *output) {
  const int32_t scaled = qmath_requantize_acc64(accumulator, reduced_multiplier, shift);
  return (int16_t)qmath_clamp(scaled, output->clamp_min, output->clamp_max);
}

// `kernels/<family>/kernels.inc` holds one row for each kernel of the family, fastest first, scalar last:
//
//   #ifdef UF_X86_64
//   UF_KERNEL(conv2d, avx512vnni)
//   UF_KERNEL(conv2d, avx2)
//   #endif
//   UF_KERNEL(conv2d, scalar)
//
// and stands for `const uf_kernel conv2d__avx512vnni = {...}` in avx512vnni.c (C11), and so on. A file may define
// several kernels (UF_KERNEL(conv2d, avx512vnni_pointwise)). CMake finds every `kernels/*/<level>.c` and `<level>_*.c`
// and collects the lists; the engine's declarations and dispatch, the tests and the benchmarks all expand the same
// rows.

// UF_DEFINE_KERNEL(mul, .run = run) in scalar.c defines mul__scalar. Loops that compilers vectorise well need no kernel
// of their own at another level: <level>.c then defines the two macros below and includes scalar.c.
#ifndef UF_VARIANT
#define UF_VARIANT scalar
#define UF_VARIANT_LEVEL UF_SCALAR
#endif
#define UF_DEFINE_KERNEL(family, ...) UF_DEFINE_KERNEL_OF(family, UF_VARIANT, __VA_ARGS__)
#define UF_DEFINE_KERNEL_OF(family, variant, ...) UF_DEFINE_KERNEL_AS(family, variant, __VA_ARGS__)
#define UF_DEFINE_KERNEL_AS(family, variant, ...) \
  UF_DEFINE_ENTRY(family##__##variant)            \
  const uf_kernel family##__##variant = {.name = #family "__" #variant, .level = UF_VARIANT_LEVEL, __VA_ARGS__}

// Outside the engine, in exported C, a network calls mul__scalar_run(&node) and a linker that drops unused sections
// keeps nothing of a kernel but its run().
#ifdef UF_ENGINE
#define UF_DEFINE_ENTRY(kernel)
#else
#define UF_DEFINE_ENTRY(kernel)           \
  void kernel##_run(const uf_node *node); \
  void kernel##_run(const uf_node *node) { run(node, 0, 1); }
#endif

#ifdef __cplusplus
}
#endif

#endif  // UNFLOAT_KERNEL_H_
