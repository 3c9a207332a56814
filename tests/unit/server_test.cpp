#include "echo/server.hpp"

#include <filesystem>
#include <future>
#include <iterator>
#include <string>
#include <utility>

#include "client.hpp"
#include "matchers.hpp"

namespace {

using test::Client;

std::size_t entries_of(const std::string& directory) {
  const std::filesystem::directory_iterator entries(directory);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

/// A server on loopback that runs in a thread of its own, and is stopped with the object.
class RunningServer {
 public:
  RunningServer() : RunningServer(test::listen_on_loopback()) {}
  ~RunningServer() { server.stop(); }

  const std::uint16_t port;
  echo::Server server;

 private:
  explicit RunningServer(echo::Listener listener)
      : port(test::port_of(listener.local_endpoint())),
        server(std::move(listener), {}),
        run_(std::async(std::launch::async, [this] { server.run(); })) {}

  std::future<void> run_;  // Its destructor waits.
};

}  // namespace

TEST_CASE("a client that has seen its end of file is not counted as open", "[server]") {
  RunningServer running;
  for (int i = 0; i < 300; ++i) {
    Client client(running.port);
    client.half_close();
    CHECK(client.receive_all().empty());
    REQUIRE(running.server.totals().open == 0);
  }
}

TEST_CASE("a server that has ended leaves no descriptor and no thread", "[server]") {
  const std::size_t descriptors = entries_of("/proc/self/fd");
  // A sanitizer may start a thread of its own.
  const std::size_t threads = entries_of("/proc/self/task") + (test::sanitized ? 1 : 0);
  {
    RunningServer running;
    CHECK(Client(running.port).exchange("x") == "x");
  }
  CHECK(entries_of("/proc/self/fd") == descriptors);
  CHECK(test::eventually([&] { return entries_of("/proc/self/task") <= threads; }));
}
