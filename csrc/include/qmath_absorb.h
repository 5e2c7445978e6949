// Two forms of a rescaling, found at load (C99). The absorbed form,
//
//     byte = clamp(((accumulator + offset) * factor >> bits) + addend)
//
// equals qmath_requantize, zero point and clamp on every accumulator that a channel can have. One multiplication and no
// rounding: the roundings and the zero point vanish into the accumulator's start value and one added constant. `bits`
// is what a level's multiplication shifts by for nothing: 52 with AVX-512 IFMA, 32 where the high half of a product is
// taken.

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

// The least x >= 0 with low <= a * x mod m <= high, or -1; 0 <= a < m, 0 <= low <= high < m. Euclid's algorithm: either
// the first multiple of `a` past `low` will do, or the question is asked again for the wraps round m, modulo a.
static inline int64_t qmath_first_in_range(int64_t a, int64_t m, int64_t low, int64_t high) {
  if (low == 0) return 0;
  if (a == 0) return -1;
  const int64_t first = (low + a - 1) / a;
  if (high / a >= first) return first;
  const int64_t wraps = qmath_first_in_range(m % a, a, (a - high % a) % a, (a - low % a) % a);
  return wraps < 0 ? -1 : (int64_t)(((qmath_int128)m * wraps + low + a - 1) / a);
}

// The shift at which a channel's factor is its multiplier.
static inline int qmath_own_bits(const qmath_channel *channel) { return 31 - channel->shift; }

// What is added to a product before the one right shift whose result reaches `level` where qmath_requantize does: both
// roundings' constants, less a unit of the first one where the sign rule sends results away from zero.
static inline int64_t qmath_nudge(const qmath_channel *channel, int32_t level) {
  const int right = qmath_own_bits(channel);
  const int64_t half = (int64_t)1 << (right - 1), first = (int64_t)1 << 30;
  if (channel->rounding == QMATH_SINGLE || right == 31) return half;
  return level > 0 ? half + first : half - first;
}

// The least accumulator whose result reaches a level, for one level after another: ceil((level * 2^right - nudge) /
// multiplier), by additions where the nudge stays. The multiplier has its highest bit set, so quotients are small.
typedef struct {
  const qmath_channel *channel;
  int32_t level;
  int64_t quotient;
  int64_t rest;  // of the division by the multiplier, in [0, multiplier)
  int64_t step, step_rest;
} qmath_thresholds;

static inline void qmath_restart_thresholds(qmath_thresholds *at) {
  const int32_t multiplier = at->channel->multiplier;
  const qmath_int128 unit = (qmath_int128)1 << qmath_own_bits(at->channel);
  const qmath_int128 distance = at->level * unit - qmath_nudge(at->channel, at->level) + multiplier - 1;
  at->quotient = (int64_t)(distance / multiplier);
  at->rest = (int64_t)(distance % multiplier);
  if (at->rest < 0) {  // to the floor
    at->quotient -= 1;
    at->rest += multiplier;
  }
}

static inline qmath_thresholds qmath_first_threshold(const qmath_channel *channel, int32_t level) {
  const int64_t unit = (int64_t)1 << qmath_own_bits(channel);
  qmath_thresholds at = {channel, level, 0, 0, unit / channel->multiplier, unit % channel->multiplier};
  qmath_restart_thresholds(&at);
  return at;
}

static inline void qmath_next_threshold(qmath_thresholds *at) {
  if (++at->level == 1) {
    qmath_restart_thresholds(at);
    return;
  }
  const int64_t rest = at->rest + at->step_rest, multiplier = at->channel->multiplier;
  const bool over = rest >= multiplier;
  at->quotient += at->step + over;
  at->rest = over ? rest - multiplier : rest;
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

static inline qmath_interval qmath_crossing_interval(const qmath_channel *channel, int bits, int64_t factor) {
  const qmath_int128 unit = (qmath_int128)1 << bits, far = unit << 40;
  const int32_t last = channel->clamp_max;
  int32_t level = channel->clamp_min + 1;
  qmath_interval interval = {-far, far};
  if (level <= last) {
    qmath_thresholds at = qmath_first_threshold(channel, level - channel->zero_point);
    // Levels that all accumulators reach: the greatest of them asks for most.
    for (; level <= last && at.quotient <= channel->low; ++level) qmath_next_threshold(&at);
    if (level > channel->clamp_min + 1) interval.least = qmath_reach(level - 1, channel->low, bits, factor);
    // Levels that are crossed. From the zero point on, their reaches are about the nudge: 64 bits hold them, whatever
    // overflows on the way.
    const qmath_int128 zero = channel->zero_point * unit;
    int64_t most = INT64_MIN, least = INT64_MAX;
    for (; level <= last && at.quotient <= channel->high; ++level, qmath_next_threshold(&at)) {
      const int64_t reach = (int64_t)(((uint64_t)at.level << bits) - (uint64_t)at.quotient * (uint64_t)factor);
      most = reach > most ? reach : most;
      least = reach < least ? reach : least;
    }
    if (most != INT64_MIN && zero + most > interval.least) interval.least = zero + most;
    if (least != INT64_MAX) interval.most = zero + least + factor - 1;
    // Levels that none reaches: the least of them must stay out of reach.
    if (level <= last) {
      const qmath_int128 bound = qmath_reach(level, channel->high + 1, bits, factor) + factor - 1;
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
