// What each signal does, before the server is ready and afterwards.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

using namespace std::chrono_literals;

namespace {

/// A client that reads nothing, so that a graceful shutdown has to wait for it.
Client connect_deaf(Server& server) {
  Client deaf(server.port());
  deaf.use_small_buffer();
  deaf.send(pattern(300'000));
  server.wait_for_clients();
  return deaf;
}

/// Sends two signals so far apart that they are not the same stop. A client holds up the shutdown.
int stop_twice(Server& server, int first, int second) {
  const Client deaf = connect_deaf(server);
  server.signal(first);
  server.wait_for_log("again");
  std::this_thread::sleep_for(600ms);  // The time between the two.
  server.signal(SIGUSR1);
  server.wait_for_log(" 1 connection open, 1 connection served, ");
  server.signal(second);
  return server.wait();
}

/// Runs a program as process 1 of a process namespace of its own.
Setup as_process_1() {
  const Setup setup{.environment = {"TSAN_OPTIONS=report_thread_leaks=0"},
                    .prefix = {"unshare", "--fork", "--pid", "--mount-proc"}};
  if (const Finished tried = run("true", {}, "", setup); tried.status != 0)
    skip("no process namespaces here: " + tried.err);
  return setup;
}

}  // namespace

TEST_CASE("SIGINT and SIGTERM close idle connections and end the server with status 0",
          "[signals]") {
  const auto& [signal, name, again] = GENERATE(table<int, std::string, std::string>(
      {{SIGINT, "SIGINT", "press Ctrl+C again"}, {SIGTERM, "SIGTERM", "SIGTERM again"}}));
  Server server({"--drain-timeout", "1h"});
  std::vector<Client> clients;
  for (int i = 0; i < 100; ++i)
    clients.push_back(served_client(server.port()));
  server.signal(signal);
  for (Client& client : clients)
    CHECK(client.receive_all().empty());
  CHECK(server.wait() == 0);
  const std::string log = server.log();
  const auto at = log.find(" info received " + name + ", stopping");
  REQUIRE(at != log.npos);
  const std::string line = log.substr(at, log.find('\n', at) - at);
  CHECK_THAT(line, contains("100 open connections") && contains("3600 s") && contains(again));
  for (const Client& client : clients)
    CHECK_THAT(log, contains("from " + client.address() + " closed by shutdown (5 bytes in "));
}

TEST_CASE("second SIGINT or SIGTERM ends the server as that signal does by default", "[signals]") {
  // An immediate end joins no thread; for ThreadSanitizer that is a leak.
  const Setup setup{.environment = {"TSAN_OPTIONS=report_thread_leaks=0"}};
  const auto& [first, second] = GENERATE(table<int, int>({{SIGINT, SIGTERM}, {SIGTERM, SIGINT}}));
  Server server({"--drain-timeout", "1h", "-c", "4k"}, setup);
  CHECK(stop_twice(server, first, second) == -second);
}

TEST_CASE("second stop signal within half a second is ignored", "[signals]") {
  Server server({"--drain-timeout", "1h", "-c", "4k"});
  Client late(server.port());
  const std::size_t sent = late.send_until_blocked(more_than_fits());
  server.signal(SIGINT);
  server.signal(SIGTERM);
  server.wait_for_log(", stopping");
  CHECK(same_bytes(late.receive_all(), more_than_fits().substr(0, sent)));
  CHECK(server.wait() == 0);
  CHECK(count_of(server.log(), ", stopping") == 1);
}

TEST_CASE("stop signals work even if they were ignored or blocked at startup", "[signals]") {
  const std::string inherited =
      GENERATE("--ignore-signal=INT,TERM", "--block-signal=INT,TERM,USR1");
  const int signal = GENERATE(SIGINT, SIGTERM);
  Server server({}, {.prefix = {"env", inherited}});
  server.signal(SIGUSR1);
  server.wait_for_log("0 connections open, 0 connections served, 0 bytes echoed, uptime ");
  CHECK(server.stop(signal) == 0);
}

TEST_CASE("signals that arrive before the server is ready have their default effect", "[signals]") {
  const std::string inherited =
      GENERATE("--default-signal=INT,TERM", "--ignore-signal=INT,TERM", "--block-signal=INT,TERM");
  const auto& [signal, name] =
      GENERATE(table<int, std::string>({{SIGINT, "INT"}, {SIGTERM, "TERM"}}));
  CAPTURE(inherited, signal);
  Setup setup = with_faults("bind:signal=" + name);
  setup.prefix.insert(setup.prefix.begin(), {"env", inherited});
  // strace does not log a call in which the process ends.
  std::ranges::replace(setup.prefix, std::exchange(setup.strace_output, ""), "/dev/null");
  const auto finished = run_server({"--host", "127.0.0.1", "--port", "0"}, setup);
  CHECK(finished.status == -signal);
  CHECK(finished.out.empty());
}

TEST_CASE("stop signals end an unanswered name lookup even if the server is PID 1", "[signals]") {
  need_program("nc");
  const int signal = GENERATE(SIGINT, SIGTERM);
  const Network network;
  Process name_server({"nc", "-ul", "127.0.0.1", "53"}, network.setup());
  REQUIRE(eventually([&] { return !network.shell("ss -Hlun").empty(); }));
  Setup setup = network.setup();
  for (const std::string& word : as_process_1().prefix)
    setup.prefix.push_back(word);
  setup = with_file("/etc/resolv.conf", "nameserver 127.0.0.1\n", setup);
  Process server({server_binary(), "--host", "name.invalid"}, setup);
  name_server.wait_for_out("invalid");  // The question.
  server.signal(signal);
  CHECK(server.wait() == 128 + signal);
  CHECK(server.out().empty());
}

TEST_CASE("PID 1 shuts down after one signal and ends after two and leaves no zombie",
          "[signals]") {
  const Setup setup = as_process_1();
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

TEST_CASE("SIGHUP keeps its inherited disposition", "[signals]") {
  Server by_default({}, {.prefix = {"env", "--default-signal=HUP"}});
  CHECK(by_default.stop(SIGHUP) == -SIGHUP);
  Server under_nohup({}, {.prefix = {"env", "--ignore-signal=HUP"}});
  under_nohup.signal(SIGHUP);
  CHECK(under_nohup.stop(SIGTERM) == 0);
}

TEST_CASE("SIGSTOP and SIGCONT do not end a wait and waiting takes no CPU time", "[signals]") {
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

}  // namespace test
