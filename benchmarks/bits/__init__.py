"""Whole networks at every instruction-set level, on this CPU and on emulated ones."""
