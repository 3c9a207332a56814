#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <future>
#include <system_error>
#include <vector>

#include "catch.hpp"
#include "client.hpp"
#include "program.hpp"

namespace {

using test::Client;
using test::Program;

void steady(std::uint16_t port, unsigned seed) {
  Client client(port);
  for (unsigned i = 0; i < 200; ++i) {
    const std::string message = test::pattern(1 + (seed + i) % 100, seed + i);
    if (client.exchange(message) != message)
      throw std::runtime_error("steady: other bytes came back");
  }
}

void bursty(std::uint16_t port, unsigned seed) {
  Client client(port);
  const std::string data = test::pattern(1 << 20, seed);
  if (client.exchange(data) != data)
    throw std::runtime_error("bursty: other bytes came back");
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
  if (client.receive_all() != data)
    throw std::runtime_error("half-closing: other bytes came back");
}

void never_reading(std::uint16_t port, unsigned seed) {
  Client client(port);
  client.send_until_blocked(test::pattern(64 << 20, seed));
}

}  // namespace

// Hidden: run by name, for ECHO_SOAK_SECONDS seconds (10 without).
TEST_CASE("mixed clients lose no byte and leave nothing behind, for as long as it takes",
          "[.][soak]") {
  const char* const seconds = std::getenv("ECHO_SOAK_SECONDS");
  const auto duration = std::chrono::seconds(seconds == nullptr ? 10 : std::atoi(seconds));
  Program program(test::on_loopback({"-c", "4k", "--log-level", "error"}));
  const std::uint16_t port = program.port();

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
  const std::size_t memory = program.status_number("VmRSS");
  const std::size_t descriptors = program.open_descriptors();
  const unsigned rounds = serve_for(duration - duration / 4);
  WARN(rounds << " clients were served");
  // What malloc keeps for each thread may grow yet; to leak eight bytes a client would be more than
  // this.
  CHECK(program.status_number("VmRSS") <= memory + 3072);
  CHECK(test::eventually([&] { return program.open_descriptors() <= descriptors + 6; }));
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
  CHECK(program.log().text().empty());
}
