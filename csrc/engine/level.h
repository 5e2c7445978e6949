// CPU levels: names, detection.

#ifndef UNFLOAT_ENGINE_LEVEL_H_
#define UNFLOAT_ENGINE_LEVEL_H_

#include <string>
#include <vector>

#include "kernel.h"

namespace unfloat {

// Whether this CPU, and this build, has a level. A faster one may be there without a slower one: 512-bit VNNI without
// AVX-VNNI.
bool has_level(uf_level level);

// The names of the levels this CPU has, fastest first; the last is "scalar".
std::vector<std::string> available_levels();

// The level to use: the named one, or the fastest where the name is empty. Throws std::invalid_argument where this CPU
// (or this build) has no such level.
uf_level choose_level(const std::string &name);

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_LEVEL_H_
