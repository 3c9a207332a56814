#include <poll.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "echo/descriptors.hpp"
#include "echo/endpoint.hpp"
#include "echo/log.hpp"
#include "echo/options.hpp"
#include "echo/server.hpp"
#include "echo/signals.hpp"
#include "echo/socket.hpp"

namespace {

/// Returns whether all was written; errno tells why not. Gives up where nobody makes room for
/// 400 ms.
bool print(int fd, std::string_view text) {
  pollfd writable{fd, POLLOUT, 0};
  while (!text.empty()) {
    errno = EAGAIN;
    const ssize_t written =
        ::poll(&writable, 1, 400) == 1 ? ::write(fd, text.data(), text.size()) : -1;
    if (written == -1)
      return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

/// Returns the signal that asks to stop.
int serve_until_stopped(echo::Server& server) {
  for (;;) {
    const int signal = echo::wait_for_signal(std::chrono::milliseconds(100));
    if (signal == SIGINT || signal == SIGTERM)
      return signal;
    if (signal == SIGUSR1)
      echo::log_at_any_level(server.totals().to_string());
    server.retry();
  }
}

void serve(const echo::Options& options) {
  echo::set_up_log(options.log_level);
  spdlog::debug("starting up on host {}, port {}", options.host, options.port);
  echo::Listener listener = echo::listen_on_first(echo::resolve(options.host, options.port));
  const std::string address = listener.local_endpoint().to_string();
  echo::Server server(std::move(listener), options.max_connections,
                      {options.chunk_size, options.idle_timeout});
  echo::raise_descriptor_limit(options.max_connections);
  echo::block_stop_signals();
  server.start();
  if (!print(STDOUT_FILENO, "Listening on " + address + '\n'))
    spdlog::error("cannot write to stdout: {}", std::strerror(errno));
  spdlog::info("serving on {}: chunk size {} bytes, at most {} connections; Ctrl+C stops", address,
               options.chunk_size, options.max_connections);
  spdlog::debug("waiting for a connection");

  const int signal = serve_until_stopped(server);
  echo::restore_stop_signals();
  spdlog::info(
      "stopping on {}: {} connections open, they get {} s to finish; Ctrl+C again to stop now",
      signal == SIGINT ? "SIGINT" : "SIGTERM", server.totals().open,
      std::chrono::duration<double>(options.drain_timeout).count());
  server.stop(options.drain_timeout);
  while (!server.wait_until_stopped(std::chrono::milliseconds(100)))
    if (echo::take_status_request())
      echo::log_at_any_level(server.totals().to_string());
  spdlog::info("stopped: {}", server.totals().to_string());
}

}  // namespace

int main(int argc, char** argv) {
  echo::hold_standard_streams();
  echo::take_signals();
  try {
    const auto parsed = echo::parse_options(argc, argv);
    if (const auto* options = std::get_if<echo::Options>(&parsed))
      serve(*options);
    else if (!print(STDOUT_FILENO, std::get<echo::Information>(parsed)))
      throw std::system_error(errno, std::system_category(), "write to stdout");
    return 0;
  } catch (const echo::UsageError& error) {
    print(STDERR_FILENO, fmt::format("echo-server: {}\nTry 'echo-server --help'.\n", error.what()));
    return 2;
  } catch (const std::exception& error) {
    print(STDERR_FILENO, fmt::format("echo-server: cannot {}\n", error.what()));
    return 1;
  }
}
