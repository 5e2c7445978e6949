// Additions along a span for levels without masked loads (C11). The file that includes it has defined WIDTH, how many
// bytes are added at once; sums_type, what that takes, and load_sums, which makes it of a node; add_bytes, which adds
// WIDTH.

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const sums_type with = load_sums(node);
  const int64_t whole = count / WIDTH * WIDTH;
  for (int64_t i = 0; i < whole; i += WIDTH) add_bytes(&with, a + i, b + i, out + i);
  if (whole == count) return;
  uint8_t first[WIDTH] = {0}, second[WIDTH] = {0}, sums[WIDTH];
  const size_t left = (size_t)(count - whole);
  memcpy(first, a + whole, left);
  memcpy(second, b + whole, left);
  add_bytes(&with, first, second, sums);
  memcpy(out + whole, sums, left);
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }
