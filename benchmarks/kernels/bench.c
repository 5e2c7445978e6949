// Times the linear kernels of one instruction set on the layers of real networks, one thread, and sets the times
// against the cycle model of docs/performance.md: for 16 outputs, one cycle for each 16 x 4 products (3 for a 3x3
// depthwise kernel) and 4.5 for requantization. The cycle is measured: what one vpdpbusd takes in a long independent
// row.
//
//   bench [network] [repetitions]         networks: mobilenet_v1, mobilenet_v2, resnet50

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel.h"

#define UF_KERNEL(family, variant) extern const uf_kernel family##__##variant;
#include "all_kernels.inc"
#undef UF_KERNEL

typedef enum { CONV, DEPTHWISE, DENSE } layer_kind;

typedef struct {
  layer_kind kind;
  int size, channels, outputs, kernel, stride;  // square images; padding as TFLite's SAME
  int times;                                    // in the network
  bool clamped;                                 // a ReLU follows: negative results are cut off
} layer;

static const layer kMobilenetV1[] = {
    {CONV, 224, 3, 32, 3, 2, 1, true},    {DEPTHWISE, 112, 32, 32, 3, 1, 1, true},
    {CONV, 112, 32, 64, 1, 1, 1, true},   {DEPTHWISE, 112, 64, 64, 3, 2, 1, true},
    {CONV, 56, 64, 128, 1, 1, 1, true},   {DEPTHWISE, 56, 128, 128, 3, 1, 1, true},
    {CONV, 56, 128, 128, 1, 1, 1, true},  {DEPTHWISE, 56, 128, 128, 3, 2, 1, true},
    {CONV, 28, 128, 256, 1, 1, 1, true},  {DEPTHWISE, 28, 256, 256, 3, 1, 1, true},
    {CONV, 28, 256, 256, 1, 1, 1, true},  {DEPTHWISE, 28, 256, 256, 3, 2, 1, true},
    {CONV, 14, 256, 512, 1, 1, 1, true},  {DEPTHWISE, 14, 512, 512, 3, 1, 5, true},
    {CONV, 14, 512, 512, 1, 1, 5, true},  {DEPTHWISE, 14, 512, 512, 3, 2, 1, true},
    {CONV, 7, 512, 1024, 1, 1, 1, true},  {DEPTHWISE, 7, 1024, 1024, 3, 1, 1, true},
    {CONV, 7, 1024, 1024, 1, 1, 1, true}, {DENSE, 1, 1024, 1000, 1, 1, 1, false},
};

static const layer kMobilenetV2[] = {
    {CONV, 224, 3, 32, 3, 2, 1, true},        {DEPTHWISE, 112, 32, 32, 3, 1, 1, true},
    {CONV, 112, 32, 16, 1, 1, 1, false},      {CONV, 112, 16, 96, 1, 1, 1, true},
    {DEPTHWISE, 112, 96, 96, 3, 2, 1, true},  {CONV, 56, 96, 24, 1, 1, 1, false},
    {CONV, 56, 24, 144, 1, 1, 2, true},       {DEPTHWISE, 56, 144, 144, 3, 1, 1, true},
    {CONV, 56, 144, 24, 1, 1, 1, false},      {DEPTHWISE, 56, 144, 144, 3, 2, 1, true},
    {CONV, 28, 144, 32, 1, 1, 1, false},      {CONV, 28, 32, 192, 1, 1, 3, true},
    {DEPTHWISE, 28, 192, 192, 3, 1, 2, true}, {CONV, 28, 192, 32, 1, 1, 2, false},
    {DEPTHWISE, 28, 192, 192, 3, 2, 1, true}, {CONV, 14, 192, 64, 1, 1, 1, false},
    {CONV, 14, 64, 384, 1, 1, 4, true},       {DEPTHWISE, 14, 384, 384, 3, 1, 4, true},
    {CONV, 14, 384, 64, 1, 1, 3, false},      {CONV, 14, 384, 96, 1, 1, 1, false},
    {CONV, 14, 96, 576, 1, 1, 3, true},       {DEPTHWISE, 14, 576, 576, 3, 1, 2, true},
    {CONV, 14, 576, 96, 1, 1, 2, false},      {DEPTHWISE, 14, 576, 576, 3, 2, 1, true},
    {CONV, 7, 576, 160, 1, 1, 1, false},      {CONV, 7, 160, 960, 1, 1, 3, true},
    {DEPTHWISE, 7, 960, 960, 3, 1, 3, true},  {CONV, 7, 960, 160, 1, 1, 2, false},
    {CONV, 7, 960, 320, 1, 1, 1, false},      {CONV, 7, 320, 1280, 1, 1, 1, true},
    {DENSE, 1, 1280, 1000, 1, 1, 1, false},
};

static const layer kResnet50[] = {
    {CONV, 224, 3, 64, 7, 2, 1, true},     {CONV, 56, 64, 64, 1, 1, 1, true},
    {CONV, 56, 64, 64, 3, 1, 3, true},     {CONV, 56, 64, 256, 1, 1, 4, false},
    {CONV, 56, 256, 64, 1, 1, 2, true},    {CONV, 56, 256, 128, 1, 1, 1, true},
    {CONV, 56, 128, 128, 3, 2, 1, true},   {CONV, 56, 256, 512, 1, 2, 1, false},
    {CONV, 28, 128, 512, 1, 1, 4, false},  {CONV, 28, 512, 128, 1, 1, 3, true},
    {CONV, 28, 128, 128, 3, 1, 3, true},   {CONV, 28, 512, 256, 1, 1, 1, true},
    {CONV, 28, 256, 256, 3, 2, 1, true},   {CONV, 28, 512, 1024, 1, 2, 1, false},
    {CONV, 14, 256, 1024, 1, 1, 6, false}, {CONV, 14, 1024, 256, 1, 1, 5, true},
    {CONV, 14, 256, 256, 3, 1, 5, true},   {CONV, 14, 1024, 512, 1, 1, 1, true},
    {CONV, 14, 512, 512, 3, 2, 1, true},   {CONV, 14, 1024, 2048, 1, 2, 1, false},
    {CONV, 7, 512, 2048, 1, 1, 3, false},  {CONV, 7, 2048, 512, 1, 1, 2, true},
    {CONV, 7, 512, 512, 3, 1, 2, true},    {DENSE, 1, 2048, 1000, 1, 1, 1, false},
};

typedef struct {
  const char *name;
  const layer *layers;
  size_t count;
} network;

#define NETWORK(name, layers) {name, layers, sizeof(layers) / sizeof *(layers)}
static const network kNetworks[] = {NETWORK("mobilenet_v1", kMobilenetV1), NETWORK("mobilenet_v2", kMobilenetV2),
                                    NETWORK("resnet50", kResnet50)};

static double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// The time of one vpdpbusd, the best of several rows.
static double measure_cycle(void) {
  enum { ROUNDS = 20000, CHAINS = 12 };
  double best = 1;
  for (int attempt = 0; attempt < 20; ++attempt) {
    const double start = seconds();
    for (int round = 0; round < ROUNDS; ++round) {
#define DOT(n) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #n "\n"
      __asm__ volatile(DOT(0) DOT(1) DOT(2) DOT(3) DOT(4) DOT(5) DOT(6) DOT(7) DOT(8) DOT(9) DOT(10) DOT(11)::
                           : "memory");
    }
    const double each = (seconds() - start) / ROUNDS / CHAINS;
    best = each < best ? each : best;
  }
  return best;
}

static uint32_t random_bits(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 16);
}

static void *allocate(size_t bytes) {
  void *memory = aligned_alloc(UF_ALIGNMENT, (bytes + 2 * UF_SLACK) / UF_ALIGNMENT * UF_ALIGNMENT);
  if (memory == NULL) abort();
  uint8_t *byte = memory;
  for (size_t i = 0; i < bytes; ++i) byte[i] = (uint8_t)random_bits();
  return memory;
}

static const uf_kernel *kernel_of(layer_kind kind) {
  return kind == CONV        ? &conv2d__avx512vnni
         : kind == DEPTHWISE ? &depthwise_conv2d__avx512vnni
                             : &fully_connected__avx512vnni;
}

// Rescaling such that results use the output's range, as calibration would have it.
static void set_rescaling(const layer *layer, int64_t depth, uf_linear *linear) {
  int32_t *bias = allocate(sizeof *bias * (size_t)layer->outputs);
  int32_t *multiplier = allocate(sizeof *multiplier * (size_t)layer->outputs);
  int8_t *shift = allocate((size_t)layer->outputs);
  int right = 5;
  while ((int64_t)1 << (2 * (right - 5)) < depth) ++right;
  for (int c = 0; c < layer->outputs; ++c) {
    bias[c] = (int32_t)(random_bits() % 8192) - 4096;
    multiplier[c] = (int32_t)((1u << 30) + random_bits() % (1u << 30));
    shift[c] = (int8_t)-right;
  }
  linear->bias = bias;
  linear->multiplier = multiplier;
  linear->shift = shift;
  linear->output.zero_point = layer->clamped ? 0 : 128;
  linear->output.clamp_max = UINT8_MAX;
}

// Best time of a layer in seconds. Buffers are not reused between layers, as little as they are between runs.
static double time_layer(const layer *layer, int repetitions) {
  const bool dense = layer->kind == DENSE;
  const int out_size = (layer->size + layer->stride - 1) / layer->stride;
  const int padding = (out_size - 1) * layer->stride + layer->kernel - layer->size;
  const int before = padding > 0 ? padding / 2 : 0;
  const int depth = layer->kernel * layer->kernel * (layer->kind == DEPTHWISE ? 1 : layer->channels);
  uf_tensor input = {.offset = 128, .rank = 4, .shape = {1, layer->size, layer->size, layer->channels}};
  uf_tensor output = {.offset = 128, .rank = 4, .shape = {1, out_size, out_size, layer->outputs}};
  if (dense) input.rank = output.rank = 2, input.shape[1] = layer->channels, output.shape[1] = layer->outputs;
  input.data = allocate((size_t)uf_size(&input));
  output.data = allocate((size_t)uf_size(&output));
  const uf_tensor *inputs[] = {&input};
  uf_node node = {.input_count = 1, .inputs = inputs, .output = &output};
  uf_linear *linear = &node.params.linear;
  const uf_window window = {layer->kernel, layer->kernel, layer->stride, layer->stride, 1, 1, before, before};
  linear->window = window;
  linear->groups = 1;
  linear->input_zero_point = 128;
  linear->weight = allocate((size_t)depth * (size_t)layer->outputs);
  set_rescaling(layer, depth, linear);

  const uf_kernel *kernel = kernel_of(layer->kind);
  void *packed = allocate(kernel->packed_size(&node));
  memset(packed, 0, kernel->packed_size(&node));
  kernel->pack(&node, packed);
  node.packed = packed;
  node.scratch = allocate(kernel->scratch_size(&node));
  double best = 1e9;
  for (int i = 0; i < repetitions; ++i) {
    const double start = seconds();
    kernel->run(&node, 0, 1);
    const double time = seconds() - start;
    best = time < best ? time : best;
  }
  free(input.data), free(output.data), free(packed), free(node.scratch);
  free((void *)linear->weight), free((void *)linear->bias), free((void *)linear->multiplier),
      free((void *)linear->shift);
  return best;
}

static double model_cycles(const layer *layer) {
  const double out_size = (layer->size + layer->stride - 1) / layer->stride;
  const double depth = layer->kernel * layer->kernel * (layer->kind == DEPTHWISE ? 1 : layer->channels);
  const double dots = layer->kind == DEPTHWISE ? layer->kernel * ((layer->kernel + 3) / 4) : depth / 4;
  return out_size * out_size * layer->outputs / 16 * (dots + 4.5);
}

static void run_network(const network *network, int repetitions, double cycle) {
  static const char *const kinds[] = {"conv", "depthwise", "dense"};
  double model_sum = 0, time_sum = 0;
  printf("\n%s\n%-10s %5s %5s %5s %2s %2s %3s %9s %8s %8s %6s\n", network->name, "layer", "size", "in", "out", "k", "s",
         "x", "time us", "/16 outs", "model", "share");
  for (size_t i = 0; i < network->count; ++i) {
    const layer *layer = &network->layers[i];
    const double time = time_layer(layer, repetitions), model = model_cycles(layer);
    const int out_size = (layer->size + layer->stride - 1) / layer->stride;
    const double vectors = (double)out_size * out_size * layer->outputs / 16;
    printf("%-10s %5d %5d %5d %2d %2d %3d %9.1f %8.1f %8.1f %5.0f%%\n", kinds[layer->kind], layer->size,
           layer->channels, layer->outputs, layer->kernel, layer->stride, layer->times, time * 1e6,
           time / cycle / vectors, model / vectors, 100 * model * cycle / time);
    fflush(stdout);
    model_sum += layer->times * model * cycle;
    time_sum += layer->times * time;
  }
  printf("sum %.3f ms, model %.3f ms: %.0f %%\n", time_sum * 1e3, model_sum * 1e3, 100 * model_sum / time_sum);
}

int main(int argc, char **argv) {
  const char *wanted = argc > 1 ? argv[1] : "";
  const int repetitions = argc > 2 ? atoi(argv[2]) : 200;
  const double cycle = measure_cycle();
  printf("one cycle: %.4f ns\n", cycle * 1e9);
  for (size_t i = 0; i < sizeof kNetworks / sizeof *kNetworks; ++i) {
    if (*wanted == 0 || strcmp(wanted, kNetworks[i].name) == 0) run_network(&kNetworks[i], repetitions, cycle);
  }
  return 0;
}
