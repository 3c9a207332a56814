// What the server does to a client on purpose: --delay, --close-after, --reset-after, --only-first.

#include <chrono>
#include <cstddef>
#include <future>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "server.hpp"

using namespace test;
using namespace std::chrono_literals;

namespace {

const std::vector<std::string> both = {"--close-after", "--reset-after"};

/// The line of the log that tells of the end.
std::string end_of(const Client& client, const std::string& option, std::size_t bytes) {
  return "[info] connection from " + client.address() +
         (option == "--reset-after" ? " reset" : " closed") + " on purpose (" +
         std::to_string(bytes) + (bytes == 1 ? " byte in " : " bytes in ");
}

}  // namespace

TEST_CASE("with a delay each chunk goes back by itself, after its delay", "[misbehave]") {
  for (const auto& [size, delay] : {std::pair(7U, 100ms), std::pair(1U, 1ms)}) {
    Server server({"-v", "--chunk-size", std::to_string(size), "--delay",
                   std::to_string(delay.count()) + "ms"});
    Client client(server.port());
    const std::string data = "replies in pieces...";
    const auto start = Clock::now();
    client.send(data);
    std::string received;
    while (received.size() < data.size()) {
      received += client.receive_some();
      // Of each chunk no byte is there before its time.
      const auto chunks = (received.size() + size - 1) / size;
      CHECK(Clock::now() - start >= chunks * delay);
    }
    CHECK(received == data);
    server.wait_for_log(
        "sending data back to " + client.address() + ": " + std::to_string(size) + " byte",
        data.size() / size);
  }
}

TEST_CASE("a stop ends a delay, and what had arrived goes back without one", "[misbehave]") {
  Server server({"--delay", "1h", "--chunk-size", "7", "--drain-timeout", "1h"});
  Client client(server.port());
  const std::string data = pattern(1000);
  client.send(data);
  server.wait_for_clients();
  server.signal(SIGUSR1);
  server.wait_for_log("1 connection open, 1 connection served, 0 bytes echoed");
  server.signal(SIGTERM);
  CHECK(same_bytes(client.receive_all(), data));
  CHECK(server.wait() == 0);
  CHECK_THAT(server.log(), contains("closed by the stop (1000 bytes"));
}

TEST_CASE("a delay is not idle time", "[misbehave]") {
  Server server({"--delay", "600ms", "--idle-timeout", "300ms"});
  Client client = served_client(server.port());
  CHECK(client.receive_all().empty());
  server.wait_for_log("closed for idling (5 bytes");
}

TEST_CASE("exactly so many bytes come back before the end of file or the reset", "[misbehave]") {
  const std::string data = pattern(60'000);
  for (const std::string& option : both)
    for (const auto& [after, bytes, chunk] :
         {std::tuple("0", 0U, "16"), std::tuple("1", 1U, "16"), std::tuple("100", 100U, "7"),
          std::tuple("100", 100U, "64k"), std::tuple("50k", 50U << 10, "4k")}) {
      CAPTURE(option, after, chunk);
      Server server({option, after, "--chunk-size", chunk});
      Client client(server.port());
      if (bytes > 0)
        client.send(data);
      const Received received = client.receive_until_end();
      CHECK(same_bytes(received.data, data.substr(0, bytes)));
      CHECK(received.by_reset() == (option == "--reset-after"));
      if (option == "--close-after") {
        // What it sends from then on is taken and not answered.
        client.send(data);
        CHECK(client.is_acknowledged());
        client.half_close();
      }
      server.wait_for_log(end_of(client, option, bytes));
      CHECK(server.stop() == 0);
      CHECK_THAT(server.log(), !contains("failed"));
    }
}

TEST_CASE("a client that goes on sending, or sends all before it reads, gets all of its bytes",
          "[misbehave]") {
  for (const std::string& option : both) {
    CAPTURE(option);
    Server server({option, "1M", "--chunk-size", "4k"});
    const std::string data = pattern(20 << 20);
    Client busy(server.port());
    // Before a reset it goes on as long as it can, or for some gigabytes.
    auto sent = std::async(std::launch::async, [&] {
      Sent last = busy.try_to_send(data);
      for (int i = 0; i < 200 && !last.error && option == "--reset-after"; ++i)
        last = busy.try_to_send(data);
      return last;
    });
    CHECK(same_bytes(busy.receive_until_end().data, data.substr(0, 1 << 20)));
    CHECK(sent.get().is_broken_off() == (option == "--reset-after"));
    busy.close();

    Client late(server.port());
    late.use_small_buffer(65'536);
    late.send(data);
    CHECK(same_bytes(late.receive_until_end().data, data.substr(0, 1 << 20)));
  }
}

TEST_CASE("a client that ends before the limit is an ordinary one", "[misbehave]") {
  for (const std::string& option : both) {
    Server server({option, "100"});
    Client client(server.port());
    client.send("hello");
    client.half_close();
    CHECK(client.receive_all() == "hello");
    server.wait_for_log("no more data from " + client.address() + " (5 bytes");
  }
}

TEST_CASE("a client that never closes is ended by the idle timeout or the stop, on purpose",
          "[misbehave]") {
  for (const std::string& option : both) {
    CAPTURE(option);
    Server idling({option, "5", "--idle-timeout", "200ms", "--exit-after", "1"});
    Client client(idling.port());
    client.send("hello");
    CHECK(idling.wait() == 0);
    CHECK_THAT(idling.log(), contains(end_of(client, option, 5)));

    Server stopped({option, "5", "--drain-timeout", "1h"});
    Client other = served_client(stopped.port());
    CHECK(stopped.stop() == 0);
    CHECK_THAT(stopped.log(), contains(end_of(other, option, 5)));

    Server draining({option, "3M", "-c", "4k", "--drain-timeout", "200ms"});
    Client deaf(draining.port());
    deaf.use_small_buffer();
    deaf.send(pattern(3 << 20));
    draining.wait_for_clients();
    const auto start = Clock::now();
    CHECK(draining.stop() == 0);
    CHECK(Clock::now() - start >= 200ms);
    CHECK_THAT(draining.log(), !contains("failed"));
  }
}

TEST_CASE("what is done on purpose is done to exactly the first clients", "[misbehave]") {
  Server server({"--reset-after", "0", "--only-first", "7"});
  CHECK(count_served(server.port(), 30) == 30 - 7);
  CHECK(server.stop() == 0);
  CHECK(count_of(server.log(), " reset on purpose (0 bytes") == 7);
  CHECK(count_of(server.log(), "failed") == 0);
}

TEST_CASE("a delay delays no other client, and costs no processor time", "[misbehave]") {
  Server server({"--delay", "1h", "--only-first", "2"});
  Client first(server.port());
  first.send("hello");
  server.wait_for_clients(1);
  Client second(server.port());
  second.send("hello");
  server.wait_for_clients(2);
  CHECK(Client(server.port()).exchange("hello") == "hello");
  CHECK(Client(server.port()).exchange("hello") == "hello");
  CHECK(server.is_at_rest());
  CHECK(first.is_unanswered());
  CHECK(second.is_unanswered());

  Server slow({"--delay", "300ms"});
  CHECK(count_served(slow.port(), 100) == 100);  // One after another takes more than the deadline.
}
