// What the server does to a client on purpose: --delay, --close-after, --reset-after, --exit-after.

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "client.hpp"
#include "program.hpp"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using test::Client;
using test::on_loopback;
using test::Program;

/// What comes until the end of file, or until the reset.
struct Received {
  std::string data;
  bool by_reset = false;
};

Received receive_to_the_end(Client& client) {
  Received received;
  try {
    for (std::string part = client.receive_some(); !part.empty(); part = client.receive_some())
      received.data += part;
  } catch (const std::system_error& error) {
    received.by_reset = error.code() == std::errc::connection_reset;
  }
  return received;
}

/// Sends all of `data` while it can; returns how much that was.
std::future<std::size_t> send_all(Client& client, const std::string& data) {
  return std::async(std::launch::async, [&client, &data] {
    std::size_t sent = 0;
    try {
      for (; sent < data.size(); sent += 10'000)
        client.send(std::string_view(data).substr(sent, 10'000));
    } catch (const std::system_error&) {
      // The connection was broken off.
    }
    return std::min(sent, data.size());
  });
}

bool is_refused(std::uint16_t port) {
  try {
    Client client(port);
    return client.receive_all().empty();  // Taken by the kernel's queue before it was closed.
  } catch (const std::system_error& error) {
    return error.code() == std::errc::connection_refused ||
           error.code() == std::errc::connection_reset;
  }
}

}  // namespace

TEST_CASE("with a delay each chunk goes back by itself, after its delay", "[program]") {
  for (const auto& [size, delay] : {std::pair(7U, 100ms), std::pair(1U, 1ms)}) {
    Program program(on_loopback({"-v", "--chunk-size", std::to_string(size), "--delay",
                                 std::to_string(delay.count()) + "ms"}));
    Client client(program.port());
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
    CHECK(program.log().wait_for(
        "sending data back to " + client.address() + ": " + std::to_string(size) + " byte",
        data.size() / size));
  }
}

TEST_CASE("a stop ends a delay, and what had arrived goes back without one", "[program]") {
  for (const std::string connections : {"1", "1024"}) {
    Program program(on_loopback({"--delay", "1h", "--chunk-size", "7", "--drain-timeout", "1h",
                                 "--max-connections", connections}));
    Client client(program.port());
    const std::string data = test::pattern(1000);
    client.send(data);
    REQUIRE(program.log().wait_for("connection accepted"));
    program.signal(SIGUSR1);
    CHECK(program.log().wait_for("1 connection open, 1 connection served, 0 bytes echoed"));
    program.signal(SIGTERM);
    CHECK(client.receive_all() == data);
    CHECK(program.wait() == 0);
    CHECK(program.log().text().find("closed by the stop (1000 bytes") != std::string::npos);
  }
}

TEST_CASE("a delay is not idle time", "[program]") {
  Program program(on_loopback({"--delay", "1500ms", "--idle-timeout", "500ms"}));
  Client client(program.port());
  CHECK(client.exchange("hello") == "hello");
  CHECK(client.receive_all().empty());
  CHECK(program.log().wait_for("closed for idling (5 bytes echoed"));
}

TEST_CASE("two hundred clients wait for their delays at the same time, for nothing", "[program]") {
  Program program(on_loopback({"--delay", "1s"}));
  program.port();
  const std::size_t memory = program.status_number("VmRSS");
  std::vector<Client> clients;
  for (unsigned i = 0; i < 200; ++i)
    clients.emplace_back(program.port());
  REQUIRE(program.log().wait_for("(200 open)"));
  const auto time = program.processor_time();
  const auto start = Clock::now();
  for (unsigned i = 0; i < 200; ++i)
    clients[i].send(test::pattern(16, i + 1));
  for (unsigned i = 0; i < 200; ++i)
    REQUIRE((clients[i].receive(16) == test::pattern(16, i + 1)));
  CHECK(Clock::now() - start >= 1s);
  CHECK(Clock::now() - start < test::deadline);  // One after another would take 200 s.
  CHECK(program.processor_time() - time < 500ms);
  if (!test::sanitized)
    CHECK(program.status_number("VmRSS") <= memory + 200 * 16);
}

TEST_CASE("a second signal ends a server that waits for a client to close or to acknowledge",
          "[program]") {
  for (const std::string option : {"--close-after", "--reset-after"}) {
    Program program(on_loopback({option, "3M", "-c", "4k", "--drain-timeout", "1h"}));
    Client deaf(program.port());
    const int small = 1;
    ::setsockopt(deaf.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    deaf.send(test::pattern(3 << 20));
    REQUIRE(program.log().wait_for("connection accepted"));
    program.signal(SIGINT);
    REQUIRE(program.log().wait_for("stopping on SIGINT: 1 connection open"));
    program.signal(SIGTERM);
    CHECK(program.wait() == -SIGTERM);
  }
}

TEST_CASE("exactly so many bytes come back before the end of file, and no reset", "[program]") {
  const std::string data = test::pattern(3 << 20);
  for (const auto& [after, bytes, chunk] :
       {std::tuple("0", 0U, "16"), std::tuple("1", 1U, "16"), std::tuple("100", 100U, "7"),
        std::tuple("100", 100U, "64k"), std::tuple("1M", 1U << 20, "16"),
        std::tuple("1M", 1U << 20, "4k")}) {
    CAPTURE(after, chunk);
    Program program(on_loopback({"--close-after", after, "--chunk-size", chunk}));
    Client client(program.port());
    auto sent = send_all(client, data);
    REQUIRE((client.receive(bytes) == data.substr(0, bytes)));
    const Received rest = receive_to_the_end(client);
    CHECK(rest.data.empty());
    CHECK_FALSE(rest.by_reset);
    // What it sends from then on is taken and not answered.
    CHECK(sent.get() == data.size());
    CHECK_NOTHROW(client.send(data));
    CHECK(client.receive_all().empty());
    client.half_close();
    CHECK(program.log().wait_for("connection from " + client.address() + " closed on purpose (" +
                                 std::to_string(bytes) + " byte"));
    CHECK(program.log().text().find("failed") == std::string::npos);
  }
}

TEST_CASE("a client that reads late gets its bytes and the end of file, or the reset",
          "[program]") {
  for (const std::string option : {"--close-after", "--reset-after"}) {
    CAPTURE(option);
    Program program(on_loopback({option, "1000"}));
    Client client(program.port());
    const std::string data = test::pattern(2000);
    client.send(data);
    if (option == "--reset-after")
      REQUIRE(program.log().wait_for("closed on purpose (1000 bytes echoed"));
    else
      REQUIRE(test::eventually([&] {
        pollfd ended{client.fd(), POLLRDHUP, 0};
        return ::poll(&ended, 1, 0) == 1;
      }));
    const Received received = receive_to_the_end(client);
    CHECK(received.data == data.substr(0, 1000));
    CHECK(received.by_reset == (option == "--reset-after"));
  }
}

TEST_CASE("exactly so many bytes come back before the reset", "[program]") {
  for (const auto& [after, bytes, chunk] :
       {std::tuple("0", 0U, "16"), std::tuple("1", 1U, "16"), std::tuple("100", 100U, "7"),
        std::tuple("100", 100U, "64k"), std::tuple("50k", 50U << 10, "4k")}) {
    CAPTURE(after, chunk);
    Program program(on_loopback({"--reset-after", after, "--chunk-size", chunk}));
    Client client(program.port());
    const std::string data = test::pattern(60'000);
    if (bytes > 0)
      client.send(data);
    const Received received = receive_to_the_end(client);
    CHECK((received.data == data.substr(0, bytes)));
    CHECK(received.by_reset);
    CHECK(program.log().wait_for("connection from " + client.address() + " closed on purpose (" +
                                 std::to_string(bytes) + " byte"));
    CHECK(program.log().text().find("failed") == std::string::npos);
  }
}

TEST_CASE("a client that goes on sending gets all of its bytes before the reset", "[program]") {
  Program program(on_loopback({"--reset-after", "300k", "--chunk-size", "4k"}));
  Client client(program.port());
  const std::string data = test::pattern(64 << 20);
  auto sent = send_all(client, data);
  std::string received;
  while (received.size() < 300 << 10)
    received += client.receive_some(10'000);
  CHECK((received == data.substr(0, 300 << 10)));
  CHECK(receive_to_the_end(client).data.empty());
  CHECK(sent.get() < data.size());
  CHECK(program.log().wait_for("closed on purpose (307200 bytes echoed"));
}

TEST_CASE("a client that sends all before it reads gets its bytes, too", "[program]") {
  for (const std::string option : {"--close-after", "--reset-after"}) {
    CAPTURE(option);
    Program program(on_loopback({option, "1M", "--chunk-size", "4k"}));
    Client client(program.port());
    const int small = 65'536;
    ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    const std::string data = test::pattern(40 << 20);
    client.send(data);
    CHECK((client.receive(1 << 20) == data.substr(0, 1 << 20)));
    CHECK(receive_to_the_end(client).data.empty());
    client.close();
    CHECK(program.log().wait_for("closed on purpose (1048576 bytes echoed"));
  }
}

TEST_CASE("a client that ends before the limit is an ordinary one", "[program]") {
  for (const std::string option : {"--close-after", "--reset-after"}) {
    Program program(on_loopback({option, "100"}));
    Client client(program.port());
    client.send("hello");
    client.half_close();
    CHECK(client.receive_all() == "hello");
    CHECK(program.log().wait_for("no more data from " + client.address() + " (5 bytes"));
  }
}

TEST_CASE("a client that never closes is ended by the idle timeout or the stop, on purpose",
          "[program]") {
  for (const std::string option : {"--close-after", "--reset-after"}) {
    CAPTURE(option);
    {
      INFO("by the idle timeout");
      Program program(on_loopback({option, "5", "--idle-timeout", "500ms", "--exit-after", "1"}));
      Client client(program.port());
      client.send("hello");
      CHECK(program.wait() == 0);
      CHECK(program.log().text().find("closed on purpose (5 bytes") != std::string::npos);
    }
    {
      INFO("by the stop");
      Program program(on_loopback({option, "5", "--drain-timeout", "1h"}));
      Client client(program.port());
      CHECK(client.exchange("hello") == "hello");
      program.signal(SIGTERM);
      CHECK(program.wait() == 0);
      CHECK(program.log().text().find("closed on purpose (5 bytes") != std::string::npos);
    }
    {
      INFO("by the end of the drain");
      Program program(on_loopback({option, "3M", "-c", "4k", "--drain-timeout", "200ms"}));
      Client deaf(program.port());
      const int small = 1;
      ::setsockopt(deaf.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
      deaf.send(test::pattern(3 << 20));
      REQUIRE(program.log().wait_for("connection accepted"));
      program.signal(SIGTERM);
      CHECK(program.wait() == 0);
      CHECK(program.log().text().find("failed") == std::string::npos);
    }
  }
}

TEST_CASE("the server accepts exactly so many clients, gives the port back and ends with them",
          "[program]") {
  for (const std::string connections : {"1", "2", "1024"}) {
    CAPTURE(connections);
    const test::LogFile log;
    test::Setup setup = on_loopback({"--exit-after", "3", "--max-connections", connections});
    setup.stderr_fd = log.fd();
    Program program(setup);
    const std::uint16_t port = program.port();
    // More than three at the same moment.
    std::vector<std::future<bool>> clients;
    for (int i = 0; i < 10; ++i)
      clients.push_back(std::async(std::launch::async, [port] {
        try {
          return Client(port).exchange("hello") == "hello";
        } catch (const std::system_error&) {
          return false;
        }
      }));
    int served = 0;
    for (auto& client : clients)
      served += client.get() ? 1 : 0;
    CHECK(served == 3);
    CHECK(program.wait() == 0);
    CHECK(test::count_of(log.text(), "connection accepted") == 3);
    CHECK(log.text().find("] stopped: 0 connections open, 3 connections served, 15 bytes") !=
          std::string::npos);
  }
}

TEST_CASE("not one client too many is accepted while the listener closes", "[program]") {
  if (test::skip_without_strace())
    return;
  // There is time for another accept before the shutdown of the listener, which comes first.
  Program program(test::with_faults("shutdown:delay_enter=500000:when=1", {"--exit-after", "2"}));
  Client first(program.port());
  CHECK(first.exchange("1") == "1");
  Client second(program.port());
  const Client third(program.port());
  CHECK(second.exchange("2") == "2");
  first.half_close();
  second.half_close();
  CHECK(program.wait() == 0);
  CHECK(test::count_of(program.log().text(), "connection accepted") == 2);
}

TEST_CASE("the port is free while the last clients are still served", "[program]") {
  Program program(on_loopback({"--exit-after", "2"}));
  Client first(program.port());
  Client second(program.port());
  CHECK(first.exchange("1") == "1");
  CHECK(second.exchange("2") == "2");
  CHECK_NOTHROW(echo::Listener(echo::resolve("127.0.0.1", program.port()).front()));
  CHECK(is_refused(program.port()));
  first.close();
  CHECK(second.exchange("still here") == "still here");
  CHECK(program.running());
  second.close();
  CHECK(program.wait() == 0);
}

TEST_CASE("the exit status tells whether one of the clients failed or idled", "[program]") {
  const auto status_of = [](std::vector<std::string> more, bool resets, bool stops,
                            bool idles = false) {
    more.insert(more.end(), {"--exit-after", "2"});
    Program program(on_loopback(more));
    Client first(program.port());
    CHECK(first.exchange("hello") == "hello");
    if (resets) {
      first.reset();
      CHECK(program.log().wait_for("failed, receive: Connection reset by peer"));
    }
    Client second(program.port());
    CHECK(second.exchange("hello") == "hello");
    if (stops)
      program.signal(SIGTERM);
    else
      second.half_close();
    CHECK(second.receive_all().empty());
    if (!resets && !idles)
      first.half_close();
    return program.wait();
  };
  CHECK(status_of({}, false, false) == 0);
  CHECK(status_of({}, true, false) == 3);
  CHECK(status_of({}, true, true) == 3);
  CHECK(status_of({}, false, true) == 0);
  CHECK(status_of({"--idle-timeout", "700ms"}, false, false, true) == 3);
  CHECK(status_of({"--max-connections", "1"}, true, false) == 3);

  INFO("stopped before all were there");
  Program program(on_loopback({"--exit-after", "2"}));
  Client(program.port()).reset();
  CHECK(program.log().wait_for("failed, receive: Connection reset by peer"));
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
}

TEST_CASE("all four together serve one client after another", "[program]") {
  Program program(on_loopback({"--max-connections", "1", "--delay", "10ms", "--chunk-size", "4",
                               "--close-after", "10", "--exit-after", "3"}));
  const std::uint16_t port = program.port();
  for (int i = 0; i < 3; ++i) {
    Client client(port);
    client.send("ten bytes and more");
    CHECK(client.receive_all() == "ten bytes ");
  }
  CHECK(program.wait() == 0);
  CHECK(test::count_of(program.log().text(), "closed on purpose (10 bytes echoed") == 3);
}
