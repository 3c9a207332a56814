// What each signal does, before the server is ready and afterwards.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

using namespace test;
using namespace std::chrono_literals;

namespace {

/// A client that reads nothing holds the drain.
Client connect_deaf(Server& server) {
  Client deaf(server.port());
  deaf.use_small_buffer();
  deaf.send(pattern(300'000));
  server.wait_for_clients();
  return deaf;
}

/// Two signals at a distance that is surely not the same stop, while a client holds the drain.
int stop_twice(Server& server, int first, int second) {
  const Client deaf = connect_deaf(server);
  server.signal(first);
  server.wait_for_log("again ends it now");
  std::this_thread::sleep_for(600ms);  // The distance.
  server.signal(SIGUSR1);
  server.wait_for_log("] 1 connection open, 1 connection served, ");
  server.signal(second);
  return server.wait();
}

}  // namespace

TEST_CASE("a stop signal closes idle clients and ends the server with status 0", "[signals]") {
  for (const auto& [signal, name, again] :
       {std::tuple(SIGINT, "SIGINT", "Ctrl+C"), std::tuple(SIGTERM, "SIGTERM", "SIGTERM")}) {
    Server server({"--drain-timeout", "1h"});
    Client client = served_client(server.port());
    server.signal(signal);
    CHECK(client.receive_all().empty());
    CHECK(server.wait() == 0);
    CHECK_THAT(server.log(), contains("[info] stopping on " + std::string(name) +
                                      ": 1 connection open, 3600 s to finish; " + again +
                                      " again ends it now\n"));
    CHECK_THAT(server.log(), contains("connection from " + client.address() +
                                      " closed by the stop (5 bytes in "));
  }
}

TEST_CASE("a second signal ends the server as that signal does by default", "[signals]") {
  // An end at once joins no thread; for ThreadSanitizer that is a leak.
  const Setup setup{.environment = {"TSAN_OPTIONS=report_thread_leaks=0"}};
  for (const auto& [first, second] : {std::pair(SIGINT, SIGTERM), std::pair(SIGTERM, SIGINT)}) {
    Server server({"--drain-timeout", "1h", "-c", "4k"}, setup);
    CHECK(stop_twice(server, first, second) == -second);
  }
}

TEST_CASE("a signal that comes twice within half a second is one stop", "[signals]") {
  Server server({"--drain-timeout", "1h", "-c", "4k"});
  Client late(server.port());
  const std::size_t sent = late.send_until_blocked(more_than_fits());
  server.signal(SIGINT);
  server.signal(SIGTERM);
  server.wait_for_log("stopping on ");
  CHECK(same_bytes(late.receive_all(), more_than_fits().substr(0, sent)));
  CHECK(server.wait() == 0);
  CHECK(count_of(server.log(), "stopping on ") == 1);
}

TEST_CASE("the stop signals work when they were inherited ignored or blocked", "[signals]") {
  for (const std::string inherited : {"--ignore-signal=INT,TERM", "--block-signal=INT,TERM,USR1"})
    for (const int signal : {SIGINT, SIGTERM}) {
      Server server({}, {.prefix = {"env", inherited}});
      server.signal(SIGUSR1);
      server.wait_for_log("0 connections open, 0 connections served, 0 bytes echoed, up ");
      CHECK(server.stop(signal) == 0);
    }
}

TEST_CASE("before the server is ready a stop signal ends it by its default action", "[signals]") {
  for (const std::string inherited :
       {"--default-signal=INT,TERM", "--ignore-signal=INT,TERM", "--block-signal=INT,TERM"})
    for (const auto& [signal, name] : {std::pair(SIGINT, "INT"), std::pair(SIGTERM, "TERM")}) {
      CAPTURE(inherited, signal);
      Setup setup = with_faults("bind:signal=" + std::string(name));
      setup.prefix.insert(setup.prefix.begin(), {"env", inherited});
      // strace does not write down a call within which the process ends.
      std::ranges::replace(setup.prefix, std::exchange(setup.strace_output, ""), "/dev/null");
      const auto finished = run_server({"--host", "127.0.0.1", "--port", "0"}, setup);
      CHECK(finished.status == -signal);
      CHECK(finished.out.empty());
    }
}

TEST_CASE("process 1 of a container is stopped by one signal, ended by two, and leaves no zombie",
          "[signals]") {
  const Setup setup{.environment = {"TSAN_OPTIONS=report_thread_leaks=0"},
                    .prefix = {"unshare", "--fork", "--pid", "--mount-proc"}};
  if (run("true", {}, "", setup).status != 0)
    skip("no process namespaces here");
  Server once({}, setup);
  // A shell that leaves its child to process 1 of the namespace.
  const std::string id = std::to_string(once.pid());
  const Words command = {"--target", id,   "--pid",
                         "sh",       "-c", "sleep 0.1 </dev/null >/dev/null 2>&1 &"};
  CHECK(run("nsenter", command).status == 0);
  CHECK(eventually([&] {
    std::ifstream children("/proc/" + id + "/task/" + id + "/children");
    return children.peek() == std::ifstream::traits_type::eof();
  }));
  CHECK(once.stop() == 0);

  Server twice({"--drain-timeout", "1h", "-c", "4k"}, setup);
  CHECK(stop_twice(twice, SIGTERM, SIGTERM) == 128 + SIGTERM);
}

TEST_CASE("a hang-up keeps the effect that it was given", "[signals]") {
  Server by_default({}, {.prefix = {"env", "--default-signal=HUP"}});
  CHECK(by_default.stop(SIGHUP) == -SIGHUP);
  Server under_nohup({}, {.prefix = {"env", "--ignore-signal=HUP"}});
  under_nohup.signal(SIGHUP);
  CHECK(under_nohup.stop(SIGTERM) == 0);
}

TEST_CASE("a flood of SIGUSR1 under load loses nothing", "[signals]") {
  Server server;
  Client client(server.port());
  const std::string data = pattern(1 << 20);
  auto echoed = std::async(std::launch::async, [&] { return client.exchange(data); });
  while (echoed.wait_for(0s) != std::future_status::ready)
    server.signal(SIGUSR1);
  CHECK(same_bytes(echoed.get(), data));
  CHECK(server.stop() == 0);
}

TEST_CASE("a stop and a continue end no wait, and the wait costs no processor time", "[signals]") {
  Server server({"--drain-timeout", "1h", "-c", "4k"});
  Client deaf = connect_deaf(server);
  const auto pause = [&] {
    server.signal(SIGSTOP);
    REQUIRE(eventually([&] { return server.is_stopped(); }));
    server.signal(SIGCONT);
    REQUIRE(eventually([&] { return !server.is_stopped(); }));
  };
  pause();
  Client client = served_client(server.port());
  server.signal(SIGTERM);
  CHECK(client.receive_all().empty());
  CHECK(server.is_at_rest());
  pause();
  server.signal(SIGUSR1);
  server.wait_for_log("1 connection open, 2 connections served");
  CHECK(server.is_running());
  deaf.reset();
  CHECK(server.wait() == 0);
}
