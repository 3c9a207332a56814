// Before the first client: stdout, usage errors, errors at the start.

#include <fcntl.h>
#include <unistd.h>

#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

using namespace test;

TEST_CASE("stdout carries one line with the address that was bound, and then ends", "[start]") {
  Server four;
  const std::string port = std::to_string(four.port());
  CHECK(Client(four.port()).exchange("hello") == "hello");
  // A script that reads the address goes on while the server serves.
  const auto script =
      run("sh", {"-c",
                 "address=$(\"$0\" -p 0 --host ::1 2>log.$$ & echo $! >pid.$$); echo \"$address\"; "
                 "kill $(cat pid.$$); rm log.$$ pid.$$",
                 ECHO_SERVER_BINARY});
  CHECK(std::regex_match(script.out, std::regex(R"(Listening on \[::1\]:\d+\n)")));
  CHECK(four.stop() == 0);
  CHECK(four.out() == "Listening on 127.0.0.1:" + port + "\n");
}

TEST_CASE("help and version go to stdout with status 0, also beside a wrong value", "[start]") {
  const auto version = run_server({"--port", "http", "--version"});
  CHECK(version.status == 0);
  CHECK(version.out == "echo-server " ECHO_SERVER_VERSION "\n");
  const auto help = run_server({"--bogus", "--help"}, {.environment = {"ECHO_SERVER_PORT=http"}});
  CHECK(help.status == 0);
  CHECK_THAT(help.out, contains("--chunk-size"));
  CHECK((version.err + help.err).empty());
}

TEST_CASE("what cannot be printed is an error, and holds up no end", "[start]") {
  const echo::UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const auto help = run_server({"--help"}, {.out = full.get()});
  CHECK(help.status == 1);
  CHECK(help.err == "echo-server: cannot write to stdout: No space left on device\n");
  CHECK(run_server({"--bogus"}, {.err = full.get()}).status == 2);
  // A file that may not grow raises a signal first. (A sanitizer itself needs one that may.)
  need_own_memory();
  CHECK(run_server({"--version"}, with_limit("fsize=0")).status == 1);
}

TEST_CASE("a usage error ends with status 2, names the flag or variable, and where help is",
          "[start]") {
  for (const Words& arguments :
       std::vector<Words>{{"--chunk-size", "0"}, {"--bogus"}, {"stray"}, {"--host="}, {}}) {
    const std::string variable = arguments.empty() ? "ECHO_SERVER_PORT=http" : "ECHO_SERVER_PORT=";
    const auto finished = run_server(arguments, {.environment = {variable}});
    CHECK(finished.status == 2);
    CHECK(finished.out.empty());
    const std::string named = arguments.empty() ? "ECHO_SERVER_PORT" : arguments.front();
    CHECK_THAT(finished.err, Catch::Matchers::StartsWith("echo-server: "));
    CHECK_THAT(finished.err, contains(named.substr(0, named.find('='))) && contains("--help"));
    CHECK(count_of(finished.err, "\n") == 2);
  }
}

TEST_CASE("what a user typed is shown escaped, on one line", "[start]") {
  const std::string evil = "a\nb\033[31m\"c\xff";
  const std::string harmless = R"(a\nb\x1b[31m\"c\xff)";
  const auto host = run_server({"--host", evil, "--log-level", "debug"});
  CHECK_THAT(host.err, contains("starting up on host " + harmless + ", port 10000\n"));
  CHECK_THAT(host.err, contains("cannot resolve '" + harmless + "': "));
  CHECK(count_of(host.err, "\n") == 2);
  const auto usage = run_server({"--port", evil});
  CHECK_THAT(usage.err, contains(harmless));
  CHECK(count_of(usage.err, "\n") == 2);
}

TEST_CASE("a server that cannot start says why in one line, with status 1", "[start]") {
  const Server first;
  const std::string port = std::to_string(first.port());
  const auto says = [](const Words& arguments, const std::string& text, const Setup& setup = {}) {
    const auto finished = run_server(arguments, setup);
    CHECK(finished.status == 1);
    CHECK(finished.out.empty());
    CHECK_THAT(finished.err, Catch::Matchers::StartsWith("echo-server: cannot " + text));
    CHECK(count_of(finished.err, "\n") == 1);
  };
  says({"--host", "127.0.0.1", "--port", port},
       "listen on 127.0.0.1:" + port + ": Address already in use\n");
  says({"--host", "192.0.2.1", "--port", "0"},
       "listen on 192.0.2.1:0: Cannot assign requested address\n");
  says({"--host", "no.such.host.invalid"}, "resolve 'no.such.host.invalid': ");
  if (::geteuid() == 0)
    says({"--host", "127.0.0.1", "--port", "1"},
         "listen on 127.0.0.1:1: Permission denied (a port below 1024 needs root)\n",
         {.prefix = {"setpriv", "--bounding-set=-net_bind_service"}});
}

TEST_CASE("the address that a name stands for is in the log", "[start]") {
  Server server({"--host", "localhost"});
  server.wait_for_log("serving on ");
  CHECK(std::regex_search(server.log(), std::regex("serving on (127\\.0\\.0\\.1|\\[::1\\]):" +
                                                   std::to_string(server.port()) + ": ")));
}

TEST_CASE("a server of both families shows an IPv4 client as IPv4", "[start]") {
  Server server({"--host", "::"});
  Client client = served_client(server.port());
  server.wait_for_log("connection accepted from " + client.address() + " (1 open)");
  CHECK(Client(server.port(), "::1").exchange("hello") == "hello");
}

TEST_CASE("a restart on the same port works at once", "[start]") {
  std::string port = "0";
  for (int round = 0; round < 3; ++round) {
    Server server({"--port", port});
    port = std::to_string(server.port());
    Client client = served_client(server.port());
    server.signal(SIGTERM);
    CHECK(client.receive_all().empty());  // The server ended it: TIME_WAIT is on its side.
    CHECK(server.wait() == 0);
  }
}

TEST_CASE("a stdout that cannot be written is logged, and the server serves", "[start]") {
  const echo::UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const Pipe pipe;
  const std::string page(65'536, 'x');
  REQUIRE(::write(pipe.write_end.get(), page.data(), page.size()) == 65'536);
  for (const auto& [fd, words] :
       {std::pair(full.get(), "No space left on device"), std::pair(closed, "Bad file descriptor"),
        std::pair(pipe.write_end.get(), "Resource temporarily unavailable")}) {
    Server server({}, {.out = fd});
    CHECK_THAT(server.log(), contains("[error] cannot write to stdout: " + std::string(words)));
    CHECK(Client(server.port()).exchange("hello") == "hello");
    CHECK(server.stop() == 0);
  }
}

TEST_CASE("no client becomes a stream that was closed", "[start]") {
  // A socket in the place of stderr would get the log, in the place of stdin its bytes be lost.
  Server server({"-v"}, {.in = closed, .out = closed});
  Client client = served_client(server.port());
  Server silent({"-v"}, {.in = closed, .err = closed});
  Client other = served_client(silent.port());
  other.half_close();
  CHECK(other.receive_all().empty());
  CHECK(silent.stop() == 0);
}

TEST_CASE("with a stream closed and no /dev/null the server does not start", "[start]") {
  // All that the loader opens comes before.
  for (const auto stream : {&Setup::in, &Setup::out, &Setup::err}) {
    Setup setup = with_faults("openat:error=ENOENT");
    setup.prefix.insert(setup.prefix.begin() + 1, {"-P", "/dev/null"});
    setup.*stream = closed;
    CHECK(run_server({"--port", "0", "--host", "127.0.0.1"}, setup).status == 1);
  }
}
