// Indirect matrix product on packed weights: the core of conv2d and fully_connected at the vector levels (C11).
//
// A row of the left matrix is `taps` runs of `depth` contiguous bytes, each found by a pointer: a pixel of a 1x1
// convolution is one run, a window is one run a tap, and a padding cell points to a run of zero points.

#ifndef UNFLOAT_KERNELS_GEMM_GEMM_H_
#define UNFLOAT_KERNELS_GEMM_GEMM_H_

#include "../channel.h"

typedef struct {
  int64_t channels;  // of the output
  int64_t taps;
  int64_t depth;
} uf_gemm_shape;

enum {
  UF_GEMM_GRAIN = 4,  // rows: runs can be read up to the next multiple
};

typedef struct {
  uf_gemm_shape shape;
  const uint8_t *packed;
  const uint8_t *ahead;  // as many bytes that are read soon, to be fetched on the way; or NULL
  // Pointers to runs, [taps][table_stride].
  const uint8_t *const *table;
  int64_t table_stride;
  int64_t table_offset;  // added to every pointer
  bool words;            // the table's runs are of words, which the level's widen() made
  // Or, where the level takes them and this is not NULL, even runs: that of row r under tap t is at
  // even + t * tap_stride + r * run_stride, and the table is not read.
  const uint8_t *even;
  int64_t tap_stride, run_stride;
  int64_t rows;
  uint8_t *out;  // row 0, channel 0
  int64_t out_stride;
  uint8_t *scratch;  // where the level asks for it
} uf_gemm;

// One level's product.
typedef struct {
  int least_weight, greatest_weight;  // that the product can take
  bool takes_even;
  bool long_panels;        // each panel of rows costs much beside its rows: unpacking weights, setting up tiles
  int64_t block_channels;  // outputs are computed in blocks of so many channels
  // Packs the output channels [first, first + channels) of a node whose weights are [outputs, taps, depth].
  size_t (*packed_size)(const uf_gemm_shape *shape);
  void (*pack)(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed);
  // Computes the given blocks of all rows. Up to three bytes behind each run are read, and meet zero weights.
  void (*run)(const uf_gemm *gemm, uf_range blocks);
  size_t (*scratch_size)(const uf_gemm_shape *shape);  // aligned bytes for each thread; NULL: none
  // Where inputs are multiplied as words, what makes such of `count` bytes: runs that overlap are better made words by
  // the caller. NULL: runs are of bytes.
  void (*widen)(const uint8_t *bytes, int64_t count, int16_t *words);
  bool (*pays)(const uf_gemm_shape *shape);  // whether the level below would take longer; NULL: always
} uf_gemm_level;

extern const uf_gemm_level uf_gemm__amx, uf_gemm__avx512vnni_int4, uf_gemm__avx512vnni, uf_gemm__avx512vl,
    uf_gemm__avxvnni, uf_gemm__avx2_paired, uf_gemm__avx2, uf_gemm__i8mm, uf_gemm__dotprod, uf_gemm__neon;

static inline int64_t uf_gemm_blocks(const uf_gemm_level *level, const uf_gemm_shape *shape) {
  return (shape->channels + level->block_channels - 1) / level->block_channels;
}

// Whether a level's product can take the weights of a node, `groups` times that shape, and should.
static inline bool uf_gemm_takes(const uf_gemm_level *level, const uf_gemm_shape *shape, int64_t groups,
                                 const uf_linear *linear) {
  const int64_t count = groups * shape->channels * shape->taps * shape->depth;
  return linear->weight_zero_point == 0 && (level->pays == NULL || level->pays(shape)) &&
         uf_weights_within(linear->weight, count, level->least_weight, level->greatest_weight);
}

static inline size_t uf_gemm_scratch(const uf_gemm_level *level, const uf_gemm_shape *shape) {
  return level->scratch_size == NULL ? 0 : level->scratch_size(shape);
}

#endif  // UNFLOAT_KERNELS_GEMM_GEMM_H_
