#include <spdlog/spdlog.h>
#include <unistd.h>

#include <csignal>

#include "echo/log.hpp"
#include "echo/options.hpp"
#include "echo/process.hpp"
#include "echo/server.hpp"

namespace {

/// Handles signals until the last worker has ended; its end comes as a signal, too. Cuts what is
/// left when the drain is over.
void serve_until_stopped(echo::Server& server, std::chrono::milliseconds drain_timeout) {
  std::optional<std::chrono::steady_clock::time_point> end_of_drain;
  while (!server.has_ended()) {
    const int signal = echo::wait_for_signal(end_of_drain);
    if (signal == SIGINT || signal == SIGTERM) {
      echo::restore_stop_signals();  // First: a second one has to work whatever happens below.
      spdlog::info("stopping on {}: {}; {} s to finish, a second Ctrl+C ends it now",
                   signal == SIGINT ? "SIGINT" : "SIGTERM", server.totals(),
                   std::chrono::duration<double>(drain_timeout).count());
      server.stop();
      end_of_drain = std::chrono::steady_clock::now() + drain_timeout;
    } else if (signal == SIGUSR1) {
      echo::log_at_any_level(server.totals());
    } else if (signal == 0) {
      server.cut();
      end_of_drain.reset();
    }
  }
}

/// Returns the exit status.
int serve(const echo::Options& options) {
  echo::set_up_log(options.log_level);
  spdlog::debug("starting up on host {}, port {}", echo::escaped(options.host), options.port);
  echo::Listener listener = echo::listen_on_first(echo::resolve(options.host, options.port));
  const std::string address = listener.local_endpoint().to_string();
  const std::size_t connections = echo::raise_descriptor_limit(options.max_connections);
  echo::block_stop_signals();
  echo::Server server(std::move(listener), connections, options.exit_after,
                      {options.chunk_size, options.idle_timeout, options.delay, options.close_after,
                       options.reset_after},
                      echo::wake);
  if (!echo::print(STDOUT_FILENO, "Listening on " + address + '\n'))
    spdlog::error("cannot write to stdout: {}", std::strerror(errno));
  spdlog::info("serving on {}: chunk size {} byte{}, at most {} connection{}; Ctrl+C stops",
               address, options.chunk_size, echo::plural(options.chunk_size), connections,
               echo::plural(connections));
  spdlog::debug("waiting for a connection");
  serve_until_stopped(server, options.drain_timeout);
  spdlog::info("stopped: {}", server.totals());
  return server.has_failed() ? 3 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  echo::hold_standard_streams();
  echo::take_signals();
  try {
    const echo::Options options = echo::parse_options(argc, argv);
    if (options.information.empty())
      return serve(options);
    if (!echo::print(STDOUT_FILENO, options.information))
      throw std::system_error(errno, std::system_category(), "write to stdout");
    return 0;
  } catch (const echo::UsageError& e) {
    echo::print(STDERR_FILENO, fmt::format("echo-server: {}\nTry 'echo-server --help'.\n",
                                           echo::escaped(e.what())));
    return 2;
  } catch (const std::exception& e) {
    echo::print(STDERR_FILENO, fmt::format("echo-server: cannot {}\n", echo::escaped(e.what())));
    return 1;
  }
}
