// How fast a CPU multiplies and adds at best: a level's own instruction on registers alone, as many sums at a time as
// keep it busy. What kernels are measured against.

#ifndef UNFLOAT_PEAK_H_
#define UNFLOAT_PEAK_H_

#include <stdint.h>

#include "kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

// Multiply-accumulates of a round; 0 where the level has no instruction of its own.
int64_t uf_peak_macs(uf_level level);

// Does so many rounds. The CPU must have the level.
void uf_peak_run(uf_level level, int64_t rounds);

#ifdef __cplusplus
}
#endif

#endif  // UNFLOAT_PEAK_H_
