// What every system call needs: a new try after a signal, and an exception when it fails.
#pragma once

#include <cerrno>
#include <system_error>

namespace echo {

/// Makes a system call again for as long as a signal interrupts it (EINTR in signal(7)).
template <typename Call>
auto retry(Call call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR)
      return result;
  }
}

/// Returns the result of a system call. If it is -1, throws std::system_error "<action>: <reason>",
/// where errno tells the reason.
template <typename Result>
Result checked(Result result, const char* action) {
  const int error = errno;  // It may change while the exception is allocated.
  if (result == -1)
    throw std::system_error(error, std::system_category(), action);
  return result;
}

}  // namespace echo
