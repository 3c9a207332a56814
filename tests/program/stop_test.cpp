// The stop: what open clients get, and how long they have.

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

using namespace test;
using namespace std::chrono_literals;

TEST_CASE("a client in the middle of its data gets back every byte that had arrived", "[stop]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    Server server({"-c", "64k"});
    Client client(server.port());
    const std::string data = pattern(20 << 20);
    auto sent = std::async(std::launch::async, [&] { return client.try_to_send(data); });
    std::string received = client.receive(5 << 20);
    server.signal(signal);
    const Received rest = client.receive_until_end();
    received += rest.data;
    // Bytes that came after the end were answered with a reset.
    CHECK((!rest.error || rest.by_reset()));
    CHECK(server.wait() == 0);
    ::shutdown(client.fd(), SHUT_RDWR);  // Wakes the sender, if nothing has yet.
    const Sent all = sent.get();
    CHECK((!all.error || all.is_broken_off()));
    CHECK(same_bytes(received, data.substr(0, received.size())));
    CHECK_THAT(server.log(), contains("(" + std::to_string(received.size()) + " bytes in "));
  }
}

TEST_CASE(
    "data that waits for a slow client is delivered before the end, and the wait costs no time",
    "[stop]") {
  Server server({"-c", "4k", "--drain-timeout", "1h"});
  Client slow(server.port());
  const std::size_t sent = slow.send_until_blocked(more_than_fits());
  server.signal(SIGTERM);
  server.wait_for_log("stopping on SIGTERM: 1 connection open, ");
  CHECK(is_free(server.port()));
  CHECK(same_bytes(slow.receive_all(), more_than_fits().substr(0, sent)));
  CHECK(server.wait() == 0);
}

TEST_CASE("what a client's system sends with its last acknowledgement is echoed, too", "[stop]") {
  // The look at what is not acknowledged yet lasts long enough for the client to take all of it and
  // to send what the closed window held back.
  Server server({"-c", "4k"}, with_faults("ioctl:delay_enter=10000"));
  Client slow(server.port());
  const std::size_t sent = slow.send_until_blocked(more_than_fits());
  server.signal(SIGTERM);
  CHECK(same_bytes(slow.receive_all(), more_than_fits().substr(0, sent)));
  CHECK(server.wait() == 0);
}

TEST_CASE("a client that is gone does not hold up the stop", "[stop]") {
  Server server({"-c", "4k", "--drain-timeout", "1h"});
  Client client(server.port());
  const std::string address = client.address();
  client.send_until_blocked(more_than_fits());
  server.signal(SIGTERM);
  server.wait_for_log("stopping on SIGTERM");
  client.half_close();
  client.close();
  CHECK(server.wait() == 0);
  // By the reset or behind it, as the system saw it first.
  CHECK_THAT(server.log(), contains("[warn] connection from " + address + " failed, "));
  CHECK_THAT(server.log(), contains("stopped: 1 connection served, 1 failed, "));
}

TEST_CASE("a client that never reads is cut when the drain is over, with status 0", "[stop]") {
  for (const std::string drain : {"0", "200ms"}) {
    Server server({"-c", "4k", "--drain-timeout", drain});
    Client deaf(server.port());
    deaf.send_until_blocked(more_than_fits());
    const auto start = Clock::now();
    CHECK(server.stop(SIGINT) == 0);
    if (drain != "0")
      CHECK(Clock::now() - start >= 200ms);
    CHECK_THAT(server.log(),
               contains("[info] connection from " + deaf.address() + " closed by the stop ("));
  }
}

TEST_CASE("a client that never stops sending is cut when the drain is over", "[stop]") {
  Server server({"-c", "4k", "--drain-timeout", "500ms"});
  Client client(server.port());
  const std::string data = pattern(1 << 20);
  auto sender = std::async(std::launch::async, [&] {
    for (;;)
      if (const Sent sent = client.try_to_send(data); sent.error)
        return sent;
  });
  client.receive(1 << 20);
  // Something is on its way to it all the time, for it reads slowly: that keeps the drain going.
  // Its bytes fill the server's system, too, so that some are unread at the cut, and cause a reset.
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
  CHECK(sender.get().is_broken_off());
  const Received rest = reader.get();
  CHECK((!rest.error || rest.by_reset()));
  CHECK_THAT(server.log(),
             contains("[info] connection from " + client.address() + " closed by the stop ("));
}

TEST_CASE("a client that is cut soon after it sent is told by a reset", "[stop]") {
  Server server({"-c", "64k", "--drain-timeout", "100ms"});
  Client client(server.port());
  client.use_small_buffer();
  client.send(test::pattern(64'000));  // All is received, for much of the echo is still to be sent.
  REQUIRE(client.is_acknowledged());
  server.wait_for_clients();
  CHECK(server.stop(SIGINT) == 0);
  CHECK(client.try_to_send("more").is_broken_off());  // After an end of file this would be taken.
}

TEST_CASE("at the limit a stop ends the server, and drops who waits in the queue", "[stop]") {
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

TEST_CASE("a stop ends a server that can accept nobody, and gives the port back", "[stop]") {
  Server server({"-c", "4k", "--drain-timeout", "1h"});
  Client deaf(server.port());
  deaf.send_until_blocked(more_than_fits());
  server.set_limit(RLIMIT_NOFILE, server.open_descriptors());
  std::vector<Client> more;
  for (int i = 0; i < 12; ++i)
    more.emplace_back(server.port());
  server.wait_for_log("cannot accept");
  server.signal(SIGTERM);
  CHECK(is_free(server.port()));
  deaf.reset();
  CHECK(server.wait() == 0);
}
