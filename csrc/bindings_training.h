// The training loops of training.h for Python, shared among threads.

#ifndef UNFLOAT_BINDINGS_TRAINING_H_
#define UNFLOAT_BINDINGS_TRAINING_H_

#include <nanobind/nanobind.h>

namespace unfloat {

void define_training(nanobind::module_ &m);

}  // namespace unfloat

#endif  // UNFLOAT_BINDINGS_TRAINING_H_
