#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "client.hpp"
#include "program.hpp"

namespace {

using namespace std::chrono_literals;
using test::Client;
using test::on_loopback;
using test::Program;
using test::sanitized;

void short_connection(std::uint16_t port) {
  Client client(port);
  client.send("hello");
  client.half_close();
  REQUIRE(client.receive_all() == "hello");
}

}  // namespace

TEST_CASE("a hundred half-closing clients each get all of their bytes", "[program]") {
  Program program(on_loopback());
  for (int i = 0; i < 100; ++i)
    short_connection(program.port());
}

TEST_CASE("a client that reads late gets all of its bytes", "[program]") {
  Program program(on_loopback());
  Client client(program.port());
  const std::string data = test::pattern(60'000);
  client.send(data);
  client.half_close();
  REQUIRE(program.log().wait_for("no more data from " + client.address()));
  std::string received;
  while (received.size() < data.size()) {
    const std::string part = client.receive(1000);
    REQUIRE_FALSE(part.empty());
    received += part;
  }
  CHECK((received == data));
  CHECK(client.receive_all().empty());
}

TEST_CASE("chunks that wait go back together", "[program]") {
  Program program(on_loopback({"-v"}));
  Client client(program.port());
  for (int i = 0; i < 20; ++i)
    REQUIRE(client.exchange(std::string(1000, 'x')).size() == 1000);
  const std::string sending = "sending data back to " + client.address();
  REQUIRE(program.log().wait_for(sending + ": 1000 bytes"));
  // At times a part of a message is there before the rest.
  CHECK(test::count_of(program.log().text(), sending) <= 2 * 20);
}

TEST_CASE("a client that never reads costs neither processor time nor memory", "[program]") {
  Program program(on_loopback({"-c", "64k"}));
  Client deaf(program.port());
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = deaf.send_until_blocked(data);
  const std::size_t memory = program.status_number("VmRSS");
  const auto time = program.processor_time();
  Client other(program.port());
  for (int i = 0; i < 100; ++i)
    REQUIRE(other.exchange("hello") == "hello");
  std::this_thread::sleep_for(1s);  // The time over which processor time is counted.
  CHECK(program.processor_time() - time < 200ms);
  CHECK(program.status_number("VmRSS") < memory + 1024);
  deaf.half_close();
  CHECK((deaf.receive_all() == data.substr(0, sent)));
}

TEST_CASE("thousands of resets leave nothing behind but a line each", "[program]") {
  constexpr std::size_t resets = 5000;
  const test::LogFile file;  // Which takes every line.
  test::Setup setup = on_loopback();
  setup.stderr_fd = file.fd();
  Program program(setup);
  short_connection(program.port());
  const std::size_t descriptors = program.open_descriptors();
  for (std::size_t i = 0; i < resets; ++i)
    Client(program.port()).reset();
  CHECK(test::eventually(
      [&] { return test::count_of(file.text(), "connection accepted") == resets + 1; }));
  CHECK(test::eventually([&] { return program.open_descriptors() <= descriptors + 17; }));
  CHECK(test::eventually([&] { return program.status_number("Threads") <= 18; }));
  CHECK(test::count_of(file.text(), "\n") <= 2 * resets + 10);
  CHECK(test::count_of(file.text(), "Connection reset by peer") > 0);
  short_connection(program.port());
}

TEST_CASE("a client that is killed ends its own connection only", "[program]") {
  Program program(on_loopback());
  Client other(program.port());
  REQUIRE(other.exchange("hello") == "hello");
  {
    Program killed(test::command("nc", {"127.0.0.1", std::to_string(program.port())}));
    killed.write("hello\n");
    REQUIRE(killed.out().wait_for("hello\n"));
    killed.signal(SIGKILL);
    CHECK(killed.wait() == -SIGKILL);
  }
  CHECK(program.log().wait_for("no more data from"));
  CHECK(other.exchange("hello") == "hello");
}

TEST_CASE("a stream of a gigabyte comes back whole", "[program]") {
  Program program(on_loopback({"-c", "64k"}));
  Client client(program.port());
  const std::string block = test::pattern(16 << 20);
  for (int i = 0; i < (sanitized ? 4 : 64); ++i)
    REQUIRE((client.exchange(block) == block));
}

TEST_CASE("a thousand clients at once each get their own bytes", "[program]") {
  Program program(on_loopback());
  std::vector<Client> clients;
  for (unsigned i = 0; i < 1000; ++i) {
    clients.emplace_back(program.port());
    clients.back().send(test::pattern(5000, i + 1));
  }
  for (unsigned i = 0; i < 1000; ++i)
    REQUIRE((clients[i].receive(5000) == test::pattern(5000, i + 1)));
}

TEST_CASE("twenty thousand short connections leave memory and descriptors as they were",
          "[program]") {
  Program program(on_loopback({"--log-level", "warn"}));
  const auto serve = [&](int count) {
    for (int i = 0; i < count; ++i)
      short_connection(program.port());
  };
  serve(1000);
  const std::size_t memory = program.status_number("VmRSS");
  const std::size_t descriptors = program.open_descriptors();
  serve(sanitized ? 1000 : 19'000);
  if (!sanitized)
    CHECK(program.status_number("VmRSS") <= memory + 256);
  CHECK(test::eventually([&] { return program.open_descriptors() <= descriptors + 2; }));
}

TEST_CASE("ten thousand connections can be open at once, for 12.5 KiB of memory each",
          "[program]") {
  const std::size_t count = sanitized ? 500 : 10'000;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < count + 100) {
    std::cout << "skipped: the hard limit of open files is " << limit.rlim_max << std::endl;
    return;
  }
  const rlimit raised{count + 100, limit.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &raised);
  Program program(on_loopback({"--max-connections", std::to_string(count), "--log-level", "warn"}));
  program.port();
  const std::size_t memory = program.status_number("VmRSS");
  std::vector<Client> clients;
  for (std::size_t i = 0; i < count; ++i)
    clients.emplace_back(program.port());
  for (Client& client : clients)
    REQUIRE(client.exchange(std::string(100, 'x')) == std::string(100, 'x'));
  CHECK(program.log().wait_for("connection limit of " + std::to_string(count) + " reached"));
  if (!sanitized)
    CHECK(program.status_number("VmRSS") <= memory + count * 25 / 2);
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
  clients.clear();
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

TEST_CASE("the limit is logged once each time it is reached", "[program]") {
  for (const std::size_t limit : {1UL, 3UL}) {
    Program program(on_loopback({"--max-connections", std::to_string(limit)}));
    std::vector<Client> clients;
    for (std::size_t i = 0; i < limit; ++i) {
      clients.emplace_back(program.port());
      REQUIRE(clients.back().exchange("in") == "in");
    }
    Client waiting(program.port());
    waiting.send("next");
    CHECK(clients.front().exchange("x") == "x");
    const std::string line = "[warning] connection limit of " + std::to_string(limit) + " reached";
    CHECK(program.log().wait_for(line));
    CHECK(test::count_of(program.log().text(), line) == 1);
    clients.pop_back();
    CHECK(waiting.receive(4) == "next");
    CHECK(program.log().wait_for(line, 2));
    CHECK(test::count_of(program.log().text(), line) == 2);
  }
}

TEST_CASE("the idle timeout closes idle and stalled clients and no busy one", "[program]") {
  Program program(on_loopback({"--idle-timeout", "2s", "-c", "4k"}));
  Client stalled(program.port());
  stalled.send_until_blocked(test::pattern(64 << 20));
  Client idle(program.port());
  Client busy(program.port());  // The last, for to set up the others takes time, too.
  const auto closed = [](const Client& client) {
    return "connection from " + client.address() + " closed for idling (";
  };
  CHECK(test::eventually([&] {
    const std::string log = program.log().text();
    return busy.exchange("busy") == "busy" && log.find(closed(idle)) != log.npos &&
           log.find(closed(stalled)) != log.npos;
  }));
  CHECK(idle.receive_all().empty());
  CHECK(busy.exchange("busy") == "busy");
}

TEST_CASE("the shortest idle timeout is one, and a reset before a long one is none", "[program]") {
  Program soon(on_loopback({"--idle-timeout", "1ms"}));
  Client idle(soon.port());
  CHECK(soon.log().wait_for("closed for idling (0 bytes"));

  Program late(on_loopback({"--idle-timeout", "1h"}));
  Client client(late.port());
  client.reset();
  CHECK(late.log().wait_for("failed, receive: Connection reset by peer (0 bytes"));
}

TEST_CASE("a client that reads slowly is not idle", "[program]") {
  Program program(on_loopback({"--idle-timeout", "1s", "-c", "64k"}));
  Client client(program.port());
  const int small = 65'536;
  ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  const std::string data = test::pattern(16 << 20);
  auto sent = std::async(std::launch::async, [&] { client.send(data); });
  std::string received;
  for (int i = 0; i < 125; ++i) {
    received += client.receive(10'000);
    std::this_thread::sleep_for(20ms);  // Half a megabyte per second.
  }
  received += client.receive(data.size() - received.size());
  sent.get();
  CHECK((received == data));
}

TEST_CASE("a thousand idle clients are gone after the idle timeout", "[program]") {
  const test::LogFile log;  // Which takes every line.
  test::Setup setup = on_loopback({"--idle-timeout", "1s"});
  setup.stderr_fd = log.fd();
  Program program(setup);
  std::vector<Client> clients;
  for (int i = 0; i < 1000; ++i)
    clients.emplace_back(program.port());
  for (Client& client : clients)
    REQUIRE(client.receive_all().empty());
  CHECK(test::eventually([&] { return test::count_of(log.text(), "closed for idling") == 1000; }));
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
}
