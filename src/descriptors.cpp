#include "echo/descriptors.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>

namespace echo {
namespace {

/// Standard streams, log, listener and whatever was inherited (proc(5)).
std::size_t open_descriptors() {
  std::error_code no_proc;
  const std::filesystem::directory_iterator entries("/proc/self/fd", no_proc);
  const auto count = std::distance(begin(entries), end(entries));
  return count > 0 ? static_cast<std::size_t>(count) - 1 : 5;  // One is the directory itself.
}

}  // namespace

void hold_standard_streams() {
  int fd = 0;
  do
    fd = ::open("/dev/null", O_RDONLY);
  while (fd != -1 && fd <= STDERR_FILENO);
  if (fd != -1)
    ::close(fd);
}

void raise_descriptor_limit(std::size_t connections) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t taken = open_descriptors();
  const rlim_t wanted = taken + connections;
  if (limit.rlim_cur >= wanted)
    return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) == -1)
    ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < wanted)
    spdlog::warn(
        "only {} connections can be served at once, not {}: the limit of open files "
        "(ulimit -n) is {}",
        limit.rlim_cur - std::min(limit.rlim_cur, taken), connections, limit.rlim_cur);
}

}  // namespace echo
