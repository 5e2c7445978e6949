// Laws of qmath.h and qmath_absorb.h that are easier to check in C.

#include "qmath.h"

#include <cstdio>

#include "qmath_absorb.h"

namespace {

int failures = 0;

void check_average(int32_t total, int32_t count) {
  const int32_t found = qmath_average_by_reciprocal(total, count, qmath_count_reciprocal(count));
  if (found == qmath_average(total, count)) return;
  ++failures;
  std::printf("%d / %d: found %d, required %d\n", total, count, found, qmath_average(total, count));
}

// The average by a reciprocal is the average, for every count it serves.
void check_averages() {
  for (int32_t count = 1; count <= QMATH_RECIPROCAL_COUNTS; ++count) {
    for (int32_t code = 0; code <= 255; ++code) {
      // Around every step of the quotient, which lies half-way between two codes.
      for (int32_t near = -2; near <= 2; ++near) {
        const int32_t total = code * count + (code < 255 ? (count + 1) / 2 + near : 0);
        if (total < 0 || total > 255 * count) continue;
        check_average(total, count);
        check_average(-total, count);
      }
    }
  }
}

int64_t first_in_range_by_trying(int64_t a, int64_t m, int64_t low, int64_t high) {
  for (int64_t x = 0; x < m; ++x) {
    const int64_t rest = a * x % m;
    if (low <= rest && rest <= high) return x;
  }
  return -1;
}

// Every question about the first multiple in a range, for all small moduli.
void check_first_in_range() {
  for (int64_t m = 1; m <= 24; ++m) {
    for (int64_t a = 0; a < m; ++a) {
      for (int64_t low = 0; low < m; ++low) {
        for (int64_t high = low; high < m; ++high) {
          const int64_t found = qmath_first_in_range(a, m, low, high);
          if (found == first_in_range_by_trying(a, m, low, high)) continue;
          ++failures;
          std::printf("%lld x mod %lld in [%lld, %lld]: found %lld\n", static_cast<long long>(a),
                      static_cast<long long>(m), static_cast<long long>(low), static_cast<long long>(high),
                      static_cast<long long>(found));
        }
      }
    }
  }
}

// The same where products leave 64 bits: what is found lies in the range.
void check_wide_first_in_range() {
  const int64_t m = int64_t{1} << 62;
  uint64_t random = 1;
  const auto next = [&random] { return static_cast<int64_t>((random = random * 6364136223846793005U + 1) >> 2); };
  for (int i = 0; i < 10000; ++i) {
    const int64_t a = next(), low = next(), width = next() >> (i % 60);
    const int64_t high = low + width < m ? low + width : m - 1;
    const int64_t found = qmath_first_in_range(a, m, low, high);
    if (found < 0) continue;
    const auto rest = static_cast<int64_t>(static_cast<qmath_int128>(a) * found % m);
    if (low <= rest && rest <= high) continue;
    ++failures;
    std::printf("random question %d: found %lld\n", i, static_cast<long long>(found));
  }
}

}  // namespace

int main() {
  check_averages();
  check_first_in_range();
  check_wide_first_in_range();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
