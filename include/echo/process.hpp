// What belongs to the process as a whole: signals, standard streams, the limit of open files.
#pragma once

#include <functional>
#include <string_view>
#include <thread>

namespace echo {

/// Opens /dev/null for each of the descriptors 0 to 2 that is closed, before anything else is
/// opened: otherwise a client's socket could become "stderr", and the log be sent to it. A write to
/// one that was closed fails. Throws std::system_error.
void ensure_standard_streams();

/// For the start of the program. A write that fails raises no signal. SIGINT and SIGTERM end the
/// program by their default action, also if they were inherited blocked or ignored; SIGUSR1 is
/// ignored. SIGHUP keeps what it was given.
void prepare_signals();

/// Writes all of `text` to stdout; throws std::system_error "write to stdout".
void print(std::string_view text);

/// Prints `line`, and makes stdout a copy of stdin, so that its reader sees the end of file. Gives
/// up a reader who takes nothing for 400 ms. Throws as `print` does, or "end stdout".
void announce(std::string_view line);

/// Raises the soft limit of open files to the hard limit (getrlimit(2)), if it can.
void raise_descriptor_limit() noexcept;

/// Starts a thread that handles SIGINT, SIGTERM and SIGUSR1 until the result is destroyed, also if
/// they were inherited blocked or ignored (sigwait(3)). To be called before other threads are
/// started, which inherit the mask that blocks these signals (pthread_sigmask(3)).
///
/// Calls `on_stop` with the number of the first SIGINT or SIGTERM, and `on_usr1` at each SIGUSR1,
/// both in the new thread; they throw nothing. Another SIGINT or SIGTERM within half a second is
/// the same stop (timeout(1) sends two); a later one ends the process by its default action.
/// Throws std::system_error "start a thread".
std::jthread handle_signals(std::function<void(int)> on_stop, std::function<void()> on_usr1);

}  // namespace echo
