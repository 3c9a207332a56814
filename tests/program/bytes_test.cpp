// The echo returns every byte in order and without a stall, whatever other clients do.

#include <cstddef>
#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

TEST_CASE("netcat gets back what it sends at any chunk size", "[bytes]") {
  need_program("nc");
  const std::string data = pattern(300'000);
  const std::string size = GENERATE("3", "16", "4096", "65537", "1M");
  CAPTURE(size);
  Server server({"-c", size});
  const auto netcat = run("nc", {"-N", "127.0.0.1", std::to_string(server.port())}, data);
  CHECK(netcat.status == 0);
  CHECK(same_bytes(netcat.out, data));
}

TEST_CASE("messages of about one chunk come back without the 40 ms stall", "[bytes]") {
  // If Nagle's algorithm held each up for 40 ms, these would take longer than the deadline.
  Server server({"--log-level", "warn"});
  Client client(server.port());
  const auto start = Clock::now();
  for (std::size_t i = 0; i < 1000; ++i) {
    const std::string message = pattern(1 + i % 100, static_cast<unsigned>(i));
    REQUIRE(client.exchange(message) == message);
  }
  CHECK(Clock::now() - start < deadline);
}

TEST_CASE("chunks that have arrived go back together and none exceeds the chunk size", "[bytes]") {
  Server server({"-v"});
  Client client(server.port());
  for (int i = 0; i < 20; ++i)
    REQUIRE(client.exchange(std::string(1000, 'x')).size() == 1000);
  const std::string sending = "sending data back to " + client.address();
  server.wait_for_log(sending + ": 1000 bytes");
  // Sometimes a part of a message arrives before the rest.
  CHECK(count_of(server.log(), sending) <= 2 * 20);
  CHECK(count_of(server.log(), "received 16 bytes from") >= 20 * 50);
  CHECK(count_of(server.log(), "received 17 bytes from") == 0);
}

TEST_CASE("clients that never read use bounded memory and no CPU and delay no others", "[bytes]") {
  Server server({"-c", "64k"});
  Client deaf(server.port());
  const std::size_t sent = deaf.send_until_blocked(more_than_fits());
  const Client silent(server.port());
  Client other = served_client(server.port());
  const std::size_t memory = server.status_number("VmRSS");
  for (int i = 0; i < 100; ++i)
    REQUIRE(other.exchange("hello") == "hello");
  CHECK(server.is_at_rest());
  if (!sanitized)
    CHECK(server.status_number("VmRSS") < memory + 1024);
  deaf.half_close();
  CHECK(same_bytes(deaf.receive_all(), more_than_fits().substr(0, sent)));
}

TEST_CASE("keep-alive is on for every connection", "[bytes]") {
  need_program("ss");
  const Server server;
  const Client client = served_client(server.port());
  const auto sockets = run("ss", {"-Htno", "sport = " + std::to_string(server.port())});
  CHECK_THAT(sockets.out, contains("timer:(keepalive,"));
}

TEST_CASE("workers send each of 1000 clients its own bytes and 16 workers remain", "[bytes]") {
  // A thousand stacks of 8 MiB do not fit into 32 bits.
  Server server({}, with_limit("stack=1048576"));
  std::vector<Client> clients;
  for (unsigned i = 0; i < 1000; ++i) {
    clients.emplace_back(server.port());
    clients.back().send(pattern(5000, i + 1));
  }
  for (unsigned i = 0; i < 1000; ++i)
    REQUIRE(same_bytes(clients[i].receive(5000), pattern(5000, i + 1)));
  clients.clear();
  // There are also the foreman, the thread for signals, and perhaps one of a sanitizer.
  const std::size_t most = 16 + 2 + (sanitized ? 1 : 0);
  CHECK(eventually([&] { return server.status_number("Threads") <= most; }));
}

}  // namespace test
