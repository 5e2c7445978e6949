// qmath.h where a law is easier to check in C: the average by a reciprocal is the average, for every count it serves.

#include "qmath.h"

#include <cstdio>

namespace {

int failures = 0;

void check(int32_t total, int32_t count) {
  const int32_t found = qmath_average_by_reciprocal(total, count, qmath_count_reciprocal(count));
  if (found == qmath_average(total, count)) return;
  ++failures;
  std::printf("%d / %d: found %d, required %d\n", total, count, found, qmath_average(total, count));
}

}  // namespace

int main() {
  for (int32_t count = 1; count <= QMATH_RECIPROCAL_COUNTS; ++count) {
    for (int32_t code = 0; code <= 255; ++code) {
      // Around every step of the quotient, which lies half-way between two codes.
      for (int32_t near = -2; near <= 2; ++near) {
        const int32_t total = code * count + (code < 255 ? (count + 1) / 2 + near : 0);
        if (total < 0 || total > 255 * count) continue;
        check(total, count);
        check(-total, count);
      }
    }
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
