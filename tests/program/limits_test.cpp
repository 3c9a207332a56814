// What limits the number of connections (--max-connections, file descriptors, threads), and that
// nothing leaks.

#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

using namespace std::chrono_literals;

namespace {

/// Waits until there are this many workers: all that wait at the start, or as many as there may be.
void wait_for_workers(const Server& server, std::size_t count) {
  // There are also the foreman and the thread for signals.
  REQUIRE(eventually([&] { return server.status_number("Threads") == count + 2; }));
}

/// Eight workers wait. There is not enough memory for the stack of one more.
void leave_no_room_for_threads(const Server& server) {
  wait_for_workers(server, 8);
  server.set_limit(RLIMIT_AS, (server.status_number("VmSize") + 1024) * 1024);
}

}  // namespace

TEST_CASE("connection limit makes the next client wait until a slot is free", "[limits]") {
  const std::size_t limit = GENERATE(1U, 3U);
  CAPTURE(limit);
  Server server({"--max-connections", std::to_string(limit)});
  std::vector<Client> served;
  for (std::size_t i = 0; i < limit; ++i)
    REQUIRE(served.emplace_back(server.port()).exchange("in") == "in");
  // A limit of 1 would be reported for each client.
  const std::string line = " warn connection limit of " + std::to_string(limit) + " reached";
  if (limit > 1)
    server.wait_for_log(line);
  Client waiting(server.port());
  waiting.send("next");
  for (Client& client : served)
    CHECK(client.exchange("still here") == "still here");
  CHECK(waiting.is_unanswered());
  CHECK(count_of(server.log(), "connection accepted") == limit);
  served.pop_back();
  CHECK(waiting.receive(4) == "next");
  CHECK(server.stop() == 0);
  CHECK(count_of(server.log(), line) == (limit > 1 ? 2 : 0));
}

TEST_CASE("soft limit on open files is raised to the hard limit", "[limits]") {
  Server server({}, with_limit("nofile=64:333"));
  rlimit limit{};
  REQUIRE(::prlimit(server.pid(), RLIMIT_NOFILE, nullptr, &limit) == 0);
  CHECK(limit.rlim_cur == 333);
  CHECK(limit.rlim_max == 333);
}

TEST_CASE("file descriptor shortage is reported and the server waits it out", "[limits]") {
  Server server;
  std::vector<Client> clients;
  REQUIRE(clients.emplace_back(server.port()).exchange("first") == "first");
  server.set_limit(RLIMIT_NOFILE, server.open_descriptors() + 14);
  for (int i = 0; i < 30; ++i)
    clients.emplace_back(server.port());
  server.wait_for_log(" error cannot accept: Too many open files");
  CHECK_THAT(server.log(), contains("ulimit -n"));
  CHECK(server.is_at_rest());
  CHECK(clients.front().exchange("held") == "held");
  clients.erase(clients.begin() + 1, clients.begin() + 20);
  server.wait_for_log(" error accepting connections again\n");
  for (Client& client : clients)
    CHECK(client.exchange("late") == "late");
  CHECK(server.stop(SIGINT) == 0);
}

TEST_CASE("file descriptor shortage is reported only if a client may be waiting", "[limits]") {
  // Each worker that waits holds a descriptor for its next client.
  Server few({"--log-level", "debug"}, with_limit("nofile=9:9"));
  CHECK(Client(few.port()).exchange("hello") == "hello");
  CHECK(Client(few.port()).exchange("hello") == "hello");
  CHECK(few.stop() == 0);
  CHECK_THAT(few.log(), !contains(" error "));
}

TEST_CASE("errors that recur are logged at most every 5 s and do not delay shutdown",
          "[limits][slow]") {
  Server server({"-c", "4k", "--drain-timeout", "1h"});
  Client deaf(server.port());
  deaf.send_until_blocked(more_than_fits());
  server.set_limit(RLIMIT_NOFILE, server.open_descriptors());
  std::vector<Client> clients;
  for (int i = 0; i < 20; ++i)
    clients.emplace_back(server.port());
  server.wait_for_log("cannot accept");
  const auto start = Clock::now();
  server.wait_for_log("cannot accept", 2);
  CHECK(Clock::now() - start >= 4s);  // Noise makes the time longer, or only a little shorter.
  server.signal(SIGTERM);
  CHECK(is_free(server.port()));
  deaf.reset();
  CHECK(server.wait() == 0);
}

TEST_CASE("thread start is retried after a failure even if no client disconnects", "[limits]") {
  need_own_memory();
  Server server;
  leave_no_room_for_threads(server);
  std::vector<Client> clients;
  for (int i = 0; i < 8; ++i)
    REQUIRE(clients.emplace_back(server.port()).exchange("in") == "in");
  server.wait_for_log(" error cannot start a thread: Resource temporarily unavailable");
  Client waiting(server.port());
  waiting.send("waits");
  CHECK(server.is_at_rest());
  CHECK(waiting.is_unanswered());
  for (Client& client : clients)
    CHECK(client.exchange("still here") == "still here");
  CHECK_THAT(server.log(), !contains("accepting connections again"));
  server.lift_limit(RLIMIT_AS);
  CHECK(waiting.receive(5) == "waits");
  for (int i = 0; i < 20; ++i)
    CHECK(clients.emplace_back(server.port()).exchange("more") == "more");
  CHECK(server.stop() == 0);
  CHECK(count_of(server.log(), "cannot start a thread") == 1);
  CHECK(count_of(server.log(), " error accepting connections again\n") == 1);
}

TEST_CASE("thread start failure is not reported while a worker is free", "[limits]") {
  need_own_memory();
  Server server;
  leave_no_room_for_threads(server);
  for (int i = 0; i < 20; ++i)
    serve_one(server.port());
  CHECK(server.stop() == 0);
  CHECK_THAT(server.log(), !contains(" error "));
}

TEST_CASE("memory shortage for one client closes only that client's connection", "[limits]") {
  need_own_memory();
  // All workers have been started by then, so that none has to be started without memory.
  Server server({"--chunk-size", "16M", "--max-connections", "9"});
  Client first = served_client(server.port());
  wait_for_workers(server, 9);
  server.set_limit(RLIMIT_AS, server.status_number("VmSize") * 1024);
  Client refused(server.port());
  CHECK(refused.receive_all().empty());
  server.wait_for_log(" warn connection from " + refused.address() + " failed: out of memory (");
  CHECK(first.exchange("still here") == "still here");
  server.lift_limit(RLIMIT_AS);
  CHECK(Client(server.port()).exchange("next") == "next");
}

TEST_CASE("memory exhaustion never turns a signal into an abort", "[limits]") {
  need_own_memory();
  Server server;
  Client client = served_client(server.port());
  server.set_limit(RLIMIT_AS, 0);
  server.set_limit(RLIMIT_DATA, 0);
  for (int i = 0; i < 20; ++i)
    server.signal(SIGUSR1);
  CHECK(client.exchange("still here") == "still here");
  server.signal(SIGTERM);
  CHECK(client.receive_all().empty());
  CHECK(server.wait() == 0);
}

TEST_CASE("resets by the thousand leave nothing behind but one log line each", "[limits]") {
  constexpr std::size_t resets = 3000;
  Server server;
  serve_one(server.port());
  const std::size_t descriptors = server.open_descriptors();
  for (std::size_t i = 0; i < resets; ++i)
    Client(server.port()).reset();
  serve_one(server.port());
  // Each worker that waits may hold a descriptor.
  CHECK(eventually([&] { return server.open_descriptors() <= descriptors + 16; }));
  CHECK(server.stop() == 0);
  CHECK(count_of(server.log(), "\n") == 2 * (resets + 2) + 4);
}

}  // namespace test
