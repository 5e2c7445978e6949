// A level's rescaling against qmath.h, bit for bit: the exact form on accumulators of every size, the absorbed form
// around every level that a channel's accumulators can cross, for all shifts, both roundings, clamped or not.
//
// The file that includes it is built with the level's flags and has defined LANES; ADDS_TO_WORDS, whether kernels add
// the absorbed form's addends to words; bits_of, the shift of a channel's absorbed form; rescale_exact and
// rescale_absorbed, which give LANES results of one channel, in the latter case without addends that are added to
// words.

#include <stdio.h>

enum { CHANNELS = 20000, SKIPPED = 77 };

static uint64_t random_bits(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state >> 8;
}

static int32_t between(int32_t low, int32_t high) {
  return (int32_t)(low + (int64_t)(random_bits() % (uint64_t)((int64_t)high - low + 1)));
}

static qmath_channel random_channel(int shift) {
  static const int32_t corners[] = {0, 1 << 30, (1 << 30) + 1, INT32_MAX};
  const bool corner = random_bits() % 8 == 0, clamped = random_bits() % 2;
  const qmath_rounding rounding = random_bits() % 2 ? QMATH_SINGLE : QMATH_DOUBLE;
  const int32_t multiplier = corner ? corners[random_bits() % 4] : between(1 << 30, INT32_MAX);
  const int32_t zero_point = between(0, 2) == 0 ? 0 : between(0, 255);
  const int32_t clamp_min = clamped ? zero_point : random_bits() % 2 ? 0 : between(0, 255);
  const int32_t clamp_max = between(clamp_min, 255);
  const int64_t span = (int64_t)(random_bits() % ((uint64_t)1 << between(0, 29)));
  const int64_t low = -(int64_t)(random_bits() % (uint64_t)(span + 1));
  const qmath_channel channel = {multiplier, shift, rounding, zero_point, clamp_min, clamp_max, low, low + span};
  return channel;
}

static int32_t expected(const qmath_channel *channel, int32_t accumulator) {
  const int32_t scaled = qmath_requantize(accumulator, channel->multiplier, channel->shift, channel->rounding);
  return qmath_clamp_sum(scaled, channel->zero_point, channel->clamp_min, channel->clamp_max);
}

static long check_exact(const qmath_channel *channel) {
  _Alignas(64) int32_t in[LANES], out[LANES];
  for (int i = 0; i < LANES; ++i) in[i] = (int32_t)(uint32_t)random_bits() >> between(0, 31);
  in[0] = INT32_MIN, in[1] = INT32_MAX, in[2] = -1, in[3] = 1;
  rescale_exact(channel, in, out);
  long wrong = 0;
  for (int i = 0; i < LANES; ++i) wrong += out[i] != expected(channel, in[i]);
  return wrong;
}

// What kernels do with results that lack addends: they become words, which saturate, and so do the sums.
static void add_to_words(const qmath_absorbed *absorbed, const int32_t *in, int32_t *out) {
  for (int i = 0; i < LANES; ++i) {
    const int64_t addend = in[i] < absorbed->offset ? absorbed->negative_addend : absorbed->addend;
    const int32_t word = qmath_clamp(out[i], INT16_MIN, INT16_MAX);
    out[i] = qmath_clamp(word + (int32_t)addend, INT16_MIN, INT16_MAX);
  }
}

// As many accumulators as there are lanes from `first` on, those outside of the channel's range excepted.
static long check_absorbed_from(const qmath_channel *channel, const qmath_absorbed *absorbed, int64_t first) {
  _Alignas(64) int32_t in[LANES], out[LANES];
  for (int i = 0; i < LANES; ++i) in[i] = (int32_t)(uint32_t)(first + i + absorbed->offset);
  rescale_absorbed(channel, absorbed, in, out);
  if (ADDS_TO_WORDS) add_to_words(absorbed, in, out);
  long wrong = 0;
  for (int64_t a = first; a < first + LANES; ++a) {
    if (a < channel->low || a > channel->high) continue;
    const int32_t byte = qmath_clamp(out[a - first], channel->clamp_min, channel->clamp_max);
    wrong += byte != expected(channel, (int32_t)a);
  }
  return wrong;
}

// The least accumulator in [low, high + 1] whose result reaches a level, by bisection: requantization is monotone.
static int64_t threshold_of(const qmath_channel *channel, int32_t level) {
  int64_t low = channel->low, high = channel->high + 1;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    const bool reaches =
        qmath_requantize((int32_t)middle, channel->multiplier, channel->shift, channel->rounding) >= level;
    if (reaches) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

static long check_absorbed(const qmath_channel *channel, const qmath_absorbed *absorbed) {
  long wrong = check_absorbed_from(channel, absorbed, channel->low) +
               check_absorbed_from(channel, absorbed, channel->high - LANES + 1) +
               check_absorbed_from(channel, absorbed, -LANES / 2);
  for (int32_t level = channel->clamp_min + 1; level <= channel->clamp_max; ++level) {
    const int64_t threshold = threshold_of(channel, level - channel->zero_point);
    wrong += check_absorbed_from(channel, absorbed, threshold - LANES / 2);
  }
  return wrong;
}

// Nearly all right shifts must have an absorbed form, a bent one now and then, and many addends be those of words, or
// this test would prove little.
__attribute__((noinline)) static int check_channels(void) {
  long wrong = 0, found = 0, bent = 0, run = 0, right_shifts = 0;
  for (int i = 0; i < CHANNELS; ++i) {
    const qmath_channel channel = random_channel(i % 62 - 31);
    qmath_absorbed absorbed;
    wrong += check_exact(&channel);
    right_shifts += channel.shift <= 0;
    if (!qmath_absorb(&channel, bits_of(&channel), &absorbed)) continue;
    ++found;
    if (ADDS_TO_WORDS && !qmath_adds_to_words(&channel, &absorbed)) continue;
    ++run;
    bent += qmath_is_bent(&absorbed);
    wrong += check_absorbed(&channel, &absorbed);
  }
  printf("%ld of %ld channels absorbed, %ld run, %ld of them bent; %ld wrong bytes\n", found, right_shifts, run, bent,
         wrong);
  return wrong != 0 || found < right_shifts * 9 / 10 || run < found / 2 || bent == 0;
}
