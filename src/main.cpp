#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <exception>
#include <iterator>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "echo/endpoint.hpp"
#include "echo/log.hpp"
#include "echo/options.hpp"
#include "echo/process.hpp"
#include "echo/server.hpp"
#include "echo/socket.hpp"
#include "echo/value.hpp"

namespace {

using echo::plural;

/// "2 connections served, 31 bytes echoed, uptime 1.5 s". Allocates no memory, because SIGUSR1 must
/// work when memory is exhausted.
fmt::memory_buffer text_of(const echo::Totals& totals) {
  fmt::memory_buffer text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "{} connection{} served", totals.accepted, plural(totals.accepted));
  if (totals.failed > 0)
    fmt::format_to(out, ", {} failed", totals.failed);
  if (totals.timed_out > 0)
    fmt::format_to(out, ", {} timed out", totals.timed_out);
  fmt::format_to(out, ", {} byte{} echoed, uptime {:.1f} s", totals.echoed, plural(totals.echoed),
                 totals.uptime.count());
  return text;
}

/// Stops before it logs, so that nothing about the log can delay the stop.
void on_stop(echo::Server& server, int signal, std::chrono::milliseconds drain_timeout) {
  const std::size_t open = server.totals().open;  // Read first, because a stop ends connections.
  server.stop();
  const char* const name = signal == SIGINT ? "SIGINT" : "SIGTERM";
  if (open == 0) {
    spdlog::info("received {}, stopping", name);
    return;
  }
  const char* const connections = open == 1 ? "connection has" : "connections have";
  const char* const again = signal == SIGINT ? "press Ctrl+C again" : "send SIGTERM again";
  spdlog::info("received {}, stopping: {} open {} {} s to finish; {} to stop now", name, open,
               connections, std::chrono::duration<double>(drain_timeout).count(), again);
}

void on_usr1(const echo::Server& server) {
  const echo::Totals totals = server.totals();
  const fmt::memory_buffer text = text_of(totals);
  fmt::memory_buffer line;
  fmt::format_to(std::back_inserter(line), "{} connection{} open, {}", totals.open,
                 plural(totals.open), std::string_view(text.data(), text.size()));
  echo::log_unless_off({line.data(), line.size()});
}

/// Prints the one line on stdout. If that fails, the server still serves: whoever does not read
/// stdout may know the port from the command line.
void announce_address(const std::string& address) {
  try {
    echo::announce("Listening on " + address + '\n');
  } catch (const std::system_error& error) {
    spdlog::error("cannot {}", error.what());
  }
}

/// Two lines, because one would not fit on a terminal of 80 columns.
void log_start(const echo::Options& options, const std::string& address) {
  spdlog::info("serving on {} (chunk size {} byte{})", address, options.chunk_size,
               plural(options.chunk_size));
  spdlog::info("at most {} connection{}{}", options.max_connections,
               plural(options.max_connections),
               ::isatty(STDERR_FILENO) == 1 ? "; press Ctrl+C to stop" : "");
  if (!options.test_settings.empty())
    spdlog::info("testing clients with {}", options.test_settings);
  if (options.max_connections > 0)
    spdlog::debug("waiting for a connection");
}

/// Returns the exit status.
int run_server(const echo::Options& options) {
  echo::set_up_log(options.log_level);
  spdlog::debug("starting: host {}, port {}", echo::escaped(options.host), options.port);
  echo::raise_descriptor_limit();
  echo::Listener listener = echo::listen_on_first(echo::resolve(options.host, options.port));
  if (options.max_connections == 0)  // This tests clients: not even their `connect` is answered.
    listener.fill_backlog();
  const std::string address = listener.local_endpoint().to_string();

  echo::Server server(std::move(listener), options);
  {
    const std::jthread signals =
        echo::handle_signals([&](int signal) { on_stop(server, signal, options.drain_timeout); },
                             [&] { on_usr1(server); });
    announce_address(address);
    echo::notify_ready();
    log_start(options, address);
    server.run();
  }  // The signal thread is joined, so that whatever it logs stands before the last line.

  const echo::Totals totals = server.totals();
  const fmt::memory_buffer text = text_of(totals);
  spdlog::info("stopped: {}", std::string_view(text.data(), text.size()));
  if (server.has_lost_listener())
    return 1;
  // The verdict of --exit-after on its clients. (A connection that the drain timeout aborted says
  // nothing about its client.) It holds only if all of them have come.
  const bool have_all_come =
      options.exit_after != echo::never && totals.accepted == options.exit_after;
  return have_all_come && totals.failed + totals.timed_out > 0 ? 3 : 0;
}

/// Prints an error, and returns `status`. Not by the log, because these messages have a form of
/// their own, and some come before the log is set up.
int fail(int status, const std::string& text) {
  const char* const priority = echo::is_stderr_journal() ? "<3>" : "";  // "error" in sd-daemon(3).
  echo::print_error(priority + ("echo-server: " + text + '\n'));
  return status;
}

/// Prints the help or the version, and returns the exit status.
int print_information(const std::string& text) {
  try {
    echo::print(text);
    return 0;
  } catch (const std::system_error& error) {
    const int code = error.code().value();
    if (code == EPIPE || code == ECONNRESET)  // Nobody reads it, as in `echo-server --help | head`.
      return 1;
    throw;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    echo::ensure_standard_streams();
    echo::prepare_signals();
    const echo::Options options = echo::parse_options(argc, argv);
    return options.information.empty() ? run_server(options)
                                       : print_information(options.information);
  } catch (const echo::UsageError& error) {
    return fail(2, echo::escaped(error.what()) + "\nTry 'echo-server --help'.");
  } catch (const std::bad_alloc&) {
    return fail(1, "out of memory");
  } catch (const std::exception& error) {
    return fail(1, "cannot " + echo::escaped(error.what()));
  }
}
