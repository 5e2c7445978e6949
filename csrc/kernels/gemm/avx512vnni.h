// Indirect matrix product on packed weights: the core of conv2d and fully_connected (C11, AVX-512 VNNI).
//
// A row of the left matrix is `taps` runs of `depth` contiguous bytes, each found by a pointer: a pixel of a 1x1
// convolution is one run, a window is one run a tap, and a padding cell points to a run of zero points.

#ifndef UNFLOAT_KERNELS_GEMM_AVX512VNNI_H_
#define UNFLOAT_KERNELS_GEMM_AVX512VNNI_H_

#include "kernel.h"

typedef struct {
  int64_t channels;  // of the output
  int64_t taps;
  int64_t depth;
} uf_gemm_shape;

// Outputs are computed in blocks of 64 channels.
int64_t uf_gemm_blocks(const uf_gemm_shape *shape);

// Packs the output channels [first, first + channels) of a node whose weights are [outputs, taps, depth].
size_t uf_gemm_packed_size(const uf_gemm_shape *shape);
void uf_gemm_pack(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed);

enum { UF_GEMM_GRAIN = 4 };

typedef struct {
  uf_gemm_shape shape;
  const uint8_t *packed;
  // Pointers to runs, [taps][table_stride]. As some rows are computed together, there are valid pointers up to the next
  // multiple of UF_GEMM_GRAIN.
  const uint8_t *const *table;
  int64_t table_stride;
  int64_t table_offset;  // added to every pointer of the table
  int64_t rows;
  uint8_t *out;  // row 0, channel 0
  int64_t out_stride;
} uf_gemm;

// Computes the given blocks of all rows. Up to three bytes behind each run are read, and meet zero weights.
void uf_gemm_run(const uf_gemm *gemm, uf_range blocks);

#endif  // UNFLOAT_KERNELS_GEMM_AVX512VNNI_H_
