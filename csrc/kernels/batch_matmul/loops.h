// Matrix products, sample by sample: sum (a - Za) * (b - Zb) over the depth (eq. 7). The file that includes it has
// defined CODE; SUM, the type of a sum; STORAGE; and emit(), which rescales one.

// The matrix of one input: how far apart its codes are along the output's axis and along the depth.
typedef struct {
  const CODE *codes;
  int64_t stride, step;
  int32_t zero_point;
} factor;

// Whether an input's depth lies along its rows, so that its last axis is the output's.
static bool stands(const uf_node *node, int i) {
  const bool transposed = (node->params.scale.axes >> i & 1) != 0;
  return transposed != (i == 1);
}

// The matrix of input i that belongs to the output's matrix of that index.
static factor factor_of(const uf_node *node, int i, int64_t matrix) {
  const uf_tensor *input = node->inputs[i], *output = node->output;
  const int32_t columns = input->shape[input->rank - 1];
  int64_t at = 0, size = (int64_t)columns * input->shape[input->rank - 2];
  for (int axis = output->rank - 3; axis >= 0; --axis) {
    if (input->shape[axis] != 1) at += matrix % output->shape[axis] * size;
    matrix /= output->shape[axis];
    size *= input->shape[axis];
  }
  const factor found = {(const CODE *)(const void *)input->data + at, stands(node, i) ? 1 : columns,
                        stands(node, i) ? columns : 1, node->params.scale.input_zero_point[i]};
  return found;
}

static int32_t depth_of(const uf_node *node) {
  const uf_tensor *first = node->inputs[0];
  return first->shape[first->rank - (stands(node, 0) ? 2 : 1)];
}

// The second factor's column at `codes`, its zero point subtracted: once for all rows.
static void widen(const factor *second, int64_t column, int32_t depth, int32_t *x) {
  const CODE *codes = second->codes + column * second->stride;
  for (int32_t k = 0; k < depth; ++k) x[k] = codes[k * second->step] - second->zero_point;
}

static SUM dot(const factor *first, int64_t row, const int32_t *x, int32_t depth) {
  const CODE *codes = first->codes + row * first->stride;
  SUM sum = 0;
  for (int32_t k = 0; k < depth; ++k) sum += (SUM)(codes[k * first->step] - first->zero_point) * x[k];
  return sum;
}

static size_t scratch_size(const uf_node *node) { return (size_t)depth_of(node) * sizeof(int32_t); }

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *output = node->output;
  const int32_t depth = depth_of(node), rows = output->shape[output->rank - 2],
                columns = output->shape[output->rank - 1];
  int32_t *x = uf_scratch(node, thread);
  CODE *out = (CODE *)(void *)output->data;
  const uf_range share = uf_share(uf_volume(output, 0, output->rank - 2) * columns, 1, thread, threads);
  for (int64_t at = share.begin; at < share.end; ++at) {  // a column of one of the output's matrices
    const int64_t matrix = at / columns, column = at % columns;
    const factor first = factor_of(node, 0, matrix), second = factor_of(node, 1, matrix);
    widen(&second, column, depth, x);
    for (int32_t row = 0; row < rows; ++row) {
      out[(matrix * rows + row) * columns + column] = emit(&node->params.scale, dot(&first, row, x, depth));
    }
  }
}

UF_DEFINE_KERNEL(batch_matmul, .storage = STORAGE, .scratch_size = scratch_size, .run = run);
