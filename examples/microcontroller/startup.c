// Start of a bare Cortex-M with semihosting: the vector table, then memory, then main. The linker script beside it says
// where memory is.

#include <stdint.h>
#include <stdlib.h>

extern uint32_t stack_top, data_from, data_begin, data_end, bss_begin, bss_end;

void initialise_monitor_handles(void);  // newlib's, for semihosting
int main(void);
void reset(void);
void fault(void);
void _init(void);

void _init(void) {}

void reset(void) {
#ifdef __ARM_FEATURE_MVE
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;  // coprocessor access: Helium's registers
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
  const uint32_t *from = &data_from;
  for (uint32_t *to = &data_begin; to != &data_end;) *to++ = *from++;
  for (uint32_t *to = &bss_begin; to != &bss_end;) *to++ = 0;
  initialise_monitor_handles();
  exit(main());
}

void fault(void) { exit(2); }

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)&stack_top, reset, fault, fault, fault, fault, fault, fault,
};
