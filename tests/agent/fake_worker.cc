// Stands in for loadstar-worker: does what the run id of its plan says.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "agent/supervisor/frame.h"
#include "loadstar/v1/worker.pb.h"

namespace {

using namespace loadstar;  // NOLINT: a program of one file

int g_fd = -1;
agent::FrameReader g_reader;

void Say(const v1::WorkerToAgent& message) {
  std::string frame;
  agent::AppendFrame(message.SerializeAsString(), &frame);
  for (size_t done = 0; done < frame.size();) {
    const ssize_t wrote = write(g_fd, frame.data() + done, frame.size() - done);
    if (wrote <= 0) _exit(9);
    done += static_cast<size_t>(wrote);
  }
}

v1::AgentToWorker Hear() {
  for (;;) {
    auto frame = g_reader.Next();
    if (frame.ok() && frame->has_value()) {
      v1::AgentToWorker message;
      message.ParseFromString(**frame);
      return message;
    }
    char buffer[4096];
    const ssize_t got = read(g_fd, buffer, sizeof buffer);
    if (got <= 0) _exit(0);  // the agent is gone
    g_reader.Append({buffer, static_cast<size_t>(got)});
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 || strcmp(argv[1], "--control-fd") != 0 || strcmp(argv[3], "--backend") != 0) return 64;
  g_fd = atoi(argv[2]);
  const v1::AgentToWorker plan = Hear();
  const std::string& task = plan.plan().run_id();
  v1::WorkerToAgent ready;
  ready.mutable_ready()->set_backend(task);
  Say(ready);
  if (task == "finish") {
    for (uint32_t second = 0; second < 200; ++second) {
      v1::WorkerToAgent sample;
      sample.mutable_sample()->set_elapsed_s(second);
      Say(sample);
    }
    v1::WorkerToAgent finished;
    finished.mutable_finished()->set_samples(200);
    Say(finished);
    return 0;
  }
  if (task == "crash") {
    fprintf(stderr, "assertion failed: x > 0\n");
    raise(SIGSEGV);
  }
  if (task == "code") return 7;
  if (task == "garbage") {
    if (write(g_fd, "\xff\xff\xff\xff", 4) != 4) return 8;
    pause();
  }
  if (task == "close") {
    close(g_fd);
    pause();
  }
  if (task == "deaf") pause();
  if (task == "chatty") {
    // More than the log may hold.
    for (int i = 0; i < 20'000; ++i) fprintf(stderr, "line %d ..................................................\n", i);
    fflush(stderr);
  }
  for (;;) Hear();
}
