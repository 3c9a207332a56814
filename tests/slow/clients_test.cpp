// Many clients, much data, and much time. Each takes seconds.

#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <stdexcept>
#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace {

using test::Client;
using test::Server;

void expect(bool good, const char* kind) {
  if (!good)
    throw std::runtime_error(std::string(kind) + ": other bytes came back");
}

void steady(std::uint16_t port, unsigned seed) {
  Client client(port);
  for (unsigned i = 0; i < 200; ++i) {
    const std::string message = test::pattern(1 + (seed + i) % 100, seed + i);
    expect(client.exchange(message) == message, "steady");
  }
}

void bursty(std::uint16_t port, unsigned seed) {
  const std::string data = test::pattern(1 << 20, seed);
  expect(Client(port).exchange(data) == data, "bursty");
}

void resetting(std::uint16_t port, unsigned seed) {
  Client client(port);
  client.send(test::pattern(1000, seed));
  client.reset();
}

void half_closing(std::uint16_t port, unsigned seed) {
  Client client(port);
  const std::string data = test::pattern(10'000, seed);
  client.send(data);
  client.half_close();
  expect(client.receive_all() == data, "half-closing");
}

void never_reading(std::uint16_t port, unsigned seed) {
  Client(port).send_until_blocked(test::pattern(64 << 20, seed));
}

/// The limit of this process, put back with the object.
class OpenFiles {
 public:
  explicit OpenFiles(std::size_t count) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    if (before_.rlim_max < count)
      test::skip("the hard limit of open files is " + std::to_string(before_.rlim_max));
    const rlimit raised{count, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &raised);
  }
  ~OpenFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  OpenFiles(const OpenFiles&) = delete;

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("ten thousand connections can be open at once, for 12.5 KiB of memory each",
          "[clients][slow]") {
  const std::size_t count = test::sanitized ? 500 : 10'000;
  const OpenFiles files(count + 100);
  Server server({"--max-connections", std::to_string(count), "--log-level", "warn"});
  const std::size_t memory = server.status_number("VmRSS");
  std::vector<Client> clients;
  for (std::size_t i = 0; i < count; ++i)
    clients.emplace_back(server.port());
  const std::string data(100, 'x');
  for (Client& client : clients)
    REQUIRE(client.exchange(data) == data);
  server.wait_for_log("connection limit of " + std::to_string(count) + " reached");
  if (!test::sanitized)
    CHECK(server.status_number("VmRSS") <= memory + count * 25 / 2);
  CHECK(server.stop() == 0);
}

// For ECHO_SOAK_SECONDS seconds (10 without).
TEST_CASE("mixed clients lose no byte and leave nothing behind, for as long as it takes",
          "[clients][slow]") {
  const char* const seconds = std::getenv("ECHO_SOAK_SECONDS");
  const auto duration = std::chrono::seconds(seconds == nullptr ? 10 : std::atoi(seconds));
  Server server({"-c", "4k", "--log-level", "error"});
  const std::uint16_t port = server.port();

  const auto serve_for = [&](std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    std::vector<std::future<unsigned>> clients;
    for (const auto kind : {steady, steady, bursty, resetting, half_closing, never_reading})
      clients.push_back(std::async(std::launch::async, [=] {
        unsigned rounds = 0;
        while (std::chrono::steady_clock::now() < end)
          kind(port, ++rounds);
        return rounds;
      }));
    unsigned rounds = 0;
    for (auto& client : clients)
      rounds += client.get();
    return rounds;
  };

  serve_for(duration / 4);
  const std::size_t memory = server.status_number("VmRSS");
  const std::size_t descriptors = server.open_descriptors();
  const unsigned rounds = serve_for(duration - duration / 4);
  WARN(rounds << " clients were served");
  // What malloc keeps for each thread may grow yet; to leak eight bytes a client would be more than
  // this.
  if (!test::sanitized)
    CHECK(server.status_number("VmRSS") <= memory + 3072);
  CHECK(test::eventually([&] { return server.open_descriptors() <= descriptors + 8; }));
  CHECK(server.stop() == 0);
  CHECK(server.log().empty());
}
