// Python's lock given up for as long as this lives, so that other Python threads go on.

#ifndef UNFLOAT_PYTHON_UNLOCKED_H_
#define UNFLOAT_PYTHON_UNLOCKED_H_

#include <Python.h>

#include <chrono>
#include <thread>

namespace unfloat {

class PythonUnlocked {
 public:
  PythonUnlocked() : state_(PyEval_SaveThread()) {}
  PythonUnlocked(const PythonUnlocked &) = delete;
  PythonUnlocked &operator=(const PythonUnlocked &) = delete;

  // While the interpreter ends, Python before 3.14 lets a thread that wants the lock back exit, which unwinds its
  // stack: no destructor and no binding allows that. Such a thread stays here until the process is gone, as from 3.14
  // on.
  ~PythonUnlocked() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  PyThreadState *state_;
};

}  // namespace unfloat

#endif  // UNFLOAT_PYTHON_UNLOCKED_H_
