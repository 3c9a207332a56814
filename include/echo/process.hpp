// What belongs to the process as a whole: signals, standard streams, the limit of open files.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string_view>

namespace echo {

/// Makes sure that descriptors 0 to 2 are open, before the first other one is: otherwise a client's
/// socket could become "stderr", and the log be sent to it. A write to one that was closed fails.
void hold_standard_streams();

/// Returns whether all of `text` was written; errno tells why not. A pipe that nobody reads is
/// given up after 400 ms.
bool print(int fd, std::string_view text);

/// Raises the soft limit of open files as far as `connections` need and the hard limit allows, and
/// returns how many connections can then be served; warns if those are fewer (getrlimit(2)).
/// Whatever else is to stay open has to be open by then.
std::size_t raise_descriptor_limit(std::size_t connections);

/// For the start of the program: until something is served, SIGINT and SIGTERM end it at once with
/// status 0, also if they were inherited blocked or ignored. SIGPIPE is ignored. SIGHUP keeps what
/// it was given.
void take_signals();

/// From now on SIGINT and SIGTERM wait for `wait_for_signal`. To be called before the first thread
/// is started: threads inherit the mask (pthread_sigmask(3)).
void block_stop_signals();

/// Waits for SIGINT, SIGTERM, SIGUSR1 or `wake` and returns the signal's number; 0 at the deadline,
/// -1 if the wait was interrupted (sigtimedwait(2)). For the main thread.
int wait_for_signal(std::optional<std::chrono::steady_clock::time_point> deadline);

/// Ends a `wait_for_signal`, now or the next one. Any thread may call it.
void wake();

/// SIGINT and SIGTERM end the process by their default action again.
void restore_stop_signals();

}  // namespace echo
