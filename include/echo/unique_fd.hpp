// One owner for one file descriptor.
#pragma once

#include <utility>

namespace echo {

/// Owns one file descriptor and closes it once; -1 owns nothing. Move-only.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  /// Closes what is owned, if anything. An error of close(2) is of no use to anybody here.
  void reset() noexcept;

  /// Hands the descriptor to the caller, who now has to close it.
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

}  // namespace echo
