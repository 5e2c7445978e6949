// The product of avx512vnni.c with weights that rest in 4 bits: each block is unpacked when it is about to be used.
//
// A resting block is its uf_block and, for every vector of 64 weights, 32 bytes: the first 32 weights in their low
// halves, the others in their high ones.

#include "../tile_avx512vnni.h"
#include "gemm.h"

enum { LEAST = -8, GREATEST = 7, RESTING_BYTES = UF_ALIGNMENT / 2 };

static const uf_gemm_level *const whole = &uf_gemm__avx512vnni;

// One block as a product of its own.
static uf_gemm_shape block_shape(const uf_gemm_shape *shape, int64_t block) {
  const int64_t left = shape->channels - block * whole->block_channels;
  const uf_gemm_shape alone = {left < whole->block_channels ? left : whole->block_channels, shape->taps, shape->depth};
  return alone;
}

static int64_t weight_vectors(const uf_gemm_shape *block) {
  return (int64_t)((whole->packed_size(block) - sizeof(uf_block)) / UF_ALIGNMENT);
}

static size_t resting_size(const uf_gemm_shape *block) {
  const size_t size = sizeof(uf_block) + (size_t)weight_vectors(block) * RESTING_BYTES;
  return (size + UF_ALIGNMENT - 1) / UF_ALIGNMENT * UF_ALIGNMENT;
}

static size_t resting_offset(const uf_gemm_shape *shape, int64_t block) {
  const uf_gemm_shape first = block_shape(shape, 0);  // all but the last are alike
  return (size_t)block * resting_size(&first);
}

// Blocks are packed where they will rest, so there is room for the last one as it is before.
static size_t packed_size(const uf_gemm_shape *shape) {
  const int64_t last = uf_gemm_blocks(whole, shape) - 1;
  const uf_gemm_shape first = block_shape(shape, 0);
  return resting_offset(shape, last) + whole->packed_size(&first);
}

// Halves the weights in place: what is written lies at or before what is read next.
static void rest(int8_t *weights, int64_t vectors) {
  uint8_t *out = (uint8_t *)weights;
  for (int64_t vector = 0; vector < vectors; ++vector) {
    const int8_t *low = weights + vector * UF_ALIGNMENT, *high = low + RESTING_BYTES;
    for (int i = 0; i < RESTING_BYTES; ++i) *out++ = (uint8_t)((low[i] & 15) | (high[i] & 15) << 4);
  }
}

static void pack(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed) {
  for (int64_t block = 0; block < uf_gemm_blocks(whole, shape); ++block) {
    const uf_gemm_shape alone = block_shape(shape, block);
    uint8_t *place = (uint8_t *)packed + resting_offset(shape, block);
    memset(place, 0, whole->packed_size(&alone));  // the block before has lain here until it was halved
    whole->pack(linear, &alone, first + block * whole->block_channels, place);
    rest((int8_t *)place + sizeof(uf_block), weight_vectors(&alone));
  }
}

static void unpack(const uint8_t *resting, int64_t vectors, uint8_t *block) {
  memcpy(block, resting, sizeof(uf_block));
  const uint8_t *from = resting + sizeof(uf_block);
  uint8_t *to = block + sizeof(uf_block);
  const __m256i half = _mm256_set1_epi8(15);
  const __m512i sign = _mm512_set1_epi8(8);
  for (; vectors > 0; --vectors, from += RESTING_BYTES, to += UF_ALIGNMENT) {
    const __m256i pairs = _mm256_load_si256((const void *)from);
    const __m256i low = _mm256_and_si256(pairs, half), high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), half);
    const __m512i bits = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    _mm512_store_si512(to, _mm512_sub_epi8(_mm512_xor_si512(bits, sign), sign));
  }
}

static size_t scratch_size(const uf_gemm_shape *shape) {
  const uf_gemm_shape first = block_shape(shape, 0);
  return whole->packed_size(&first);
}

static void run(const uf_gemm *gemm, uf_range blocks) {
  uf_gemm one = *gemm;
  one.packed = gemm->scratch;
  one.ahead = NULL;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    one.shape = block_shape(&gemm->shape, block);
    one.out = gemm->out + block * whole->block_channels;
    unpack(gemm->packed + resting_offset(&gemm->shape, block), weight_vectors(&one.shape), gemm->scratch);
    whole->run(&one, (uf_range){0, 1});
  }
}

const uf_gemm_level uf_gemm__avx512vnni_int4 = {
    .least_weight = LEAST,
    .greatest_weight = GREATEST,
    .takes_even = true,
    .long_panels = true,
    .block_channels = UF_TILE_CHANNELS,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
    .scratch_size = scratch_size,
};
