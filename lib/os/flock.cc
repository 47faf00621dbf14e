#include "lib/os/flock.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/os/proc.h"

namespace loadstar::os {

std::string FlockHolder(const Fd& file) {
  struct stat status {};
  const absl::StatusOr<std::string> locks = Proc().Read("locks");
  if (fstat(file.get(), &status) != 0 || !locks.ok()) return "";
  const std::string place = absl::StrFormat("%02x:%02x:%u", major(status.st_dev), minor(status.st_dev), status.st_ino);
  std::istringstream lines(*locks);
  for (std::string line; std::getline(lines, line);) {
    // "1: FLOCK  ADVISORY  WRITE 123 00:15:14814 0 EOF"
    std::istringstream words(line);
    std::string number;
    std::string kind;
    std::string mode;
    std::string access;
    std::string pid;
    std::string where;
    if (words >> number >> kind >> mode >> access >> pid >> where && kind == "FLOCK" && where == place) {
      return absl::StrCat("process ", pid);
    }
  }
  return "";
}

}  // namespace loadstar::os
