#include "echo/server.hpp"

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <future>
#include <iterator>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"

namespace {

using echo::Options;
using test::Client;
using test::same_bytes;
using namespace std::chrono_literals;

std::size_t entries_of(const std::string& directory) {
  const std::filesystem::directory_iterator entries(directory);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

/// A server on loopback that runs in a thread of its own, and is stopped with the object.
class Running {
 public:
  explicit Running(const Options& options = {}) : Running(test::listen_on(), options) {}
  ~Running() { server.stop(); }

  bool has_ended() const { return run_.wait_for(0s) == std::future_status::ready; }
  bool ends() const { return run_.wait_for(test::deadline) == std::future_status::ready; }
  bool has_open(std::size_t count) const {
    return test::eventually([&] { return server.totals().open == count; });
  }

  const echo::Endpoint endpoint;
  const std::uint16_t port = test::port_of(endpoint);
  echo::Server server;

 private:
  Running(echo::Listener listener, const Options& options)
      : endpoint(listener.local_endpoint()),
        server(std::move(listener), options),
        run_(std::async(std::launch::async, [this] { server.run(); })) {}

  std::future<void> run_;  // Its destructor waits.
};

/// Whether another one can listen there.
bool is_free(const echo::Endpoint& endpoint) {
  try {
    const echo::Listener listener(endpoint);
    return true;
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::address_in_use)
      throw;
    return false;
  }
}

/// Takes the listener away from the server, as `ss -K` does.
void shut_listener_down(const Running& running) {
  for (int fd = 3; fd < 1024; ++fd) {
    echo::Endpoint endpoint;
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens == 1 &&
        ::getsockname(fd, endpoint.address(), &endpoint.length) == 0 &&
        test::port_of(endpoint) == running.port)
      ::shutdown(fd, SHUT_RDWR);
  }
}

}  // namespace

TEST_CASE("fifty clients at once each get their own bytes", "[server]") {
  Running running;
  std::vector<std::future<bool>> clients;
  for (unsigned i = 0; i < 50; ++i)
    clients.push_back(std::async(std::launch::async, [&running, i] {
      Client client(running.port);
      const std::string data = test::pattern(100'000, i + 1);
      return client.exchange(data) == data;
    }));
  for (auto& client : clients)
    CHECK(client.get());
  CHECK_FALSE(running.has_ended());
  running.server.stop();
  REQUIRE(running.ends());
  const echo::Totals totals = running.server.totals();
  CHECK(totals.open == 0);
  CHECK(totals.served == 50);
  CHECK(totals.echoed == 50 * 100'000);
  CHECK(totals.failed + totals.idled == 0);
  CHECK_FALSE(totals.lost_listener);
}

TEST_CASE("a client that never reads and one that says nothing hold up nobody", "[server]") {
  Running running;
  Client deaf(running.port);
  deaf.send_until_blocked(test::more_than_fits());
  const Client silent(running.port);
  for (int i = 0; i < 20; ++i)
    CHECK(Client(running.port).exchange("hello") == "hello");
  CHECK(running.has_open(2));
}

TEST_CASE("totals count what was served, failed, idled and echoed, and who is open", "[server]") {
  Running running({.idle_timeout = 500ms});
  Client idle(running.port);
  CHECK(idle.exchange("1") == "1");
  Client broken(running.port);
  CHECK(broken.exchange("2345") == "2345");
  CHECK(running.server.totals().open == 2);
  broken.reset();
  CHECK(idle.receive_all().empty());
  CHECK(running.has_open(0));
  const echo::Totals totals = running.server.totals();
  CHECK(totals.served == 2);
  CHECK(totals.failed == 1);
  CHECK(totals.idled == 1);
  CHECK(totals.echoed == 5);
  CHECK(totals.up >= 500ms);
}

TEST_CASE("a client that has seen its end of file is not counted as open", "[server]") {
  Running running;
  for (int i = 0; i < 300; ++i) {
    Client client(running.port);
    client.half_close();
    CHECK(client.receive_all().empty());
    REQUIRE(running.server.totals().open == 0);
  }
}

TEST_CASE("a stop gives the port back at once and lets clients finish", "[server]") {
  Running running({.chunk_size = 4096, .drain_timeout = 1h});
  Client idle(running.port);
  REQUIRE(idle.exchange("x") == "x");
  const std::string& much = test::more_than_fits();
  Client slow(running.port);
  const std::size_t sent = slow.send_until_blocked(much);
  running.server.stop();
  CHECK(idle.receive_all().empty());
  CHECK(test::eventually([&] { return is_free(running.endpoint); }));
  CHECK_FALSE(running.has_ended());
  CHECK(same_bytes(slow.receive_all(), much.substr(0, sent)));
  CHECK(running.ends());
}

TEST_CASE("a client that does not read is cut when the drain is over", "[server]") {
  for (const auto drain : {0ms, 50ms}) {
    Running running({.chunk_size = 4096, .drain_timeout = drain});
    Client deaf(running.port);
    deaf.send_until_blocked(test::more_than_fits());
    const auto start = std::chrono::steady_clock::now();
    running.server.stop();
    CHECK(running.ends());
    CHECK(std::chrono::steady_clock::now() - start >= drain);
    CHECK(running.server.totals().failed == 0);
  }
}

TEST_CASE("the longest drain ends at once when nobody is there", "[server]") {
  Running running({.drain_timeout = std::chrono::hours(100'000)});
  running.server.stop();
  CHECK(running.ends());
}

TEST_CASE("a server that has ended leaves no descriptor and no thread", "[server]") {
  const std::size_t descriptors = entries_of("/proc/self/fd");
  // A sanitizer may start a thread of its own.
  const std::size_t threads = entries_of("/proc/self/task") + (test::sanitized ? 1 : 0);
  {
    Running running;
    CHECK(Client(running.port).exchange("x") == "x");
  }
  CHECK(entries_of("/proc/self/fd") == descriptors);
  CHECK(test::eventually([&] { return entries_of("/proc/self/task") <= threads; }));
}

TEST_CASE("a listener that is taken away ends the server once its clients have left", "[server]") {
  Running running({.exit_after = 5});
  Client client(running.port);
  CHECK(client.exchange("hello") == "hello");
  shut_listener_down(running);
  CHECK(test::eventually([&] { return running.server.totals().lost_listener; }));
  CHECK(client.exchange("still here") == "still here");
  CHECK_FALSE(running.has_ended());
  client.close();
  CHECK(running.ends());
  CHECK(running.server.totals().served == 1);
}
