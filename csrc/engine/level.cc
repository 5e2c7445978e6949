#include "level.h"

#ifdef UF_AARCH64
#ifdef __APPLE__
#include <sys/sysctl.h>
#else
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1 << 13)
#endif
#endif
#endif

#ifdef UF_X86_64
#include <cpuid.h>
#endif

#if defined(UF_WITH_AMX) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <array>
#include <stdexcept>

namespace unfloat {
namespace {

bool always() { return true; }

#ifdef UF_X86_64
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2");
}

#ifdef UF_EMULATED  // by AVX2
bool has_avxvnni() { return has_avx2(); }
bool has_avx512vl() { return has_avx2(); }
bool has_avx512vnni() { return has_avx2(); }
#ifdef UF_WITH_AMX
bool has_amx() { return has_avx2(); }
#endif
#else

// Asked of the CPU itself, as clang below 18 has no name for it: leaf 7, subleaf 1, bit 4 of EAX.
bool has_avxvnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}

bool has_avx512vl() {
  __builtin_cpu_init();
  return has_avx2() && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

bool has_avx512vnni() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

#ifdef UF_WITH_AMX
// Leaf 7, bits 24 and 25 of EDX: tiles, and their products of bytes. The system gives the tiles' state to a process
// that asks for it, and so to all of its threads.
bool has_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!has_avx512vnni() || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx >> 24 & 3) != 3) return false;
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}
#endif
#endif
#endif

#ifdef UF_AARCH64
#ifdef __APPLE__
bool has(const char *feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_dotprod() && has("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }
#endif
#endif

struct Level {
  uf_level level;
  const char *name;
  bool (*available)();
};

constexpr Level kLevels[] = {
#ifdef UF_X86_64
#ifdef UF_WITH_AMX
    {UF_AMX, "amx", has_amx},
#endif
    {UF_AVX512VNNI, "avx512vnni", has_avx512vnni},
    {UF_AVX512VL, "avx512vl", has_avx512vl},
    {UF_AVXVNNI, "avxvnni", has_avxvnni},
    {UF_AVX2, "avx2", has_avx2},
#endif
#ifdef UF_AARCH64
    {UF_I8MM, "i8mm", has_i8mm},
    {UF_DOTPROD, "dotprod", has_dotprod},
    {UF_NEON, "neon", always},
#endif
    {UF_SCALAR, "scalar", always},
};

}  // namespace

bool has_level(uf_level level) {
  static const auto available = [] {
    std::array<bool, UF_I8MM + 1> found = {};
    for (const Level &known : kLevels) found[known.level] = known.available();
    return found;
  }();
  return available[level];
}

std::vector<std::string> available_levels() {
  std::vector<std::string> names;
  for (const Level &level : kLevels) {
    if (has_level(level.level)) names.emplace_back(level.name);
  }
  return names;
}

uf_level choose_level(const std::string &name) {
  std::string known;
  for (const Level &level : kLevels) {
    if (!has_level(level.level)) continue;
    if (name.empty() || name == level.name) return level.level;
    known += known.empty() ? level.name : std::string(", ") + level.name;
  }
  throw std::invalid_argument("this CPU has the levels " + known + "; found '" + name + "'");
}

}  // namespace unfloat
