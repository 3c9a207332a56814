// Which signals the program takes, and waiting for one.
#pragma once

#include <chrono>

namespace echo {

/// For the start of the program: whatever was inherited, SIGINT and SIGTERM end the process at once
/// with status 0, for nothing is served yet; SIGUSR1 waits for `wait_for_signal`, SIGPIPE is
/// ignored. SIGHUP keeps what it was given.
void take_signals();

/// From now on SIGINT and SIGTERM, too, wait for `wait_for_signal`. To be called before the first
/// thread is started: threads inherit the mask (pthread_sigmask(3)).
void block_stop_signals();

/// Waits for SIGINT, SIGTERM or SIGUSR1 and returns it; 0 if none arrives (sigtimedwait(2)).
int wait_for_signal(std::chrono::milliseconds patience);

/// SIGINT and SIGTERM end the process by their default action again.
void restore_stop_signals();

/// Takes a SIGUSR1 that has arrived; false if there is none.
bool take_status_request();

}  // namespace echo
