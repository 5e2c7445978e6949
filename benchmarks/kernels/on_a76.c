// The loops that a76.py simulates: what follows a product, and a depthwise convolution, 16 channels at a time.

#include "depthwise_conv2d/neon.c"

// Accumulators of a block, one pixel after the other, to bytes.
void rescale(const int32_t *sums, const uf_block16 *block, int64_t pixels, uint8_t *out) {
  if (block->form != UF_ABSORBED) return;
  for (int64_t i = 0; i < pixels; ++i, sums += UF_BLOCK_CHANNELS, out += UF_BLOCK_CHANNELS) {
    const uf_absorbed_lanes *lanes = block->rescale.absorbed;
    const uf_bytes bytes = uf_narrowed(qmath_rescale_absorbed4(vld1q_s32(sums), &lanes[0]),
                                       qmath_rescale_absorbed4(vld1q_s32(sums + 4), &lanes[1]),
                                       qmath_rescale_absorbed4(vld1q_s32(sums + 8), &lanes[2]),
                                       qmath_rescale_absorbed4(vld1q_s32(sums + 12), &lanes[3]));
    uf_store_bytes(out, uf_clamped(bytes, block));
  }
}

// A pair of taps of a depthwise window, in the loop over pairs.
uf_bytes depthwise(const uint8_t *const *taps, int64_t channel, int pairs, const uf_block16 *block) {
  if (block->form != UF_ABSORBED) __builtin_unreachable();
  return run_block(taps, channel, pairs, block);
}
