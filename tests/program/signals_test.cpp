// What each signal does, before the server is ready and afterwards.

#include <algorithm>
#include <chrono>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace {

using namespace std::chrono_literals;
using test::Client;
using test::contains;
using test::Server;
using test::Setup;

/// A client that reads nothing holds the drain.
Client connect_deaf(Server& server) {
  Client deaf(server.port());
  deaf.use_small_buffer();
  deaf.send(test::pattern(300'000));
  server.wait_for_clients();
  return deaf;
}

/// Two signals at a distance that is surely not the same stop.
int stop_twice(Server& server, int first, int second) {
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
  for (const int signal : {SIGINT, SIGTERM}) {
    Server server({"--drain-timeout", "1h"});
    Client client(server.port());
    REQUIRE(client.exchange("hello") == "hello");
    server.signal(signal);
    CHECK(client.receive_all().empty());
    CHECK(server.wait() == 0);
    const std::string name = signal == SIGINT ? "SIGINT" : "SIGTERM";
    const std::string again = signal == SIGINT ? "Ctrl+C" : "SIGTERM";
    CHECK_THAT(server.log(),
               contains("[info] stopping on " + name + ": 1 connection open, 3600 s to finish; " +
                        again + " again ends it now\n"));
    CHECK_THAT(server.log(), contains("connection from " + client.address() +
                                      " closed by the stop (5 bytes in "));
  }
}

TEST_CASE("a second signal ends the server as that signal does by default", "[signals]") {
  // An end at once joins no thread; for ThreadSanitizer that is a leak.
  const Setup setup{.environment = {"TSAN_OPTIONS=report_thread_leaks=0"}};
  for (const auto& [first, second] : {std::pair(SIGINT, SIGTERM), std::pair(SIGTERM, SIGINT)}) {
    Server server({"--drain-timeout", "1h", "-c", "4k"}, setup);
    const Client deaf = connect_deaf(server);
    CHECK(stop_twice(server, first, second) == -second);
  }
}

TEST_CASE("a signal that comes twice within half a second is one stop", "[signals]") {
  for (const auto& [first, second] : {std::pair(SIGTERM, SIGTERM), std::pair(SIGINT, SIGTERM)}) {
    Server server({"--drain-timeout", "1h", "-c", "4k"});
    Client late(server.port());
    const std::string data = test::pattern(64 << 20);
    const std::size_t sent = late.send_until_blocked(data);
    server.signal(first);
    server.signal(second);
    server.wait_for_log("stopping on ");
    CHECK(test::same_bytes(late.receive_all(), data.substr(0, sent)));
    CHECK(server.wait() == 0);
    CHECK(test::count_of(server.log(), "stopping on ") == 1);
  }
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
    for (const int signal : {SIGINT, SIGTERM}) {
      CAPTURE(inherited, signal);
      Setup setup = test::with_faults("bind:delay_exit=2000000");
      setup.prefix.insert(setup.prefix.begin(), {"env", inherited});
      // strace does not write down a call within which the process ends.
      std::ranges::replace(setup.prefix, std::exchange(setup.strace_output, ""), "/dev/null");
      test::Words command = {ECHO_SERVER_BINARY, "--port",      "0",    "--host",
                             "127.0.0.1",        "--log-level", "debug"};
      test::Process starting(command, setup);
      starting.wait_for_err("starting up on host");
      starting.signal(signal);
      CHECK(starting.wait() == -signal);
      CHECK(starting.out().empty());
    }
}

TEST_CASE("process 1 of a container is stopped by one signal, ended by two, and leaves no zombie",
          "[signals]") {
  const Setup setup{.environment = {"TSAN_OPTIONS=report_thread_leaks=0"},
                    .prefix = {"unshare", "--fork", "--pid", "--mount-proc"}};
  if (test::run("true", {}, "", setup).status != 0)
    test::skip("no process namespaces here");
  Server once({}, setup);
  // A shell that leaves its child to process 1 of the namespace.
  const std::string id = std::to_string(once.pid());
  CHECK(test::run("nsenter",
                  {"--target", id, "--pid", "sh", "-c", "sleep 1 </dev/null >/dev/null 2>&1 &"})
            .status == 0);
  const auto has_children = [&] {
    std::ifstream children("/proc/" + id + "/task/" + id + "/children");
    return children >> std::ws && !children.eof();
  };
  CHECK(test::eventually([&] { return !has_children(); }));
  CHECK(once.stop() == 0);

  Server twice({"--drain-timeout", "1h", "-c", "4k"}, setup);
  const Client deaf = connect_deaf(twice);
  CHECK(stop_twice(twice, SIGTERM, SIGTERM) == 128 + SIGTERM);
}

TEST_CASE("a hang-up keeps the effect that it was given", "[signals]") {
  Server by_default({}, {.prefix = {"env", "--default-signal=HUP"}});
  CHECK(by_default.stop(SIGHUP) == -SIGHUP);
  Server under_nohup({}, {.prefix = {"env", "--ignore-signal=HUP"}});
  under_nohup.signal(SIGHUP);
  CHECK(under_nohup.stop(SIGTERM) == 0);
}

TEST_CASE("SIGUSR1 logs the totals at every level but off", "[signals]") {
  for (const char* level : {"trace", "info", "error"}) {
    Server server({"--log-level", level});
    Client client(server.port());
    REQUIRE(client.exchange("hello") == "hello");
    client.half_close();
    REQUIRE(client.receive_all().empty());
    server.signal(SIGUSR1);
    server.wait_for_log("[info] 0 connections open, 1 connection served, 5 bytes echoed, up ");
  }
  Server off({"--log-level", "off"});
  off.signal(SIGUSR1);
  CHECK(off.stop() == 0);
  CHECK(off.log().empty());
}

TEST_CASE("a flood of SIGUSR1 under load loses nothing", "[signals]") {
  Server server;
  Client client(server.port());
  const std::string data = test::pattern(1 << 20);
  auto echoed = std::async(std::launch::async, [&] {
    for (int i = 0; i < 3; ++i)
      if (client.exchange(data) != data)
        return false;
    return true;
  });
  while (echoed.wait_for(0s) != std::future_status::ready)
    server.signal(SIGUSR1);
  CHECK(echoed.get());
  CHECK(server.stop() == 0);
}

TEST_CASE("a stop and a continue end no wait", "[signals]") {
  Server server({"--drain-timeout", "1h", "-c", "4k"});
  Client deaf = connect_deaf(server);
  const auto pause = [&] {
    server.signal(SIGSTOP);
    REQUIRE(test::eventually([&] { return server.is_stopped(); }));
    server.signal(SIGCONT);
    REQUIRE(test::eventually([&] { return !server.is_stopped(); }));
  };
  pause();
  Client client(server.port());
  CHECK(client.exchange("hello") == "hello");
  server.signal(SIGTERM);
  CHECK(client.receive_all().empty());
  pause();
  server.signal(SIGUSR1);
  server.wait_for_log("1 connection open, 2 connections served");
  CHECK(server.is_running());
  deaf.reset();
  CHECK(server.wait() == 0);
}
