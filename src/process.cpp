#include "echo/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <optional>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"

namespace echo {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// The calls on signals in this file are not checked: they fail only for a number that is no signal.

/// The signals that the thread of `handle_signals` receives.
const sigset_t handled_signals = [] {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1})
    ::sigaddset(&set, signal);
  return set;
}();

/// Ends the process as `signal` does by default. May be used as a signal handler, because it calls
/// only async-signal-safe functions (signal-safety(7)).
void end_process_by(int signal) {
  ::signal(signal, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &handled_signals, nullptr);
  ::raise(signal);
  // Process 1 survives that (pid_namespaces(7)). A shell would report the same status.
  ::_exit(128 + signal);
}

void wait_for_signals(const std::stop_token& token, const std::function<void(int)>& on_stop,
                      const std::function<void()>& on_usr1) {
  // The destructor of the jthread requests a stop. This thread then sends itself SIGUSR1, to wake
  // sigwait, which does not know the token. A signal that comes before sigwait stays pending.
  const std::stop_callback wake(token,
                                [self = ::pthread_self()] { ::pthread_kill(self, SIGUSR1); });
  std::optional<Clock::time_point> first_stop;
  for (;;) {
    int signal = 0;
    ::sigwait(&handled_signals, &signal);
    if (token.stop_requested())
      return;
    if (signal == SIGUSR1) {
      on_usr1();
    } else if (!first_stop) {
      first_stop = Clock::now();
      on_stop(signal);
    } else if (Clock::now() - *first_stop >= 500ms) {
      end_process_by(signal);
    }
  }
}

/// Whether a write would not block, now or within 400 ms.
bool has_room(int fd) noexcept {
  pollfd writable{fd, POLLOUT, 0};
  return retry([&] { return ::poll(&writable, 1, 400); }) == 1;
}

/// Lets the readers of stdout see end of file. The descriptor is not closed, because a client's
/// socket could then take its number.
void end_stdout() {
  const UniqueFd null(
      checked(retry([] { return ::open("/dev/null", O_RDWR | O_CLOEXEC); }), "open /dev/null"));
  // Standard input as well: if it is the same socket as stdout, it would keep that socket open.
  for (const int fd : {STDOUT_FILENO, STDIN_FILENO})
    checked(retry([&] { return ::dup2(null.get(), fd); }), "replace the standard streams");
}

}  // namespace

void ensure_standard_streams() {
  // open returns the lowest free number, which is the one that was found closed. It is opened for
  // reading only, so that a write to a stream that was closed still fails.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) == -1)
      checked(retry([] { return ::open("/dev/null", O_RDONLY); }), "open /dev/null");
}

void prepare_signals() {
  // SIGPIPE, SIGXFSZ and SIGTTOU are raised by a write: to a closed pipe, to a file at its size
  // limit, or from the background to a terminal that stops such jobs. SIGCHLD: process 1 of a
  // container inherits the children of others, and leaves no zombies if it ignores their end.
  for (const int signal : {SIGPIPE, SIGXFSZ, SIGTTOU, SIGCHLD, SIGUSR1})
    ::signal(signal, SIG_IGN);
  ::signal(SIGINT, end_process_by);
  ::signal(SIGTERM, end_process_by);
  ::pthread_sigmask(SIG_UNBLOCK, &handled_signals, nullptr);
}

void print(std::string_view text) {
  while (!text.empty()) {
    const auto written = retry([&] { return ::write(STDOUT_FILENO, text.data(), text.size()); });
    text.remove_prefix(static_cast<std::size_t>(checked(written, "write to stdout")));
  }
}

void print_error(std::string_view text) noexcept {
  if (has_room(STDERR_FILENO))
    retry([&] { return ::write(STDERR_FILENO, text.data(), text.size()); });
}

void announce(std::string_view line) {
  try {
    if (!has_room(STDOUT_FILENO))
      throw std::system_error(EAGAIN, std::system_category(), "write to stdout");
    print(line);
  } catch (const std::system_error&) {
    end_stdout();  // Its reader must not wait for a line that does not come.
    throw;
  }
  end_stdout();
}

void notify_ready() noexcept {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string_view name = path != nullptr ? path : "";
  if (name.empty() || name.size() > sizeof(address.sun_path))
    return;
  std::ranges::copy(name, address.sun_path);
  if (name.front() == '@')  // An abstract name, which begins with a zero byte (unix(7)).
    address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr std::string_view message = "READY=1";
  if (fd && ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
      has_room(fd.get()))
    ::send(fd.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == -1)
    return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // If a sandbox forbids it, the old limit holds.
}

std::jthread handle_signals(std::function<void(int)> on_stop, std::function<void()> on_usr1) {
  ::pthread_sigmask(SIG_BLOCK, &handled_signals, nullptr);
  // The kernel may discard a signal that is ignored, even before sigwait sees it. Because of the
  // mask, its default action does not take place.
  ::signal(SIGUSR1, SIG_DFL);
  try {
    return std::jthread(wait_for_signals, std::move(on_stop), std::move(on_usr1));
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "start a thread");
  }
}

}  // namespace echo
