// Floats as IEEE 754 has them by default, for as long as this lives, whatever the calling thread has chosen: rounding
// to nearest, and numbers below the smallest normal one kept, which torch.set_flush_denormal(True) ends.

#ifndef UNFLOAT_ENGINE_DEFAULT_FLOATS_H_
#define UNFLOAT_ENGINE_DEFAULT_FLOATS_H_

#include <cstdint>

#ifdef UF_X86_64
#include <immintrin.h>
#endif

namespace unfloat {

class DefaultFloats {
 public:
  DefaultFloats() : before_(control()) { set_control(kDefault); }
  ~DefaultFloats() { set_control(before_); }
  DefaultFloats(const DefaultFloats &) = delete;
  DefaultFloats &operator=(const DefaultFloats &) = delete;

 private:
#if defined(UF_X86_64)
  using Control = unsigned;
  static constexpr Control kDefault = 0x1f80;  // all exceptions masked
  static Control control() { return _mm_getcsr(); }
  static void set_control(Control control) { _mm_setcsr(control); }
#elif defined(UF_AARCH64)
  using Control = uint64_t;
  static constexpr Control kDefault = 0;
  static Control control() {
    Control control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void set_control(Control control) { asm volatile("msr fpcr, %0" : : "r"(control) : "memory"); }
#else
  using Control = int;  // of no other processor is a way known here
  static constexpr Control kDefault = 0;
  static Control control() { return 0; }
  static void set_control(Control) {}
#endif

  Control before_;
};

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_DEFAULT_FLOATS_H_
