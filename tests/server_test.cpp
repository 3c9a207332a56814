#include "echo/server.hpp"

#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "catch.hpp"
#include "client.hpp"

namespace {

using test::Client;

/// A started server on loopback.
class Running {
 public:
  explicit Running(std::size_t max_connections = 1024, echo::SessionLimits limits = {16, {}},
                   std::uint64_t exit_after = UINT64_MAX)
      : Running(echo::Listener(echo::resolve("127.0.0.1", 0).front()), max_connections, limits,
                exit_after) {}

  bool has_ended() {
    return test::eventually([this] { return server.has_ended(); });
  }
  bool has_totals(const std::string& text) {
    return test::eventually(
        [&] { return server.totals().substr(0, text.size() + 1) == text + ","; });
  }

  echo::Endpoint endpoint;
  std::uint16_t port;
  std::atomic<bool> told = false;  ///< That the last worker has ended.
  echo::Server server;

 private:
  Running(echo::Listener listener, std::size_t max_connections, echo::SessionLimits limits,
          std::uint64_t exit_after)
      : endpoint(listener.local_endpoint()),
        port(test::port_of(endpoint)),
        server(std::move(listener), max_connections, exit_after, limits, [this] { told = true; }) {}
};

/// Whether nothing has come for the client so far.
bool is_unanswered(Client& client) {
  char byte = 0;
  return ::recv(client.fd(), &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
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
  CHECK_FALSE(running.told);
  running.server.stop();
  REQUIRE(running.has_ended());
  CHECK(running.told);
  CHECK(running.has_totals("0 connections open, 50 connections served, " +
                           std::to_string(50 * 100'000) + " bytes echoed"));
}

TEST_CASE("a client that never reads and one that says nothing hold up nobody", "[server]") {
  Running running;
  Client deaf(running.port);
  deaf.send_until_blocked(test::pattern(64 << 20));
  const Client silent(running.port);
  for (int i = 0; i < 20; ++i) {
    Client client(running.port);
    CHECK(client.exchange("hello") == "hello");
  }
  CHECK(test::eventually(
      [&] { return running.server.totals().rfind("2 connections open,", 0) == 0; }));
}

TEST_CASE("at the limit the next client waits and is served when a place is free", "[server]") {
  for (const std::size_t limit : {1UL, 3UL}) {
    CAPTURE(limit);
    Running running(limit);
    std::vector<Client> served;
    for (std::size_t i = 0; i < limit; ++i) {
      served.emplace_back(running.port);
      REQUIRE(served.back().exchange("in") == "in");
    }
    Client waiting(running.port);
    waiting.send("next");
    for (Client& client : served)
      CHECK(client.exchange("still here") == "still here");
    CHECK(is_unanswered(waiting));
    CHECK(running.has_totals(
        std::to_string(limit) +
        (limit == 1 ? " connection open, 1 connection" : " connections open, 3 connections") +
        " served"));
    served.pop_back();
    CHECK(waiting.receive(4) == "next");
  }
}

TEST_CASE("totals count the connections that are open, too", "[server]") {
  Running running;
  Client first(running.port);
  REQUIRE(first.exchange("1") == "1");
  CHECK(running.has_totals("1 connection open, 1 connection served, 1 byte echoed"));
  REQUIRE(first.exchange("2345") == "2345");
  CHECK(running.has_totals("1 connection open, 1 connection served, 5 bytes echoed"));
  first.half_close();
  REQUIRE(first.receive_all().empty());
  CHECK(running.has_totals("0 connections open, 1 connection served, 5 bytes echoed"));
}

TEST_CASE("a stop gives the port back at once and lets clients finish", "[server]") {
  Running running(1024, {4096, {}});
  Client idle(running.port);
  REQUIRE(idle.exchange("x") == "x");
  Client slow(running.port);
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = slow.send_until_blocked(data);
  running.server.stop();
  CHECK_NOTHROW(echo::Listener(running.endpoint));
  CHECK(idle.receive_all().empty());
  CHECK_FALSE(running.server.has_ended());
  CHECK((slow.receive_all() == data.substr(0, sent)));
  CHECK(running.has_ended());
}

TEST_CASE("a client that does not read is cut when the drain is over", "[server]") {
  Running running(1024, {4096, {}});
  Client deaf(running.port);
  deaf.send_until_blocked(test::pattern(64 << 20));
  running.server.stop();
  running.server.cut();
  CHECK(running.has_ended());
}

TEST_CASE("a server that nobody stopped ends by itself", "[server]") {
  const std::size_t before = test::open_descriptors();
  {
    Running never_used;
    Running never_stopped;
    const Client client(never_stopped.port);
  }
  CHECK(test::open_descriptors() == before);
}

TEST_CASE("workers that a burst of clients started do not stay", "[server]") {
  Running running;
  const auto burst = [&running] {
    std::vector<Client> clients;
    for (int i = 0; i < 200; ++i)
      clients.emplace_back(running.port);
    for (Client& client : clients)
      if (client.exchange("x") != "x")
        return false;
    return true;
  };
  const std::size_t before = test::threads();
  REQUIRE(burst());
  CHECK(test::eventually([&] { return test::threads() <= before + 20; }));
  CHECK(burst());
}
