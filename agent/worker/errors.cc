#include "agent/worker/errors.h"

#include <cerrno>
#include <cstring>

namespace loadstar::worker {
namespace {

struct Row {
  int error;
  v1::ErrorKind kind;
};

constexpr Row kKinds[] = {
    {0, v1::ERROR_KIND_CLOSED_BY_PEER},
    {ECONNREFUSED, v1::ERROR_KIND_REFUSED},
    {ECONNRESET, v1::ERROR_KIND_RESET},
    {EPIPE, v1::ERROR_KIND_RESET},
    {ETIMEDOUT, v1::ERROR_KIND_CONNECT_TIMEOUT},
    // The generator's own limits: these say something about this host, not about the target.
    {EMFILE, v1::ERROR_KIND_NO_DESCRIPTORS},
    {ENFILE, v1::ERROR_KIND_NO_DESCRIPTORS},
    {EADDRNOTAVAIL, v1::ERROR_KIND_NO_PORTS},
    {EADDRINUSE, v1::ERROR_KIND_NO_PORTS},
    {EAGAIN, v1::ERROR_KIND_NO_PORTS},  // as older kernels say it of connect
    {ENOMEM, v1::ERROR_KIND_NO_MEMORY},
    {ENOBUFS, v1::ERROR_KIND_NO_MEMORY},
};

}  // namespace

Failure FailureOfErrno(v1::ErrorPhase phase, int error) {
  if (error == ETIMEDOUT && phase != v1::ERROR_PHASE_CONNECT) return {v1::ERROR_KIND_TRANSPORT_TIMEOUT, ""};
  for (const Row& row : kKinds) {
    if (row.error == error) return {row.kind, ""};
  }
  const char* name = strerrorname_np(error);
  return {v1::ERROR_KIND_OTHER, name != nullptr ? std::string(name) : "errno " + std::to_string(error)};
}

}  // namespace loadstar::worker
