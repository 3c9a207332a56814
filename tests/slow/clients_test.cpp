// Many clients, much data, and much time. Each of these tests takes seconds.

#include <sys/resource.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <future>
#include <stdexcept>
#include <string>
#include <vector>

#include "client.hpp"
#include "echo/process.hpp"
#include "matchers.hpp"
#include "server.hpp"

namespace test {
namespace {

/// Plays one client. What it does depends on the seed.
void talk(std::uint16_t port, unsigned seed) {
  Client client(port);
  const std::string data = pattern(seed % 2 == 0 ? seed % 200 : 1'000'000, seed);
  const std::string begin = data.substr(0, 10'000);
  bool is_same = true;
  if (seed % 5 == 0) {
    client.send_until_blocked(more_than_fits());
  } else if (seed % 5 < 3) {
    client.send(begin);
    if (seed % 5 == 1)
      return client.reset();
    client.half_close();
    is_same = client.receive_all() == begin;
  } else {
    is_same = client.exchange(data) == data;
  }
  if (!is_same)
    throw std::runtime_error("other bytes came back for seed " + std::to_string(seed));
}

}  // namespace

TEST_CASE("memory for each of thousands of open connections is at most 12.5 KiB",
          "[clients][slow]") {
  const std::size_t count = sanitized ? 500 : 10'000;
  echo::raise_descriptor_limit();
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < count + 100)
    skip("the hard limit of open files is " + std::to_string(files.rlim_cur));
  Server server({"--max-connections", std::to_string(count), "--log-level", "warn"});
  const std::size_t memory = server.status_number("VmRSS");
  std::vector<Client> clients;
  for (std::size_t i = 0; i < count; ++i)
    clients.emplace_back(server.port());
  const std::string data(100, 'x');
  for (Client& client : clients)
    REQUIRE(client.exchange(data) == data);
  server.wait_for_log("connection limit of " + std::to_string(count) + " reached");
  if (!sanitized)
    CHECK(server.status_number("VmRSS") <= memory + count * 25 / 2);
  CHECK(server.stop() == 0);
}

// Takes ECHO_SOAK_SECONDS seconds (10 without the variable).
TEST_CASE("mixed clients lose no byte and leave nothing behind", "[clients][slow]") {
  const char* const seconds = std::getenv("ECHO_SOAK_SECONDS");
  const auto duration = std::chrono::seconds(seconds == nullptr ? 10 : std::atoi(seconds));
  Server server({"-c", "4k", "--log-level", "error"});
  const std::uint16_t port = server.port();

  const auto serve_for = [&](std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    std::vector<std::future<unsigned>> clients;
    for (unsigned seed = 0; seed < 6; ++seed)
      clients.push_back(std::async(std::launch::async, [=] {
        unsigned rounds = 0;
        while (std::chrono::steady_clock::now() < end)
          talk(port, seed + 6 * ++rounds);
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
  // What malloc keeps for each thread may still grow. A leak of eight bytes per client would be
  // more.
  if (!sanitized)
    CHECK(server.status_number("VmRSS") <= memory + 3072);
  CHECK(eventually([&] { return server.open_descriptors() <= descriptors + 8; }));
  CHECK(server.stop() == 0);
  CHECK(server.log().empty());
}

}  // namespace test
