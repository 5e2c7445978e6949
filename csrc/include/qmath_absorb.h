// Two forms of a rescaling, found at load (C99). The absorbed form,
//
//     byte = clamp(((accumulator + offset) * factor >> bits) + addend)
//
// equals qmath_requantize, zero point and clamp on every accumulator that a channel can have. One multiplication and no
// rounding: the roundings and the zero point vanish into the accumulator's start value and one added constant. `bits`
// is what the multiplication shifts by for nothing with AVX-512 IFMA: 52. Elsewhere each channel has its own, at which
// the factor is its multiplier; of the product, only the high half is looked at.

#ifndef UNFLOAT_QMATH_ABSORB_H_
#define UNFLOAT_QMATH_ABSORB_H_

#include <stdbool.h>
#include <stdint.h>

#include "qmath.h"

#define QMATH_INLINE static inline __attribute__((always_inline))

__extension__ typedef __int128 qmath_int128;

// One output channel: how its accumulators, known to lie in [low, high], become bytes.
typedef struct {
  int32_t multiplier;
  int shift;
  qmath_rounding rounding;
  int32_t zero_point, clamp_min, clamp_max;  // in byte space
  int64_t low, high;
} qmath_channel;

// Double rounding to the right sends ties away from zero, so its steps below zero lie one unit of the first rounding
// further out: such a channel is *bent*, and negative accumulators get another offset and addend.
typedef struct {
  uint64_t factor;  // below 2^bits
  int64_t offset, addend;
  int64_t negative_offset, negative_addend;  // equal to the two above where the channel is straight
} qmath_absorbed;

static inline bool qmath_is_bent(const qmath_absorbed *absorbed) {
  return absorbed->negative_offset != absorbed->offset || absorbed->negative_addend != absorbed->addend;
}

// The least x >= 0 with low <= a * x mod m <= high, or -1; 0 <= a < m < 2^62, 0 <= low <= high < m. Euclid's algorithm:
// either the first multiple of `a` from `low` on will do, or the question is asked again for the wraps round m, modulo
// a. Both ends then lie between two multiples, so that the greater one tells how far they are from it.
static inline int64_t qmath_first_in_range(int64_t a, int64_t m, int64_t low, int64_t high) {
  if (low == 0) return 0;
  if (a == 0) return -1;
  const int64_t first = (low + a - 1) / a, multiple = first * a;
  if (multiple <= high) return first;
  const int64_t wraps = qmath_first_in_range(m % a, a, multiple - high, multiple - low);
  if (wraps < 0) return -1;
  const qmath_int128 distance = (qmath_int128)m * wraps + low + a - 1;
  if (distance > INT64_MAX) return (int64_t)(distance / a);  // 128 bits are divided in a function
  return (int64_t)distance / a;
}

// The shift at which a channel's factor is its multiplier.
static inline int qmath_own_bits(const qmath_channel *channel) { return 31 - channel->shift; }

// The same, or one more, which doubles the factor: what is shifted by 32 or more lies in a product's high half.
static inline int qmath_high_bits(const qmath_channel *channel) {
  const int bits = qmath_own_bits(channel);
  return bits < 32 ? 32 : bits;
}

// What is added to a product before the one right shift whose result reaches `level` where qmath_requantize does: both
// roundings' constants, less a unit of the first one where the sign rule sends results away from zero.
static inline int64_t qmath_nudge(const qmath_channel *channel, int32_t level) {
  const int right = qmath_own_bits(channel);
  const int64_t half = (int64_t)1 << (right - 1), first = (int64_t)1 << 30;
  if (channel->rounding == QMATH_SINGLE || right == 31) return half;
  return level > 0 ? half + first : half - first;
}

enum { QMATH_LEVELS = 256 };

// The least accumulator whose result reaches a level, for one level after another: ceil((level * 2^right - nudge) /
// multiplier), by additions while the nudge stays. The multiplier has its highest bit set, so quotients are small.
typedef struct {
  int64_t quotient;
  int64_t rest;  // of the division by the multiplier, in [0, multiplier)
  int64_t step, step_rest;
} qmath_thresholds;

static inline qmath_thresholds qmath_first_threshold(const qmath_channel *channel, int32_t level) {
  const int32_t multiplier = channel->multiplier;
  const int64_t unit = (int64_t)1 << qmath_own_bits(channel);
  const int64_t more = multiplier - 1 - qmath_nudge(channel, level);
  qmath_thresholds at = {0, 0, unit / multiplier, unit % multiplier};
  if (unit <= INT64_MAX / (2 * QMATH_LEVELS)) {  // as nearly always; 128 bits are divided in a function
    const int64_t distance = level * unit + more;
    at.quotient = distance / multiplier, at.rest = distance % multiplier;
  } else {
    const qmath_int128 distance = level * (qmath_int128)unit + more;
    at.quotient = (int64_t)(distance / multiplier), at.rest = (int64_t)(distance % multiplier);
  }
  if (at.rest < 0) {  // to the floor
    at.quotient -= 1;
    at.rest += multiplier;
  }
  return at;
}

static inline void qmath_next_threshold(qmath_thresholds *at, int32_t multiplier) {
  const int64_t rest = at->rest + at->step_rest;
  const bool over = rest >= multiplier;
  at->quotient += at->step + over;
  at->rest = over ? rest - multiplier : rest;
}

// The least and the greatest of some numbers.
typedef struct {
  int64_t least, most;
} qmath_ends;

static inline void qmath_widen(qmath_ends *ends, int64_t number) {
  ends->least = number < ends->least ? number : ends->least;
  ends->most = number > ends->most ? number : ends->most;
}

// A sum of two numbers below the modulus, modulo it: where the sum is less, the difference wraps and is greater.
static inline uint32_t qmath_reduced(uint32_t sum, uint32_t modulus) {
  const uint32_t less = sum - modulus;
  return less < sum ? less : sum;
}

// The ends of rest, rest + step, rest + 2 step... modulo a number of 31 bits, `count` of them: as many again are made
// of those that are there, which compilers make vectors of.
static inline qmath_ends qmath_progression(uint32_t rest, uint32_t step, uint32_t modulus, int32_t count) {
  uint32_t found[QMATH_LEVELS];
  found[0] = rest;
  for (int32_t made = 1; made < count; made *= 2, step = qmath_reduced(step + step, modulus)) {
    for (int32_t i = 0; i < made; ++i) found[made + i] = qmath_reduced(found[i] + step, modulus);
  }
  uint32_t least = rest, most = rest;
  for (int32_t i = 0; i < count; ++i) {
    least = found[i] < least ? found[i] : least;
    most = found[i] > most ? found[i] : most;
  }
  const qmath_ends ends = {least, most};
  return ends;
}

enum { QMATH_LOWEST_ADDEND = UINT8_MAX - INT16_MAX };

// Whether addends can be added to words that saturate: what is 32767 or more must still become the greatest byte. And
// whether neither accumulators with their offset nor results look negative in 32 bits.
static inline bool qmath_adds_to_words(const qmath_channel *channel, const qmath_absorbed *absorbed) {
  const int64_t high = channel->high > 0 ? channel->high : 0;
  return absorbed->addend >= QMATH_LOWEST_ADDEND && absorbed->addend <= INT16_MAX &&
         absorbed->negative_addend >= QMATH_LOWEST_ADDEND && absorbed->negative_addend <= INT16_MAX &&
         absorbed->offset + high <= INT32_MAX && absorbed->negative_offset <= INT32_MAX;
}

// Integers `offset * factor + addend * 2^bits` in [least, most] make accumulators cross every byte level where
// qmath_requantize does. The interval follows from the levels crossed within the channel's [low, high].
typedef struct {
  qmath_int128 least, most;
} qmath_interval;

// What an accumulator that first reaches a level leaves to be added.
static inline qmath_int128 qmath_reach(int32_t level, int64_t accumulator, int bits, int64_t factor) {
  return level * ((qmath_int128)1 << bits) - (qmath_int128)accumulator * factor;
}

// The ends of what the levels [first, last] leave to be added, all above 0 or none. Where the factor is the multiplier
// times a power of two, a level leaves what the division left, less what is the same for all. From the zero point on,
// reaches are about the nudge: 64 bits hold them, whatever overflows on the way.
static inline void qmath_widen_by_reaches(qmath_ends *ends, const qmath_channel *channel, int bits, int64_t factor,
                                          int32_t first, int32_t last) {
  if (first > last) return;
  qmath_thresholds at = qmath_first_threshold(channel, first);
  const int scale = bits - qmath_own_bits(channel);
  const int32_t multiplier = channel->multiplier;
  if (scale >= 0) {
    const qmath_ends rests =
        qmath_progression((uint32_t)at.rest, (uint32_t)at.step_rest, (uint32_t)multiplier, last - first + 1);
    const int64_t same = qmath_nudge(channel, first) - multiplier + 1, power = (int64_t)1 << scale;
    qmath_widen(ends, (same + rests.least) * power);
    qmath_widen(ends, (same + rests.most) * power);
    return;
  }
  for (int32_t level = first; level <= last; ++level, qmath_next_threshold(&at, multiplier)) {
    qmath_widen(ends, (int64_t)(((uint64_t)level << bits) - (uint64_t)at.quotient * (uint64_t)factor));
  }
}

// The greatest level that an accumulator reaches, of [lowest, highest] above the zero point; lowest - 1 where it
// reaches none of them.
static inline int32_t qmath_reached(const qmath_channel *channel, int64_t accumulator, int32_t lowest,
                                    int32_t highest) {
  const int64_t product = accumulator * channel->multiplier;
  int64_t level = (product + qmath_nudge(channel, 1)) >> qmath_own_bits(channel);
  if (level < 1) {
    level = (product + qmath_nudge(channel, 0)) >> qmath_own_bits(channel);
    level = level < 0 ? level : 0;
  }
  if (level < lowest) return lowest - 1;
  return level < highest ? (int32_t)level : highest;
}

static inline qmath_interval qmath_crossing_interval(const qmath_channel *channel, int bits, int64_t factor) {
  const qmath_int128 unit = (qmath_int128)1 << bits, far = unit << 40, zero = channel->zero_point * unit;
  const int32_t lowest = channel->clamp_min + 1 - channel->zero_point;
  const int32_t highest = channel->clamp_max - channel->zero_point;
  qmath_interval interval = {-far, far};
  if (lowest <= highest) {
    const int32_t by_all = qmath_reached(channel, channel->low, lowest, highest);
    const int32_t by_some = qmath_reached(channel, channel->high, lowest, highest);
    // Levels that all accumulators reach: the greatest of them asks for most.
    if (by_all >= lowest) interval.least = zero + qmath_reach(by_all, channel->low, bits, factor);
    // Levels that are crossed, those up to 0 and those above.
    qmath_ends ends = {INT64_MAX, INT64_MIN};
    qmath_widen_by_reaches(&ends, channel, bits, factor, by_all + 1, by_some < 0 ? by_some : 0);
    qmath_widen_by_reaches(&ends, channel, bits, factor, by_all > 0 ? by_all + 1 : 1, by_some);
    if (by_some > by_all) {
      if (zero + ends.most > interval.least) interval.least = zero + ends.most;
      interval.most = zero + ends.least + factor - 1;
    }
    // Levels that none reaches: the least of them must stay out of reach.
    if (by_some < highest) {
      const qmath_int128 bound = zero + qmath_reach(by_some + 1, channel->high + 1, bits, factor) + factor - 1;
      interval.most = bound < interval.most ? bound : interval.most;
    }
  }
  // A side without a level binds nothing; keep within one step of the other side, so that results stay small.
  if (interval.least == -far) interval.least = (interval.most == far ? 0 : interval.most) - unit + 1;
  if (interval.most == far) interval.most = interval.least + unit - 1;
  return interval;
}

// Finds the least offset from `first` on, and its addend, for accumulators in the channel's [low, high].
static inline bool qmath_find_offset(const qmath_channel *channel, int bits, int64_t factor, int64_t first,
                                     int64_t *offset, int64_t *addend) {
  const int64_t unit = (int64_t)1 << bits;
  const qmath_interval interval = qmath_crossing_interval(channel, bits, factor);
  const qmath_int128 width = interval.most - interval.least;
  if (width < 0) return false;
  const int64_t low = (int64_t)((interval.least - (qmath_int128)first * factor) & (unit - 1));
  const int64_t more = low + width >= unit ? 0 : qmath_first_in_range(factor, unit, low, low + (int64_t)width);
  if (more < 0 || channel->high + first + more >= (int64_t)1 << 32) return false;
  *offset = first + more;
  *addend = (int64_t)((interval.most - (qmath_int128)*offset * factor) >> bits);
  return true;
}

// Finds the absorbed form of a channel, equal to qmath_requantize on every accumulator in [low, high] after the zero
// point and the clamp. Returns false where there is none (left shifts; accumulators without headroom).
//
// Why it exists: a product that is only ever compared with some 255 levels leaves the rounding constant free within an
// interval. An integer offset moves the product by offset * factor mod 2^bits, a sequence dense enough to hit the
// interval soon; whole output steps in it are undone by `addend`.
static inline bool qmath_absorb(const qmath_channel *channel, int bits, qmath_absorbed *absorbed) {
  if (channel->shift > 0 || channel->low < INT32_MIN || channel->high > INT32_MAX) return false;
  if (channel->multiplier < 1 << 30) return false;  // not normalized: nobody's converter makes such
  if (channel->high - channel->low >= (int64_t)1 << 30) return false;
  const int scale = bits - 31 + channel->shift;
  const int64_t factor = scale >= 0 ? (int64_t)channel->multiplier << scale : channel->multiplier >> -scale;
  const int64_t first = -channel->low;  // no accumulator may become negative
  absorbed->factor = (uint64_t)factor;
  if (qmath_find_offset(channel, bits, factor, first, &absorbed->offset, &absorbed->addend)) {
    absorbed->negative_offset = absorbed->offset;
    absorbed->negative_addend = absorbed->addend;
    return true;
  }
  if (channel->low >= 0 || channel->high < 0) return false;
  qmath_channel negative = *channel, positive = *channel;
  negative.high = -1;
  positive.low = 0;
  return qmath_find_offset(&negative, bits, factor, first, &absorbed->negative_offset, &absorbed->negative_addend) &&
         qmath_find_offset(&positive, bits, factor, first, &absorbed->offset, &absorbed->addend);
}

// The exact form's constants: byte = clamp(zero_point + ((accumulator << left) * multiplier + nudge - sign >> right)),
// the sign where the first rounding's result is negative. One right shift serves both roundings, because floor((floor(a
// / b) + k) / c) = floor((a + b k) / (b c)).
typedef struct {
  int left, right;
  int64_t nudge;  // the roundings' constants
  int64_t sign;   // 2^31 where a negative high product loses one (double rounding, right shift): ties away from 0
  int32_t floor, ceiling;  // the clamp's bounds before the zero point is added, which are small numbers
} qmath_exact;

static inline qmath_exact qmath_exact_of(const qmath_channel *channel) {
  const bool twice = channel->rounding == QMATH_DOUBLE;
  const int left = twice && channel->shift > 0 ? channel->shift : 0, right = 31 - channel->shift + left;
  const bool rounds_twice = twice && right > 31;
  const qmath_exact exact = {left,
                             right,
                             ((int64_t)1 << (right - 1)) + (rounds_twice ? (int64_t)1 << 30 : 0),
                             rounds_twice ? (int64_t)1 << 31 : 0,
                             channel->clamp_min - channel->zero_point,
                             channel->clamp_max - channel->zero_point};
  return exact;
}

#endif  // UNFLOAT_QMATH_ABSORB_H_
