// Graceful shutdown: what open connections get, and how long they have.

#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <string>
#include <system_error>
#include <thread>

#include "client.hpp"
#include "matchers.hpp"
#include "server.hpp"

namespace test {

using namespace std::chrono_literals;

TEST_CASE("shutdown in the middle of a transfer returns every byte that had arrived", "[stop]") {
  Server server({"-c", "64k"});
  Client client(server.port());
  const std::string data = pattern(20 << 20);
  auto sent = std::async(std::launch::async, [&] { return client.try_to_send(data); });
  std::string received = client.receive(5 << 20);
  server.signal(SIGINT);
  received += client.receive_until_end().data;
  CHECK(server.wait() == 0);
  ::shutdown(client.fd(), SHUT_RDWR);  // Wakes the sender, if nothing has yet.
  CHECK(sent.get().size >= received.size());
  CHECK(same_bytes(received, data.substr(0, received.size())));
  CHECK_THAT(server.log(), contains("(" + std::to_string(received.size()) + " bytes in "));
}

TEST_CASE("shutdown loses no byte that waits in the client's own kernel", "[stop]") {
  const bool closes_sending_side = GENERATE(true, false);
  for (int round = 0; round < 5; ++round) {
    Server server({"-c", "64k", "--drain-timeout", "1h"});
    Client slow(server.port());
    const std::size_t sent = slow.send_until_blocked(more_than_fits());
    server.signal(SIGTERM);
    server.wait_for_log("received SIGTERM, stopping");
    CHECK(is_free(server.port()));
    if (closes_sending_side)
      slow.half_close();
    CHECK(same_bytes(slow.receive_all(), more_than_fits().substr(0, sent)));
    CHECK(server.wait() == 0);
  }
}

TEST_CASE("shutdown is not delayed by a client that is gone", "[stop]") {
  Server server({"-c", "4k", "--drain-timeout", "1h"});
  Client client(server.port());
  const std::string address = client.address();
  client.send_until_blocked(more_than_fits());
  server.signal(SIGTERM);
  server.wait_for_log("received SIGTERM, stopping");
  client.half_close();
  client.close();
  CHECK(server.wait() == 0);
  // Either the reset itself or a call after it fails.
  CHECK_THAT(server.log(), contains(" warn connection from " + address + " failed: "));
  CHECK_THAT(server.log(), contains("stopped: 1 connection served, 1 failed, "));
}

TEST_CASE("drain timeout resets a client that never reads", "[stop]") {
  const std::string drain = GENERATE("0", "200ms");
  Server server({"-c", "4k", "--drain-timeout", drain});
  Client deaf(server.port());
  deaf.send_until_blocked(more_than_fits());
  const auto start = Clock::now();
  CHECK(server.stop(SIGINT) == 0);
  if (drain != "0")
    CHECK(Clock::now() - start >= 200ms);
  CHECK_THAT(server.log(),
             contains(" info connection from " + deaf.address() + " reset by shutdown ("));
  CHECK(deaf.receive_until_end().by_reset());
}

TEST_CASE("drain timeout resets a client that sent all of its bytes long before", "[stop][slow]") {
  // The server has received everything, and much of the echo is still to be sent.
  Server server({"-c", "64k", "--drain-timeout", "4s"});
  Client client(server.port());
  client.use_small_buffer();
  client.send(pattern(64'000));
  REQUIRE(client.is_acknowledged());
  server.wait_for_clients();
  CHECK(server.stop(SIGINT) == 0);
  const Received received = client.receive_until_end();
  CHECK(received.by_reset());
  CHECK(received.data.size() < 64'000);
}

TEST_CASE("drain timeout resets a client that never stops sending", "[stop]") {
  Server server({"-c", "4k", "--drain-timeout", "500ms"});
  Client client(server.port());
  const std::string data = pattern(1 << 20);
  auto sender = std::async(std::launch::async, [&] {
    for (;;)
      if (const Sent sent = client.try_to_send(data); sent.error)
        return sent;
  });
  client.receive(1 << 20);
  // The client reads slowly, so that something is in flight to it all the time.
  std::atomic<bool> has_ended = false;
  auto reader = std::async(std::launch::async, [&] {
    while (!has_ended) {
      client.receive_some(1000);
      std::this_thread::sleep_for(5ms);  // 200 kB per second.
    }
    return client.receive_until_end();
  });
  const auto start = Clock::now();
  CHECK(server.stop(SIGINT) == 0);
  CHECK(Clock::now() - start >= 500ms);
  has_ended = true;
  // Whichever of the two comes first is told of the reset.
  CHECK((sender.get().error == std::errc::connection_reset || reader.get().by_reset()));
  CHECK_THAT(server.log(),
             contains(" info connection from " + client.address() + " reset by shutdown ("));
}

TEST_CASE("shutdown is not blocked by the connection limit and drops waiting clients", "[stop]") {
  Server server({"--max-connections", "1"});
  Client served = served_client(server.port());
  Client queued(server.port());
  queued.send("never read");
  server.signal(SIGTERM);
  CHECK(served.receive_all().empty());
  CHECK(queued.receive_until_end().data.empty());
  CHECK(server.wait() == 0);
  CHECK(is_free(server.port()));
  CHECK(count_of(server.log(), "connection accepted") == 1);
}

}  // namespace test
