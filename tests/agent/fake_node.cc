// Stands in for a node: fake_node --listen HOST:PORT --api HOST:PORT [--deaf-to-term] [--child] [--unhealthy] [--talk].
// Serves GET /health (200, or 503 with --unhealthy) and GET /metrics on its API address, one connection at a time.
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "lib/os/ports.h"

extern char** environ;

namespace {

int Listen(const char* text) {
  const auto address = loadstar::os::Resolve(text);
  if (!address.ok()) return -1;
  const int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, address->get(), address->length) != 0 || listen(fd, 16) != 0) {
    fprintf(stderr, "cannot listen on %s\n", text);
    return -1;
  }
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  int listener = -1;
  int api = -1;
  bool healthy = true;
  bool talk = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--listen") listener = Listen(argv[++i]);
    if (flag == "--api") api = Listen(argv[++i]);
    if (flag == "--deaf-to-term") signal(SIGTERM, SIG_IGN);
    if (flag == "--unhealthy") healthy = false;
    if (flag == "--talk") talk = true;
    if (flag == "--fail") {
      fprintf(stderr, "first words\nno such disk\n");
      return 3;
    }
    if (flag == "--child") {
      // A helper that has left the group, as a daemon would, and is deaf as well.
      pid_t child = 0;
      const char* arguments[] = {"setsid", "sh", "-c", "trap '' TERM; sleep 300 & wait; sleep 300", nullptr};
      posix_spawn(&child, "/usr/bin/setsid", nullptr, nullptr, const_cast<char**>(arguments), environ);
    }
  }
  if (listener < 0 || api < 0) return 2;
  fprintf(stderr, "node is up\n");
  for (;;) {
    const int fd = accept(api, nullptr, nullptr);
    if (fd < 0) continue;
    char request[4096];
    const ssize_t got = read(fd, request, sizeof request - 1);
    const std::string text(request, static_cast<size_t>(got > 0 ? got : 0));
    const std::string body = text.starts_with("GET /metrics") ? "loadstar_target_connections 5\n" : "ok\n";
    const std::string answer = std::string("HTTP/1.1 ") + (healthy ? "200 OK" : "503 Service Unavailable") +
                               "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    if (write(fd, answer.data(), answer.size()) < 0) fprintf(stderr, "client left\n");
    close(fd);
    if (talk) {
      const std::string line(4'000, 'x');
      fprintf(stderr, "%s\n", line.c_str());
    }
  }
}
