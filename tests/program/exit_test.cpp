// --exit-after: how many clients, and the verdict on them.

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace {

using namespace std::chrono_literals;
using test::Client;
using test::contains;
using test::Server;

/// A client that gets its echo and closes.
void serve_one(std::uint16_t port) {
  Client client(port);
  CHECK(client.exchange("hello") == "hello");
  client.half_close();
  CHECK(client.receive_all().empty());
}

}  // namespace

TEST_CASE("the server accepts exactly so many clients, gives the port back and ends with them",
          "[exit]") {
  for (const std::string connections : {"1", "2", "1024"}) {
    CAPTURE(connections);
    const test::TemporaryFile log;
    Server server({"--exit-after", "3", "--max-connections", connections}, {.err = log.fd()});
    const std::uint16_t port = server.port();
    // More than three at the same moment.
    std::vector<std::future<bool>> clients;
    for (int i = 0; i < 10; ++i)
      clients.push_back(std::async(std::launch::async, [port] {
        try {
          return Client(port).exchange("hello") == "hello";
        } catch (const std::system_error&) {
          return false;  // Refused, or dropped from the queue.
        }
      }));
    int served = 0;
    for (auto& client : clients)
      served += client.get() ? 1 : 0;
    CHECK(served == 3);
    CHECK(server.wait() == 0);
    CHECK(test::count_of(log.text(), "connection accepted") == 3);
    CHECK_THAT(log.text(), contains("] stopped: 3 connections served, 15 bytes"));
  }
}

TEST_CASE("not one client too many is accepted while the listener closes", "[exit]") {
  // There is time for another accept before the shutdown of the listener, which comes first.
  Server server({"--exit-after", "2"}, test::with_faults("shutdown:delay_enter=500000:when=1"));
  Client first(server.port());
  CHECK(first.exchange("1") == "1");
  Client second(server.port());
  const Client third(server.port());
  CHECK(second.exchange("2") == "2");
  first.half_close();
  second.half_close();
  CHECK(server.wait() == 0);
  CHECK(test::count_of(server.log(), "connection accepted") == 2);
}

TEST_CASE("the port is free while the last clients are still served", "[exit]") {
  Server server({"--exit-after", "2"});
  Client first(server.port());
  Client second(server.port());
  CHECK(first.exchange("1") == "1");
  CHECK(second.exchange("2") == "2");
  REQUIRE(test::eventually([&] { return test::is_refused(server.port()); }));
  CHECK_NOTHROW(echo::Listener(echo::resolve("127.0.0.1", server.port()).front()));
  first.half_close();
  CHECK(second.exchange("still here") == "still here");
  CHECK(server.is_running());
  second.half_close();
  CHECK(server.wait() == 0);
}

TEST_CASE("the exit status tells whether a client failed or idled, whether a stop came or not",
          "[exit]") {
  for (const bool stops : {false, true}) {
    CAPTURE(stops);
    Server server({"--exit-after", "3", "--idle-timeout", "1s"});
    Client(server.port()).reset();
    server.wait_for_log("failed, receive: Connection reset by peer (0 bytes");
    Client idle(server.port());
    CHECK(idle.receive_all().empty());
    Client last(server.port());
    CHECK(last.exchange("hello") == "hello");
    if (stops)
      server.signal(SIGTERM);
    else
      last.half_close();
    CHECK(last.receive_all().empty());
    CHECK(server.wait() == 3);
    CHECK_THAT(server.log(), contains("stopped: 3 connections served, 1 failed, 1 idled, 5 bytes"));
  }
  {
    Server idled({"--exit-after", "1", "--idle-timeout", "100ms"});
    const Client client(idled.port());
    CHECK(idled.wait() == 3);
  }
  {
    Server one_by_one({"--exit-after", "2", "--max-connections", "1"});
    Client(one_by_one.port()).reset();
    serve_one(one_by_one.port());
    CHECK(one_by_one.wait() == 3);
  }
  {
    Server well({"--exit-after", "2"});
    serve_one(well.port());
    Client last(well.port());
    CHECK(last.exchange("hello") == "hello");
    CHECK(well.stop() == 0);
  }
}

TEST_CASE("a stop before all clients were there is no verdict", "[exit]") {
  Server server({"--exit-after", "2"});
  Client(server.port()).reset();
  server.wait_for_log("failed, receive: Connection reset by peer");
  CHECK(server.stop() == 0);
}

TEST_CASE("a client that closes before its reply has failed, whatever its length", "[exit]") {
  for (const std::size_t size : {5U, 16U, 17U}) {
    CAPTURE(size);
    Server server({"--exit-after", "1", "--delay", "200ms"});
    Client client(server.port());
    client.send(test::pattern(size));
    server.wait_for_clients();
    client.close();
    CHECK(server.wait() == 3);
    CHECK_THAT(server.log(), contains("stopped: 1 connection served, 1 failed, "));
  }
}

TEST_CASE("a client that takes its time to read ends well", "[exit]") {
  Server server({"--exit-after", "1", "-c", "4k"});
  Client client(server.port());
  client.use_small_buffer(65'536);
  const std::string data = test::pattern(1 << 20);
  client.send(data);
  client.half_close();
  CHECK(server.is_running());
  CHECK(test::same_bytes(client.receive_all(), data));
  CHECK(server.wait() == 0);
}

TEST_CASE("all together serve one client after another", "[exit]") {
  Server server({"--max-connections", "1", "--delay", "10ms", "--chunk-size", "4", "--close-after",
                 "10", "--only-first", "2", "--exit-after", "3"});
  for (int i = 0; i < 2; ++i) {
    Client client(server.port());
    client.send("ten bytes and more");
    CHECK(client.receive_all() == "ten bytes ");
  }
  serve_one(server.port());
  CHECK(server.wait() == 0);
  CHECK(test::count_of(server.log(), "closed on purpose (10 bytes") == 2);
}
