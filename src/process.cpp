#include "echo/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>

#include "echo/log.hpp"

namespace echo {
namespace {

using namespace std::chrono_literals;

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals)
    ::sigaddset(&set, signal);
  return set;
}

const sigset_t stop_signals = set_of({SIGINT, SIGTERM});
/// What `wait_for_signal` takes; `wake` sends SIGUSR2.
sigset_t waited_for = set_of({SIGINT, SIGTERM, SIGUSR1, SIGUSR2});

/// Has SIGINT and SIGTERM delivered, also where they were inherited blocked or ignored.
void deliver_stop_signals(void (*action)(int)) {
  ::signal(SIGINT, action);
  ::signal(SIGTERM, action);
  ::pthread_sigmask(SIG_UNBLOCK, &stop_signals, nullptr);
}

}  // namespace

void hold_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) == -1)
      ::open("/dev/null", O_RDONLY);  // Takes the lowest free number, which is this one.
}

bool print(int fd, std::string_view text) {
  pollfd writable{fd, POLLOUT, 0};
  errno = EAGAIN;
  return TEMP_FAILURE_RETRY(::poll(&writable, 1, 400)) == 1 &&
         TEMP_FAILURE_RETRY(::write(fd, text.data(), text.size())) ==
             static_cast<ssize_t>(text.size());
}

std::size_t raise_descriptor_limit(std::size_t connections) {
  // Standard streams, log, listener, whatever was inherited, and the directory itself (proc(5)).
  std::error_code no_proc;
  const std::filesystem::directory_iterator entries("/proc/self/fd", no_proc);
  const auto others = static_cast<rlim_t>(std::distance(begin(entries), end(entries)));
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::clamp(others + connections, limit.rlim_cur, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);  // A sandbox may not have allowed it.
  const std::size_t possible =
      std::clamp<std::size_t>(limit.rlim_cur - std::min(limit.rlim_cur, others), 1, connections);
  if (possible < connections)
    spdlog::warn(
        "only {} connection{} can be served at once, not {}: the limit of open files (ulimit -n) "
        "is {}",
        possible, plural(possible), connections, limit.rlim_cur);
  return possible;
}

void take_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_IGN);  // Process 1 of a container inherits children: no zombies of them.
  ::pthread_sigmask(SIG_BLOCK, &waited_for, nullptr);
  deliver_stop_signals([](int) { ::_exit(0); });
}

void block_stop_signals() {
  ::pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
}

int wait_for_signal(std::optional<std::chrono::steady_clock::time_point> deadline) {
  const auto left = deadline ? *deadline - std::chrono::steady_clock::now() : 0ns;
  const timespec time{std::max(left / 1s, 0L), std::max((left % 1s).count(), 0L)};
  const int signal = ::sigtimedwait(&waited_for, nullptr, deadline ? &time : nullptr);
  return signal == -1 && errno == EAGAIN ? 0 : signal;
}

void wake() {
  ::kill(::getpid(), SIGUSR2);
}

void restore_stop_signals() {
  waited_for = set_of({SIGUSR1, SIGUSR2});
  // Process 1 of a container has no default actions (pid_namespaces(7)); a handler can end it.
  deliver_stop_signals(::getpid() == 1 ? [](int signal) { ::_exit(128 + signal); } : SIG_DFL);
}

}  // namespace echo
