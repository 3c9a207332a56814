#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iterator>
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

namespace {

using echo::plural;

/// Does not allocate: SIGUSR1 must work when memory is exhausted.
fmt::memory_buffer text_of(const echo::Totals& totals) {
  fmt::memory_buffer text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "{} connection{} served", totals.served, plural(totals.served));
  if (totals.failed > 0)
    fmt::format_to(out, ", {} failed", totals.failed);
  if (totals.idled > 0)
    fmt::format_to(out, ", {} idled", totals.idled);
  fmt::format_to(out, ", {} byte{} echoed, up {:.3f} s", totals.echoed, plural(totals.echoed),
                 totals.up.count());
  return text;
}

void stop(echo::Server& server, int signal, std::chrono::milliseconds drain_timeout) {
  const std::size_t open = server.totals().open;
  const std::chrono::duration<double> seconds = drain_timeout;
  const char* const name = signal == SIGINT ? "SIGINT" : "SIGTERM";
  if (open == 0)
    spdlog::info("stopping on {}", name);
  else
    spdlog::info("stopping on {}: {} connection{} open, {} s to finish; {} again ends it now", name,
                 open, plural(open), seconds.count(), signal == SIGINT ? "Ctrl+C" : name);
  server.stop();
}

/// At spdlog's level "critical", which is shown at every level but "off".
void report(const echo::Server& server) {
  const echo::Totals totals = server.totals();
  const fmt::memory_buffer text = text_of(totals);
  spdlog::critical("{} connection{} open, {}", totals.open, plural(totals.open),
                   std::string_view(text.data(), text.size()));
}

/// Returns the exit status.
int serve(const echo::Options& options) {
  echo::set_up_log(options.log_level);
  spdlog::debug("starting up on host {}, port {}", echo::escaped(options.host), options.port);
  echo::raise_descriptor_limit();
  echo::Listener listener = echo::listen_on_first(echo::resolve(options.host, options.port));
  const std::string address = listener.local_endpoint().to_string();
  echo::Server server(std::move(listener), options);
  const std::jthread signals = echo::handle_signals(
      [&](int signal) { stop(server, signal, options.drain_timeout); }, [&] { report(server); });
  try {
    echo::announce("Listening on " + address + '\n');
  } catch (const std::system_error& error) {
    spdlog::error("cannot {}", error.what());
  }
  spdlog::info("serving on {}: chunk size {} byte{}, at most {} connection{}; Ctrl+C stops",
               address, options.chunk_size, plural(options.chunk_size), options.max_connections,
               plural(options.max_connections));
  spdlog::debug("waiting for a connection");
  server.run();
  const echo::Totals totals = server.totals();
  const fmt::memory_buffer text = text_of(totals);
  spdlog::info("stopped: {}", std::string_view(text.data(), text.size()));
  if (totals.lost_listener)
    return 1;
  const bool all_came = totals.served == options.exit_after;
  return all_came && totals.failed + totals.idled > 0 ? 3 : 0;
}

/// Prints an error; returns `status`.
int fail(int status, const std::string& text) {
  std::fputs(("echo-server: " + text + '\n').c_str(), stderr);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    echo::ensure_standard_streams();
    echo::prepare_signals();
    const echo::Options options = echo::parse_options(argc, argv);
    if (options.information.empty())
      return serve(options);
    echo::print(options.information);
    return 0;
  } catch (const echo::UsageError& error) {
    return fail(2, echo::escaped(error.what()) + "\nTry 'echo-server --help'.");
  } catch (const std::exception& error) {
    const std::string text = echo::escaped(error.what());
    const bool is_denied = text.starts_with("listen on") && text.ends_with(std::strerror(EACCES));
    return fail(1, "cannot " + text + (is_denied ? " (a port below 1024 needs root)" : ""));
  }
}
