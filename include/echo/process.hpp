// What belongs to the process as a whole: signals, standard streams, the limit on open files.
#pragma once

#include <functional>
#include <string_view>
#include <thread>

namespace echo {

/// Opens /dev/null on each of the file descriptors 0 to 2 that is closed. Must come before anything
/// else is opened: otherwise a client's socket could become descriptor 2, and receive the log.
/// Throws std::system_error.
void ensure_standard_streams();

/// Sets the signals for the time until the server is ready. SIGINT and SIGTERM end the process
/// immediately, even if they were inherited blocked or ignored, as in a background job of a script,
/// and even if the process has the id 1. SIGUSR1 is ignored, and so is what a failed write would
/// raise. SIGHUP keeps its inherited disposition, because nohup(1) relies on it.
void prepare_signals();

/// Writes all of `text` to stdout. Throws std::system_error "write to stdout: <reason>".
void print(std::string_view text);

/// Writes `text` to stderr, or gives up if nobody makes room for it within 400 ms.
void print_error(std::string_view text) noexcept;

/// Prints `line`, or gives up if nobody makes room for it within 400 ms. In either case, standard
/// input and output then become /dev/null, so that a reader of stdout sees end of file. Throws as
/// `print` does, or "open /dev/null: <reason>".
void announce(std::string_view line);

/// Tells a service manager that clients can connect: READY=1 to NOTIFY_SOCKET (sd_notify(3)). Does
/// nothing without that variable, and ignores failures.
void notify_ready() noexcept;

/// Raises the soft limit on open files to the hard limit (getrlimit(2)), if possible.
void raise_descriptor_limit() noexcept;

/// Starts a thread that handles SIGINT, SIGTERM and SIGUSR1 from now on, until the result is
/// destroyed. To be called before any other thread is started: each thread inherits the mask that
/// blocks these signals, so that only sigwait(3) in this thread receives them.
///
/// Calls `on_stop` with the number of the first SIGINT or SIGTERM, and `on_usr1` at each SIGUSR1,
/// both in the new thread; they must not throw. Another SIGINT or SIGTERM within 500 ms is ignored,
/// because timeout(1) and some wrappers send the signal twice. A later one ends the process.
/// Throws std::system_error "start a thread: <reason>".
std::jthread handle_signals(std::function<void(int)> on_stop, std::function<void()> on_usr1);

}  // namespace echo
