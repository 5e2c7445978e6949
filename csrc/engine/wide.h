// A version of a loop for each kind of CPU.

#ifndef UNFLOAT_ENGINE_WIDE_H_
#define UNFLOAT_ENGINE_WIDE_H_

// Chosen by the dynamic loader. All give the same bits: integers, and IEEE operations one at a time (only the order of
// a sum may differ). Sanitizers run before the loader's choice can.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(UF_SANITIZED)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

#endif  // UNFLOAT_ENGINE_WIDE_H_
