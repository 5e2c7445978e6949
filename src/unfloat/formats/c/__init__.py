"""Programs as C99 for microcontrollers: no allocation, no floating point, kernels that several networks share."""
