#include "echo/signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <initializer_list>

namespace echo {
namespace {

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals)
    ::sigaddset(&set, signal);
  return set;
}

void change_mask(int how, std::initializer_list<int> signals) {
  const sigset_t set = set_of(signals);
  ::pthread_sigmask(how, &set, nullptr);
}

}  // namespace

void take_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_IGN);  // Process 1 of a container inherits children: no zombies of them.
  change_mask(SIG_BLOCK, {SIGUSR1});
  for (const int stop : {SIGINT, SIGTERM})
    ::signal(stop, [](int) { ::_exit(0); });
  change_mask(SIG_UNBLOCK, {SIGINT, SIGTERM});
}

void block_stop_signals() {
  change_mask(SIG_BLOCK, {SIGINT, SIGTERM});
}

int wait_for_signal(std::chrono::milliseconds patience) {
  const sigset_t set = set_of({SIGINT, SIGTERM, SIGUSR1});
  const timespec time{patience.count() / 1000, patience.count() % 1000 * 1'000'000};
  return std::max(::sigtimedwait(&set, nullptr, &time), 0);
}

void restore_stop_signals() {
  // Process 1 of a container has no default actions (pid_namespaces(7)); a handler can end it.
  const auto action = ::getpid() == 1 ? [](int signal) { ::_exit(128 + signal); } : SIG_DFL;
  for (const int stop : {SIGINT, SIGTERM})
    ::signal(stop, action);
  change_mask(SIG_UNBLOCK, {SIGINT, SIGTERM});
}

bool take_status_request() {
  const sigset_t set = set_of({SIGUSR1});
  constexpr timespec no_time{};
  return ::sigtimedwait(&set, nullptr, &no_time) == SIGUSR1;
}

}  // namespace echo
