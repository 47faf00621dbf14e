#include "target/reservation.h"

#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/os/ports.h"

namespace loadstar::target {

absl::StatusOr<Reservation> Reserve(const net::Address& address) {
  const std::string text = net::ToString(address);
  if (absl::Status free = os::CheckPortFree(text); !free.ok()) {
    return free;
  }
  Reservation reservation;
  reservation.fd.Reset(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int fd = reservation.fd.get();
  const int on = 1;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot bind ", text));
  }
  reservation.address.length = sizeof(reservation.address.storage);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&reservation.address.storage), &reservation.address.length) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read back the address of ", text));
  }
  return reservation;
}

}  // namespace loadstar::target
