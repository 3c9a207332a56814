#include "echo/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <optional>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "echo/system_call.hpp"

namespace echo {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// No call on sets, masks and actions is checked: they fail for wrong numbers only.
const sigset_t handled_signals = [] {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1})
    ::sigaddset(&set, signal);
  return set;
}();

/// Has SIGINT and SIGTERM end the process again: by default, and not blocked in this thread.
void let_stop_signals_end_process() {
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &handled_signals, nullptr);
}

void wait_for_signals(const std::stop_token& token, const std::function<void(int)>& on_stop,
                      const std::function<void()>& on_usr1) {
  // The end of this thread is asked for by the token; a signal wakes sigwait then.
  const std::stop_callback wake(token,
                                [self = ::pthread_self()] { ::pthread_kill(self, SIGUSR1); });
  std::optional<Clock::time_point> first_stop;
  for (;;) {
    int signal = 0;
    const int error = ::sigwait(&handled_signals, &signal);
    if (token.stop_requested())
      return;
    if (error != 0) {  // A sandbox forbids it. This thread stays: the others block the signals.
      spdlog::error("cannot wait for signals: {}; a stop signal ends the server at once",
                    std::strerror(error));
      let_stop_signals_end_process();
      while (!token.stop_requested())
        std::this_thread::sleep_for(100ms);
      return;
    }
    if (signal == SIGUSR1) {
      on_usr1();
    } else if (!first_stop) {
      first_stop = Clock::now();
      on_stop(signal);
    } else if (Clock::now() - *first_stop >= 500ms) {
      let_stop_signals_end_process();
      ::raise(signal);
      ::_exit(128 + signal);  // Process 1 survives its default actions (pid_namespaces(7)).
    }
  }
}

}  // namespace

void ensure_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) == -1)  // open takes the lowest free number, which is this one.
      checked(retry([] { return ::open("/dev/null", O_RDONLY); }), "open /dev/null");
}

void prepare_signals() {
  // The first three come with a write: to a closed pipe, to a file at its size limit, or from the
  // background to a terminal that stops such jobs. SIGCHLD: process 1 of a container inherits
  // children, and so leaves no zombies.
  for (const int signal : {SIGPIPE, SIGXFSZ, SIGTTOU, SIGCHLD, SIGUSR1})
    ::signal(signal, SIG_IGN);
  let_stop_signals_end_process();
}

void print(std::string_view text) {
  while (!text.empty()) {
    const auto written = retry([&] { return ::write(STDOUT_FILENO, text.data(), text.size()); });
    text.remove_prefix(static_cast<std::size_t>(checked(written, "write to stdout")));
  }
}

void announce(std::string_view line) {
  pollfd writable{STDOUT_FILENO, POLLOUT, 0};
  if (retry([&] { return ::poll(&writable, 1, 400); }) != 1)
    throw std::system_error(EAGAIN, std::system_category(), "write to stdout");
  print(line);
  checked(::dup2(STDIN_FILENO, STDOUT_FILENO), "end stdout");
}

void raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == -1)
    return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // A sandbox may forbid it; then the old limit holds.
}

std::jthread handle_signals(std::function<void(int)> on_stop, std::function<void()> on_usr1) {
  ::pthread_sigmask(SIG_BLOCK, &handled_signals, nullptr);
  try {
    return std::jthread(wait_for_signals, std::move(on_stop), std::move(on_usr1));
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "start a thread");
  }
}

}  // namespace echo
