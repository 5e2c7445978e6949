#include "peak.h"

// Twelve sums: twice the latency of the instructions that there are. Assembly, so that nothing is left out and the file
// needs no level's flags.
enum { SUMS = 12 };

#define TWELVE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

#if defined(UF_X86_64)

#define CLOBBERED                                                                                                     \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
      "xmm14", "xmm15"
#define DOT_512(i) "vpdpbusd %%zmm13, %%zmm12, %%zmm" #i "\n\t"
#define DOT_256(i) "%{evex%} vpdpbusd %%ymm13, %%ymm12, %%ymm" #i "\n\t"
#define DOT_VEX(i) "%{vex%} vpdpbusd %%ymm13, %%ymm12, %%ymm" #i "\n\t"
#define PAIRS(i) "vpmaddwd %%ymm13, %%ymm12, %%ymm14\n\tvpaddd %%ymm14, %%ymm" #i ", %%ymm" #i "\n\t"

#ifdef UF_WITH_AMX
enum { TILES = 4, TILE_MACS = 16 * 16 * 64 };

// Four tiles of sums; what they add does not matter.
__attribute__((target("amx-tile,amx-int8"))) static void run_tiles(int64_t rounds) {
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } all = {.palette = 1};
  for (int i = 0; i < TILES + 2; ++i) {
    all.row_bytes[i] = 64;
    all.rows[i] = 16;
  }
  __asm__ volatile("ldtilecfg %0" ::"m"(all));
  for (int64_t i = 0; i < rounds; ++i) {
    __asm__ volatile(
        "tdpbusd %tmm5, %tmm4, %tmm0\n\ttdpbusd %tmm5, %tmm4, %tmm1\n\t"
        "tdpbusd %tmm5, %tmm4, %tmm2\n\ttdpbusd %tmm5, %tmm4, %tmm3");
  }
  __asm__ volatile("tilerelease");
}
#endif

int64_t uf_peak_macs(uf_level level) {
#ifdef UF_WITH_AMX
  if (level == UF_AMX) return TILES * TILE_MACS;
#endif
  return SUMS * (level == UF_AVX512VNNI                        ? 64
                 : level == UF_AVX512VL || level == UF_AVXVNNI ? 32
                 : level == UF_AVX2                            ? 16
                                                               : 0);
}

void uf_peak_run(uf_level level, int64_t rounds) {
#ifdef UF_WITH_AMX
  if (level == UF_AMX) {
    run_tiles(rounds);
    return;
  }
#endif
  for (int64_t i = 0; i < rounds; ++i) {
    if (level == UF_AVX512VNNI) __asm__ volatile(TWELVE(DOT_512)::: CLOBBERED);
    if (level == UF_AVX512VL) __asm__ volatile(TWELVE(DOT_256)::: CLOBBERED);
    if (level == UF_AVXVNNI) __asm__ volatile(TWELVE(DOT_VEX)::: CLOBBERED);
    if (level == UF_AVX2) __asm__ volatile(TWELVE(PAIRS)::: CLOBBERED);
  }
}

#elif defined(UF_AARCH64)

#define CLOBBERED "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14"
#define DOT_SIGNED(i) "sdot v" #i ".4s, v12.16b, v13.16b\n\t"
#define DOT_MIXED(i) "usdot v" #i ".4s, v12.16b, v13.16b\n\t"
#define PAIRS(i) "smull v14.8h, v12.8b, v13.8b\n\tsmlal2 v14.8h, v12.16b, v13.16b\n\tsadalp v" #i ".4s, v14.8h\n\t"

int64_t uf_peak_macs(uf_level level) { return level == UF_SCALAR ? 0 : SUMS * 16; }

void uf_peak_run(uf_level level, int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i) {
    if (level == UF_I8MM) __asm__ volatile(".arch armv8.6-a+i8mm\n\t" TWELVE(DOT_MIXED)::: CLOBBERED);
    if (level == UF_DOTPROD) __asm__ volatile(".arch armv8.2-a+dotprod\n\t" TWELVE(DOT_SIGNED)::: CLOBBERED);
    if (level == UF_NEON) __asm__ volatile(TWELVE(PAIRS)::: CLOBBERED);
  }
}

#else

int64_t uf_peak_macs(uf_level level) {
  (void)level;
  return 0;
}

void uf_peak_run(uf_level level, int64_t rounds) {
  (void)level;
  (void)rounds;
}

#endif
