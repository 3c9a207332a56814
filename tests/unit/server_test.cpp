#include "echo/server.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <future>
#include <iterator>
#include <string>
#include <utility>

#include "client.hpp"
#include "echo/options.hpp"
#include "echo/socket.hpp"
#include "matchers.hpp"

namespace test {
namespace {

std::size_t entries_of(const std::string& directory) {
  const std::filesystem::directory_iterator entries(directory);
  return static_cast<std::size_t>(std::distance(entries, {}));
}

/// A server on loopback that runs in a thread of its own, and is stopped with the object.
class RunningServer {
 public:
  explicit RunningServer(const echo::Options& options = {})
      : RunningServer(listen_on_loopback(), options) {}
  ~RunningServer() { server.stop(); }

  const std::uint16_t port;
  echo::Server server;

 private:
  RunningServer(echo::Listener listener, const echo::Options& options)
      : port(listener.local_endpoint().port()),
        server(std::move(listener), options),
        run_(std::async(std::launch::async, [this] { server.run(); })) {}

  std::future<void> run_;  // Its destructor waits.
};

}  // namespace

TEST_CASE("client that has seen its end of file is not counted as open", "[server]") {
  RunningServer running;
  for (int i = 0; i < 300; ++i) {
    Client client(running.port);
    client.half_close();
    CHECK(client.receive_all().empty());
    REQUIRE(running.server.totals().open == 0);
  }
  CHECK(running.server.totals().accepted == 300);
}

TEST_CASE("server that has ended leaves no descriptor and no thread", "[server]") {
  const std::size_t descriptors = entries_of("/proc/self/fd");
  // A sanitizer may start a thread of its own.
  const std::size_t threads = entries_of("/proc/self/task") + (sanitized ? 1 : 0);
  {
    RunningServer running;
    CHECK(Client(running.port).exchange("x") == "x");
  }
  CHECK(entries_of("/proc/self/fd") == descriptors);
  CHECK(eventually([&] { return entries_of("/proc/self/task") <= threads; }));
}

TEST_CASE("totals tell timeouts from failures and how long the server is up", "[server]") {
  RunningServer running(
      {.max_connections = 2, .idle_timeout = std::chrono::milliseconds(100), .reset_after = 1});
  Client idle(running.port);
  CHECK(idle.receive_all().empty());
  Client(running.port).exchange("x");
  CHECK(eventually([&] { return running.server.totals().open == 0; }));
  const echo::Totals totals = running.server.totals();
  CHECK(totals.timed_out == 1);
  CHECK(totals.failed == 0);
  CHECK(totals.accepted == 2);
  CHECK(totals.echoed == 1);
  CHECK(totals.uptime >= std::chrono::milliseconds(100));
  CHECK(running.server.totals().uptime > totals.uptime);
}

}  // namespace test
