// Runs a recorded Program at every level of this CPU and counts the codes that differ from the interpreter's. Without
// Python, so that an emulator of another CPU can run it.
//
//   replay FILE THREADS...

#include "replay.h"

int main(int argc, char **argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: replay FILE THREADS...\n"), 2;
  const replay::Recording recording(argv[1]);
  for (const std::string &level : unfloat::available_levels()) {
    replay::Tally tally;
    for (int i = 2; i < argc; ++i) {
      const auto engine = recording.engine(std::atoi(argv[i]), level);
      for (const replay::Case &one : recording.cases()) replay::run(engine.get(), one, &tally);
    }
    std::printf("%s %lld %lld\n", level.c_str(), static_cast<long long>(tally.codes),
                static_cast<long long>(tally.wrong));
    std::fflush(stdout);
  }
  return 0;
}
