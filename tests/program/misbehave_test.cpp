// What the server does to a client on purpose: --delay, --close-after, --reset-after, --only-first.

#include <sys/socket.h>

#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using test::Client;
using test::contains;
using test::same_bytes;
using test::Server;

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
  for (const std::string connections : {"1", "1024"}) {
    Server server({"--delay", "1h", "--chunk-size", "7", "--drain-timeout", "1h",
                   "--max-connections", connections});
    Client client(server.port());
    const std::string data = test::pattern(1000);
    client.send(data);
    server.wait_for_clients();
    server.signal(SIGUSR1);
    server.wait_for_log("1 connection open, 1 connection served, 0 bytes echoed");
    server.signal(SIGTERM);
    CHECK(same_bytes(client.receive_all(), data));
    CHECK(server.wait() == 0);
    CHECK_THAT(server.log(), contains("closed by the stop (1000 bytes"));
  }
}

TEST_CASE("a delay is not idle time", "[misbehave]") {
  Server server({"--delay", "1500ms", "--idle-timeout", "500ms"});
  Client client(server.port());
  CHECK(client.exchange("hello") == "hello");
  CHECK(client.receive_all().empty());
  server.wait_for_log("closed for idling (5 bytes");
}

TEST_CASE("two hundred clients wait for their delays at the same time, for nothing",
          "[misbehave]") {
  Server server({"--delay", "1s"});
  const std::size_t memory = server.status_number("VmRSS");
  std::vector<Client> clients;
  for (unsigned i = 0; i < 200; ++i)
    clients.emplace_back(server.port());
  server.wait_for_clients(200);
  const auto time = server.processor_time();
  const auto start = Clock::now();
  for (unsigned i = 0; i < 200; ++i)
    clients[i].send(test::pattern(16, i + 1));
  for (unsigned i = 0; i < 200; ++i)
    REQUIRE(clients[i].receive(16) == test::pattern(16, i + 1));
  CHECK(Clock::now() - start >= 1s);
  CHECK(Clock::now() - start < test::deadline);  // One after another would take 200 s.
  CHECK(server.processor_time() - time < 500ms);
  if (!test::sanitized)
    CHECK(server.status_number("VmRSS") <= memory + 200 * 16);
}

TEST_CASE("exactly so many bytes come back before the end of file, and no reset", "[misbehave]") {
  const std::string data = test::pattern(3 << 20);
  for (const auto& [after, bytes, chunk] :
       {std::tuple("0", 0U, "16"), std::tuple("1", 1U, "16"), std::tuple("100", 100U, "7"),
        std::tuple("100", 100U, "64k"), std::tuple("1M", 1U << 20, "4k")}) {
    CAPTURE(after, chunk);
    Server server({"--close-after", after, "--chunk-size", chunk});
    Client client(server.port());
    auto sent = std::async(std::launch::async, [&] { return client.try_to_send(data); });
    CHECK(same_bytes(client.receive_all(), data.substr(0, bytes)));
    // What it sends from then on is taken and not answered.
    CHECK(sent.get().size == data.size());
    client.send(data);
    CHECK(client.is_acknowledged());
    client.half_close();
    server.wait_for_log(end_of(client, "--close-after", bytes));
    CHECK(server.stop() == 0);
    CHECK_THAT(server.log(), !contains("failed"));
  }
}

TEST_CASE("exactly so many bytes come back before the reset", "[misbehave]") {
  for (const auto& [after, bytes, chunk] :
       {std::tuple("0", 0U, "16"), std::tuple("1", 1U, "16"), std::tuple("100", 100U, "7"),
        std::tuple("100", 100U, "64k"), std::tuple("50k", 50U << 10, "4k")}) {
    CAPTURE(after, chunk);
    Server server({"--reset-after", after, "--chunk-size", chunk});
    Client client(server.port());
    const std::string data = test::pattern(60'000);
    if (bytes > 0)
      client.send(data);
    const test::Received received = client.receive_until_end();
    CHECK(same_bytes(received.data, data.substr(0, bytes)));
    CHECK(received.by_reset());
    server.wait_for_log(end_of(client, "--reset-after", bytes));
    CHECK(server.stop() == 0);
    CHECK_THAT(server.log(), !contains("failed"));
  }
}

TEST_CASE("a client that reads late gets its bytes and the end of file, or the reset",
          "[misbehave]") {
  for (const std::string& option : both) {
    CAPTURE(option);
    Server server({option, "1000"});
    Client client(server.port());
    const std::string data = test::pattern(2000);
    client.send(data);
    if (option == "--reset-after")
      server.wait_for_log(end_of(client, option, 1000));
    else
      REQUIRE(test::eventually([&] { return client.has_end_of_file(); }));
    const test::Received received = client.receive_until_end();
    CHECK(same_bytes(received.data, data.substr(0, 1000)));
    CHECK(received.by_reset() == (option == "--reset-after"));
  }
}

TEST_CASE("a client that goes on sending, or sends all before it reads, gets all of its bytes",
          "[misbehave]") {
  for (const std::string& option : both) {
    CAPTURE(option);
    Server server({option, "1M", "--chunk-size", "4k"});
    const std::string data = test::pattern(40 << 20);
    Client busy(server.port());
    // Before a reset it goes on as long as it can, or for some gigabytes.
    auto sent = std::async(std::launch::async, [&] {
      test::Sent last = busy.try_to_send(data);
      for (int i = 0; i < 100 && !last.error && option == "--reset-after"; ++i)
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
    {
      INFO("by the idle timeout");
      Server server({option, "5", "--idle-timeout", "500ms", "--exit-after", "1"});
      Client client(server.port());
      client.send("hello");
      CHECK(server.wait() == 0);
      CHECK_THAT(server.log(), contains(end_of(client, option, 5)));
    }
    {
      INFO("by the stop");
      Server server({option, "5", "--drain-timeout", "1h"});
      Client client(server.port());
      CHECK(client.exchange("hello") == "hello");
      CHECK(server.stop() == 0);
      CHECK_THAT(server.log(), contains(end_of(client, option, 5)));
    }
    {
      INFO("by the end of the drain");
      Server server({option, "3M", "-c", "4k", "--drain-timeout", "200ms"});
      Client deaf(server.port());
      deaf.use_small_buffer();
      deaf.send(test::pattern(3 << 20));
      server.wait_for_clients();
      CHECK(server.stop() == 0);
      CHECK_THAT(server.log(), !contains("failed"));
    }
  }
}

TEST_CASE("what is done on purpose is done to exactly the first clients", "[misbehave]") {
  constexpr int first = 7;
  const test::TemporaryFile log;  // Which takes every line.
  Server server({"--reset-after", "0", "--only-first", std::to_string(first)}, {.err = log.fd()});
  const std::uint16_t port = server.port();
  // More of them at the same moment.
  std::vector<std::future<bool>> clients;
  for (int i = 0; i < 30; ++i)
    clients.push_back(std::async(std::launch::async, [port] {
      Client client(port);
      // One that is reset may not even get its bytes away, or be able to close.
      if (client.try_to_send("hello").error)
        return false;
      ::shutdown(client.fd(), SHUT_WR);
      return client.receive_until_end().data == "hello";
    }));
  int served = 0;
  for (auto& client : clients)
    served += client.get() ? 1 : 0;
  CHECK(served == 30 - first);
  CHECK(server.stop() == 0);
  CHECK(test::count_of(log.text(), " reset on purpose (0 bytes") == first);
  CHECK(test::count_of(log.text(), "failed") == 0);
}

TEST_CASE("the clients behind the first ones are delayed by nothing", "[misbehave]") {
  Server server({"--delay", "1h", "--only-first", "2"});
  Client first(server.port());
  first.send("hello");
  server.wait_for_clients(1);
  Client second(server.port());
  second.send("hello");
  server.wait_for_clients(2);
  CHECK(Client(server.port()).exchange("hello") == "hello");
  CHECK(Client(server.port()).exchange("hello") == "hello");
  CHECK(first.is_unanswered());
  CHECK(second.is_unanswered());
}

TEST_CASE("a stop waits for a client that has its end of file or its reset before it",
          "[misbehave]") {
  // A second signal ends also who waits for an acknowledgement.
  for (const std::string& option : both) {
    Server server({option, "3M", "-c", "4k", "--drain-timeout", "1h"},
                  {.environment = {"TSAN_OPTIONS=report_thread_leaks=0"}});
    Client deaf(server.port());
    deaf.use_small_buffer();
    deaf.send(test::pattern(3 << 20));
    server.wait_for_clients();
    server.signal(SIGINT);
    server.wait_for_log("stopping on SIGINT: 1 connection open");
    std::this_thread::sleep_for(600ms);  // A signal that comes sooner is the same stop.
    CHECK(server.stop(SIGTERM) == -SIGTERM);
  }
}
