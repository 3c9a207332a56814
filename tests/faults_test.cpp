#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <regex>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "client.hpp"
#include "program.hpp"

namespace {

using namespace std::chrono_literals;
using test::Client;
using test::command;
using test::on_loopback;
using test::Program;
using test::run;
using test::with_faults;

test::Setup with_open_files(const std::string& limits, std::vector<std::string> more = {}) {
  test::Setup setup = on_loopback(std::move(more));
  setup.prefix = {"prlimit", "--nofile=" + limits};
  return setup;
}

/// As from outside, while the program runs.
void limit_open_files(const Program& program, rlim_t most) {
  const rlimit limit{most, most};
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_NOFILE, &limit, nullptr) == 0);
}

/// A limit of memory would be a sanitizer's own matter.
bool skip_without_own_memory() {
  if (test::sanitized)
    std::cout << "skipped: a sanitizer has memory of its own" << std::endl;
  return test::sanitized;
}

}  // namespace

TEST_CASE("without descriptors the server goes on, and says so and when it accepts again",
          "[program]") {
  Program program(on_loopback());
  std::vector<Client> clients;
  clients.emplace_back(program.port());
  REQUIRE(clients.front().exchange("first") == "first");
  limit_open_files(program, program.open_descriptors() + 14);
  for (int i = 0; i < 30; ++i)
    clients.emplace_back(program.port());
  REQUIRE(
      program.log().wait_for("[error] cannot accept: Too many open files; the limit of open files "
                             "(ulimit -n) is reached; will try again\n"));
  const auto time = program.processor_time();
  std::this_thread::sleep_for(1s);  // The time over which tries are counted.
  CHECK(program.processor_time() - time < 200ms);
  CHECK(test::count_of(program.log().text(), "cannot accept") == 1);
  CHECK(clients.front().exchange("held") == "held");
  clients.erase(clients.begin(), clients.begin() + 20);
  CHECK(program.log().wait_for("[error] accepting connections again"));
  for (Client& client : clients)
    CHECK(client.exchange("late") == "late");
  program.signal(SIGINT);
  CHECK(program.wait() == 0);
}

TEST_CASE("a failure to accept is reported at most every five seconds", "[program]") {
  Program program(on_loopback());
  program.port();
  limit_open_files(program, program.open_descriptors());
  std::vector<Client> clients;
  for (int i = 0; i < 20; ++i)
    clients.emplace_back(program.port());
  REQUIRE(program.log().wait_for("cannot accept", 2));
  const std::string log = program.log().text();
  std::smatch match;
  std::vector<double> times;
  const std::regex line(R"(:(\d\d):(\d\d\.\d+)\] \[error\] cannot accept)");
  for (auto at = log.cbegin(); std::regex_search(at, log.cend(), match, line);
       at = match.suffix().first)
    times.push_back(std::stod(match[1]) * 60 + std::stod(match[2]));
  REQUIRE(times.size() == 2);
  const double between = times[1] - times[0];
  CHECK((between < 0 ? between + 3600 : between) >= 4.5);  // The log's clock is another one.
}

TEST_CASE("whatever accept lacks, the next client is served", "[program]") {
  if (test::skip_without_strace())
    return;
  for (const auto& [error, words] : {std::pair("ENFILE", "Too many open files in system"),
                                     std::pair("ENOBUFS", "No buffer space available"),
                                     std::pair("ENOMEM", "Cannot allocate memory"),
                                     std::pair("EPERM", "Operation not permitted")}) {
    Program program(with_faults("accept4:error=" + std::string(error) + ":when=1..3"));
    Client client(program.port());
    CHECK(client.exchange("hello") == "hello");
    CHECK(program.log().wait_for("[error] cannot accept: " + std::string(words)));
    CHECK(program.log().wait_for("accepting connections again"));
    program.signal(SIGTERM);
    CHECK(program.wait() == 0);
    CHECK(test::count_of(program.log().text(), "cannot accept") == 1);
    CHECK(program.log().text().find("ulimit") == std::string::npos);
  }
}

TEST_CASE("a client that is gone before it is accepted is passed over", "[program]") {
  if (test::skip_without_strace())
    return;
  for (const std::string error : {"ECONNABORTED", "EPROTO", "EINTR"}) {
    Program program(with_faults("accept4:error=" + error + ":when=1..3"));
    Client client(program.port());
    CHECK(client.exchange("hello") == "hello");
    CHECK(program.log().wait_for("connection accepted"));
    CHECK(program.log().text().find("[error]") == std::string::npos);
  }
}

TEST_CASE("interrupted calls are made again", "[program]") {
  if (test::skip_without_strace())
    return;
  for (const std::string call : {"recvfrom", "recvmmsg", "sendto", "write"}) {
    Program program(with_faults(call + ":error=EINTR:when=1+2"));
    Client client(program.port());
    const std::string data = test::pattern(10'000);
    CHECK(client.exchange(data) == data);
    client.half_close();
    CHECK(client.receive_all().empty());
  }
}

TEST_CASE("without an idle timeout a connection that times out has failed", "[program]") {
  if (test::skip_without_strace())
    return;
  Program program(with_faults("recvfrom:error=ETIMEDOUT:when=1"));  // As by keep-alive probes.
  Client client(program.port());
  CHECK(client.receive_all().empty());
  CHECK(program.log().wait_for("connection from " + client.address() +
                               " failed, receive: Connection timed out (0 bytes"));
}

TEST_CASE("a socket option that cannot be set on the listener is an error at the start",
          "[program]") {
  if (test::skip_without_strace())
    return;
  for (const auto& [number, name] : {std::pair(1, "SO_REUSEADDR"), std::pair(2, "TCP_NODELAY"),
                                     std::pair(3, "SO_OOBINLINE"), std::pair(4, "SO_KEEPALIVE")}) {
    const auto finished =
        run(with_faults("setsockopt:error=ENOBUFS:when=" + std::to_string(number)));
    CHECK(finished.status == 1);
    CHECK(finished.out.empty());
    CHECK(finished.log ==
          "echo-server: cannot set " + std::string(name) + ": No buffer space available\n");
  }
}

TEST_CASE("a socket that cannot be made is an error that names the address", "[program]") {
  if (test::skip_without_strace())
    return;
  const auto finished = run(with_faults("socket:error=EAFNOSUPPORT"));
  CHECK(finished.status == 1);
  CHECK(finished.log ==
        "echo-server: cannot listen on 127.0.0.1:0: Address family not supported by protocol\n");
}

TEST_CASE("a worker that cannot be started is noticed by nobody who is connected", "[program]") {
  Program program(on_loopback());
  Client first(program.port());
  REQUIRE(first.exchange("hello") == "hello");
  // Less than a thread's stack is left.
  const rlim_t most = (program.status_number("VmSize") + 1024) * 1024;
  const rlimit limit{most, most};
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, &limit, nullptr) == 0);
  Client second(program.port());
  REQUIRE(second.exchange("hello") == "hello");
  CHECK(program.log().wait_for("[error] cannot start a worker thread: "));
  Client third(program.port());
  third.send("third");
  CHECK(first.exchange("still here") == "still here");
  second.close();
  CHECK(third.receive(5) == "third");
  REQUIRE(program.log().wait_for("connection accepted from " + third.address()));
  CHECK(program.log().text().find("accepting connections again") == std::string::npos);
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
}

TEST_CASE("workers that could not be started are started when a client has left and they can",
          "[program]") {
  if (skip_without_own_memory())
    return;
  Program program(on_loopback());
  program.port();
  rlimit limit{};
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, nullptr, &limit) == 0);
  const rlimit little{(program.status_number("VmSize") + 1024) * 1024, limit.rlim_max};
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, &little, nullptr) == 0);
  Client first(program.port());
  REQUIRE(first.exchange("hello") == "hello");
  CHECK(program.log().wait_for("[error] cannot start a worker thread: "));
  CHECK(program.log().text().find("accepting connections again") == std::string::npos);
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, &limit, nullptr) == 0);
  // The worker that comes back waits, and starts the others with the next client.
  first.close();
  Client next(program.port());
  CHECK(next.exchange("next") == "next");
  CHECK(program.log().wait_for("[error] accepting connections again"));
  CHECK(Client(program.port()).exchange("one more") == "one more");
}

TEST_CASE("an error keeps its name where memory is short", "[program]") {
  if (skip_without_own_memory())
    return;
  Program program(on_loopback({"--idle-timeout", "1s", "--max-connections", "9"}));
  REQUIRE(Client(program.port()).exchange("hello") == "hello");
  // Enough for what is asked for, but not for what malloc would like to have besides.
  const rlim_t most = (program.status_number("VmSize") + 4096) * 1024;
  const rlimit limit{most, most};
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, &limit, nullptr) == 0);
  std::vector<Client> clients;
  for (int i = 0; i < 5; ++i)
    clients.emplace_back(program.port());
  for (Client& client : clients)
    CHECK(client.receive_all().empty());
  CHECK(program.log().wait_for("closed for idling", 5));
  CHECK(program.log().text().find("Cannot allocate memory") == std::string::npos);
}

TEST_CASE("a client for whom there is no memory is closed, and the next one served", "[program]") {
  if (skip_without_own_memory())
    return;
  // All workers are there with the first client, so that none is to be started without memory.
  Program program(on_loopback({"--chunk-size", "16M", "--max-connections", "9"}));
  Client first(program.port());
  REQUIRE(first.exchange("hello") == "hello");
  rlimit limit{};
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, nullptr, &limit) == 0);
  const rlimit little{program.status_number("VmSize") * 1024, limit.rlim_max};
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, &little, nullptr) == 0);
  Client refused(program.port());
  CHECK(refused.receive_all().empty());
  CHECK(
      program.log().wait_for("connection from " + refused.address() + " failed, out of memory ("));
  CHECK(first.exchange("still here") == "still here");
  REQUIRE(::prlimit(program.server_pid(), RLIMIT_AS, &limit, nullptr) == 0);
  CHECK(Client(program.port()).exchange("next") == "next");
}

TEST_CASE("a server that cannot start its first worker does not start", "[program]") {
  if (test::skip_without_strace())
    return;
  const auto finished = run(with_faults("clone,clone3:error=EAGAIN"));
  CHECK(finished.status == 1);
  CHECK(finished.out.empty());
  CHECK(finished.log ==
        "echo-server: cannot start a worker thread: Resource temporarily unavailable\n");
}

TEST_CASE("the limit of open files is raised as far as needed and possible", "[program]") {
  const auto soft_limit = [](const Program& program) {
    std::ifstream limits("/proc/" + std::to_string(program.server_pid()) + "/limits");
    for (std::string line; std::getline(limits, line);)
      if (line.rfind("Max open files", 0) == 0)
        return std::stoul(line.substr(14));
    return 0UL;
  };
  Program enough(with_open_files("64:2000", {"--max-connections", "500"}));
  enough.port();
  CHECK(soft_limit(enough) >= 500);
  CHECK(soft_limit(enough) < 600);
  REQUIRE(enough.log().wait_for("serving on"));
  CHECK(enough.log().text().find("[warning]") == std::string::npos);

  Program too_few(with_open_files("64:100", {"--max-connections", "500"}));
  too_few.port();
  CHECK(soft_limit(too_few) == 100);
  REQUIRE(
      too_few.log().wait_for("connections can be served at once, not 500: the limit of open "
                             "files (ulimit -n) is 100"));
  const std::string log = too_few.log().text();
  const auto number = std::stoul(log.substr(log.find("only ") + 5));
  CHECK(number > 85);
  REQUIRE(too_few.log().wait_for("at most " + std::to_string(number) + " connections; "));
  std::vector<Client> clients;
  for (std::size_t i = 0; i < number; ++i) {
    clients.emplace_back(too_few.port());
    REQUIRE(clients.back().exchange("x") == "x");
  }
  Client one_more(too_few.port());
  one_more.send("waits");
  CHECK(too_few.log().wait_for("connection limit of " + std::to_string(number) + " reached"));
  CHECK(clients.front().exchange("still here") == "still here");
  CHECK(too_few.log().text().find("[error]") == std::string::npos);
  clients.pop_back();
  CHECK(one_more.receive(5) == "waits");
  CHECK(too_few.log().text().find("[error]") == std::string::npos);
}

TEST_CASE("where the limit of open files cannot be raised, what there is counts", "[program]") {
  if (skip_without_own_memory() || test::skip_without_strace())
    return;
  // The first call is the C library's own, the second asks for the limit, the third raises it.
  test::Setup setup = with_faults("prlimit64:error=EPERM:when=3", {"--max-connections", "500"});
  setup.prefix.insert(setup.prefix.begin(), {"prlimit", "--nofile=64:2000"});
  Program program(setup);
  CHECK(program.log().wait_for("not 500: the limit of open files (ulimit -n) is 64"));
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
}

TEST_CASE("a pulled cable ends a connection by the idle timeout", "[program]") {
  const test::Network theirs;
  const test::Network ours;
  if (theirs.skip())
    return;
  const auto shell = [&](const std::string& commands) {
    return run(
        command("sh", {"-ec", "a=" + ours.name() + " b=" + theirs.name() + "; " + commands}));
  };
  const auto cable = shell(
      "ip -n $a link add v0 type veth peer name v1 netns $b;"
      "ip -n $a addr add 192.0.2.1/24 dev v0; ip -n $a link set v0 up;"
      "ip -n $b addr add 192.0.2.2/24 dev v1; ip -n $b link set v1 up");
  if (cable.status != 0) {
    std::cout << "skipped: no virtual cable here: " << cable.log << std::endl;
    return;
  }
  test::Setup server{{"--host", "192.0.2.1", "--port", "0", "--idle-timeout", "1s"}};
  server.prefix = ours.prefix();
  Program program(server);
  test::Setup nc = command("nc", {"192.0.2.1", std::to_string(program.port())});
  nc.prefix = theirs.prefix();
  Program client(nc);
  client.write("hello\n");
  CHECK(client.out().wait_for("hello\n"));
  CHECK(shell("ip -n $b link set v1 down").status == 0);
  CHECK(program.log().wait_for("closed for idling (6 bytes echoed"));
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
}

TEST_CASE("loss and reordering on the way change no byte", "[program]") {
  const test::Network network;
  if (network.skip())
    return;
  const auto made = run(command("tc", {"-n", network.name(), "qdisc", "add", "dev", "lo", "root",
                                       "netem", "delay", "2ms", "reorder", "25%", "loss", "5%"}));
  if (made.status != 0) {
    std::cout << "skipped: no network with loss here: " << made.log << std::endl;
    return;
  }
  test::Setup server = on_loopback({"-c", "4k"});
  server.prefix = network.prefix();
  Program program(server);
  test::Setup nc = command("nc", {"-N", "127.0.0.1", std::to_string(program.port())});
  nc.prefix = network.prefix();
  const std::string data = test::pattern(300'000);
  CHECK((run(nc, data).out == data));
  CHECK(program.log().wait_for("no more data from"));
}

TEST_CASE("no command line or environment ends the program by a signal", "[program]") {
  std::uint32_t state = 1;
  const auto random = [&state](std::size_t below) {
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % below;
  };
  const std::vector<std::string> words = {"--host",
                                          "--port",
                                          "-p",
                                          "-c",
                                          "--chunk-size",
                                          "--max-connections",
                                          "-v",
                                          "--idle-timeout",
                                          "--drain-timeout",
                                          "--log-level",
                                          "--delay",
                                          "--close-after",
                                          "--reset-after",
                                          "--exit-after",
                                          "never",
                                          "--version",
                                          "-h",
                                          "--",
                                          "-",
                                          "",
                                          "0",
                                          "65536",
                                          "64k",
                                          "16M",
                                          "0x10",
                                          "-1",
                                          "1e9",
                                          "500ms",
                                          "99999999h",
                                          "info",
                                          "bogus",
                                          "[x]",
                                          "{}",
                                          "--port=0",
                                          "-p0",
                                          "-vv",
                                          "-vh",
                                          "--=",
                                          "\xff\xfe",
                                          "\"",
                                          "'",
                                          "%s%n",
                                          "--host=::1",
                                          "127.0.0.1",
                                          "=",
                                          "-c=1",
                                          "---",
                                          std::string(5000, '9'),
                                          "--no-port",
                                          "@file",
                                          "--config"};
  const std::vector<std::string> variables = {
      "HOST",      "PORT",  "CHUNK_SIZE",  "MAX_CONNECTIONS", "IDLE_TIMEOUT", "DRAIN_TIMEOUT",
      "LOG_LEVEL", "DELAY", "CLOSE_AFTER", "RESET_AFTER",     "EXIT_AFTER"};
  for (int i = 0; i < (test::sanitized ? 500 : 2000); ++i) {
    test::Setup setup;
    for (std::size_t n = random(6); n > 0; --n)
      setup.arguments.push_back(words[random(words.size())]);
    for (std::size_t n = random(3); n > 0; --n)
      setup.environment.push_back("ECHO_SERVER_" + variables[random(variables.size())] + "=" +
                                  words[random(words.size())]);
    setup.environment.push_back("RES_OPTIONS=timeout:1 attempts:1");  // Of names to be resolved.
    // In every other run a host can come from the environment.
    if (i % 2 == 0)
      setup.arguments.insert(setup.arguments.begin(), {"--host", "127.0.0.1"});
    Program program(setup);
    program.out().wait_for("Listening on");
    program.signal(SIGTERM);
    const int status = program.wait();
    CAPTURE(setup.arguments, setup.environment, status);
    REQUIRE((status == 0 || status == 1 || status == 2));
  }
}
