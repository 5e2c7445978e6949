// Prints how many instructions one run of the network `net` takes. Under QEMU's -icount an instruction takes a fixed
// time, which SysTick measures; a loop of known length says how many instructions a tick is.

#include <stdint.h>
#include <stdio.h>

#include "net.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010u)
enum { TICKS = 0xFFFFFF, LOOPS = 4000000 };

static union {
  int64_t alignment;
  uint8_t bytes[NET_ARENA_BYTES];
} arena;

int net_golden(void *arena);

static uint32_t now(void) { return TICKS - SYSTICK[2]; }

static uint32_t ticks_of_loops(void) {
  const uint32_t begin = now();
  uint32_t left = LOOPS;
  __asm__ volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(left)::"cc");
  return (now() - begin) & TICKS;
}

int main(void) {
  SYSTICK[1] = TICKS;
  SYSTICK[2] = 0;
  SYSTICK[0] = 5;  // on, from the processor's clock
  const uint32_t loops = ticks_of_loops(), begin = now();
  const int mismatches = net_golden(&arena);
  const uint32_t ticks = (now() - begin) & TICKS;
  printf("%lu\n", (unsigned long)((uint64_t)ticks * 2 * LOOPS / loops));
  return mismatches == 0 ? 0 : 1;
}
