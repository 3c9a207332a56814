#include "echo/unique_fd.hpp"

#include <unistd.h>

namespace echo {

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  const int fd = other.release();
  reset();
  fd_ = fd;
  return *this;
}

void UniqueFd::reset() noexcept {
  // Never retried: Linux has freed the number even if close() says EINTR (close(2)), and another
  // thread may own it by now.
  if (fd_ >= 0)
    ::close(release());
}

}  // namespace echo
