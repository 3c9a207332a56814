#include <spdlog/spdlog.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <iostream>

#include "echo/endpoint.hpp"
#include "echo/log.hpp"
#include "echo/options.hpp"
#include "echo/server.hpp"
#include "echo/signals.hpp"
#include "echo/socket.hpp"

namespace {

void serve(const echo::Options& options) {
  echo::set_up_log(options.log_level);
  spdlog::debug("starting up on host {}, port {}", options.host, options.port);
  echo::Listener listener = echo::listen_on_first(echo::resolve(options.host, options.port));
  const std::string address = listener.local_endpoint().to_string();
  echo::Server server(std::move(listener), options.max_connections,
                      {options.chunk_size, options.idle_timeout});
  echo::block_stop_signals();
  server.start();
  std::cout << "Listening on " << address << std::endl;
  if (!std::cout)
    spdlog::error("cannot write to stdout: {}", std::strerror(errno));
  spdlog::info("serving on {}: chunk size {} bytes, at most {} connections; Ctrl+C stops", address,
               options.chunk_size, options.max_connections);

  int signal = echo::wait_for_signal();
  for (; signal == SIGUSR1; signal = echo::wait_for_signal())
    echo::log_at_any_level(server.totals().to_string());
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
    if (const auto* information = std::get_if<echo::Information>(&parsed))
      return std::cout << *information << std::flush ? 0 : 1;
    serve(std::get<echo::Options>(parsed));
    return 0;
  } catch (const echo::UsageError& error) {
    std::cerr << "echo-server: " << error.what() << "\nTry 'echo-server --help'.\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "echo-server: cannot " << error.what() << '\n';
    return 1;
  }
}
