// For tiles of up to 6 rows in structs of named vectors (C11): gcc keeps these in registers, and not arrays.

#ifndef UNFLOAT_KERNELS_GEMM_EACH_ROW_H_
#define UNFLOAT_KERNELS_GEMM_EACH_ROW_H_

// A statement for each row of a tile; the conditions are constants. The file that includes it has said TILE_ROWS.
#define EACH_ROW(rows, DO)                  \
  do {                                      \
    DO(0);                                  \
    if (TILE_ROWS > 1 && (rows) > 1) DO(1); \
    if (TILE_ROWS > 2 && (rows) > 2) DO(2); \
    if (TILE_ROWS > 3 && (rows) > 3) DO(3); \
    if (TILE_ROWS > 4 && (rows) > 4) DO(4); \
    if (TILE_ROWS > 5 && (rows) > 5) DO(5); \
  } while (0)

#endif  // UNFLOAT_KERNELS_GEMM_EACH_ROW_H_
