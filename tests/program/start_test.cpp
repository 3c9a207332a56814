// Before the first client: stdout, usage errors, errors at the start, systemd.

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <filesystem>
#include <regex>
#include <string>
#include <utility>

#include "client.hpp"
#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

namespace {

/// A pipe into which nothing more fits.
Pipe full_pipe() {
  Pipe pipe;
  const std::string page(65'536, 'x');
  REQUIRE(::write(pipe.write_end.get(), page.data(), page.size()) == 65'536);
  return pipe;
}

}  // namespace

TEST_CASE("stdout is closed after one line so that a script can read the address", "[start]") {
  const auto script =
      run("sh", {"-c",
                 "address=$(\"$0\" -p 0 --host ::1 2>log.$$ & echo $! >pid.$$); echo \"$address\"; "
                 "kill $(cat pid.$$); rm log.$$ pid.$$",
                 server_binary()});
  CHECK(std::regex_match(script.out, std::regex(R"(Listening on \[::1\]:\d+\n)")));
}

TEST_CASE("stdout is closed even if it is the same socket as stdin", "[start]") {
  std::array<int, 2> ends{};
  echo::checked(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), "socketpair");
  const echo::UniqueFd ours(ends[0]);
  echo::UniqueFd theirs(ends[1]);
  Server server({}, {.in = theirs.get(), .out = theirs.get()});
  theirs = {};
  std::string all;
  for (std::string part = read_some(ours); !part.empty(); part = read_some(ours))
    all += part;
  CHECK(all == "Listening on 127.0.0.1:" + std::to_string(server.port()) + "\n");
  CHECK(Client(server.port()).exchange("hello") == "hello");
}

TEST_CASE("help and version go to stdout even if another option has a wrong value", "[start]") {
  const auto version = run_server({"--port", "http", "--version"});
  CHECK(version.status == 0);
  CHECK(version.out == "echo-server " ECHO_SERVER_VERSION "\n");
  const auto help = run_server({"--bogus", "--help"}, {.environment = {"ECHO_SERVER_PORT=http"}});
  CHECK(help.status == 0);
  CHECK_THAT(help.out, contains("--chunk-size"));
  CHECK((version.err + help.err).empty());
  Pipe pipe;
  pipe.read_end = {};
  const auto unread = run_server({"--help"}, {.out = pipe.write_end.get()});
  CHECK(unread.status != 0);
  CHECK(unread.err.empty());
}

TEST_CASE("help and usage errors that cannot be written do not delay the exit", "[start]") {
  const echo::UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const auto help = run_server({"--help"}, {.out = full.get()});
  CHECK(help.status == 1);
  CHECK(help.err == "echo-server: cannot write to stdout: No space left on device\n");
  CHECK(run_server({"--bogus"}, {.err = full.get()}).status == 2);
  const Pipe pipe = full_pipe();
  CHECK(run_server({"--bogus"}, {.err = pipe.write_end.get()}).status == 2);
  // A write to a file that may not grow raises a signal first. (A sanitizer writes to a file.)
  need_own_memory();
  CHECK(run_server({"--version"}, with_limit("fsize=0")).status == 1);
}

TEST_CASE("usage errors give status 2 and name the option or variable and --help", "[start]") {
  const auto& [arguments, variable, name] = GENERATE(table<Words, std::string, std::string>(
      {{{"--chunk-size", "0"}, "ECHO_SERVER_PORT=", "--chunk-size"},
       {{}, "ECHO_SERVER_PORT=http", "SERVER_PORT"}}));
  const auto finished = run_server(arguments, {.environment = {variable}});
  CHECK(finished.status == 2);
  CHECK(finished.out.empty());
  CHECK_THAT(finished.err, Catch::Matchers::StartsWith("echo-server: "));
  CHECK_THAT(finished.err, contains(name) && contains("--help"));
  CHECK(count_of(finished.err, "\n") == 2);
}

TEST_CASE("escape sequences in user input are shown as text on one line", "[start]") {
  const std::string evil = "a\nb\033[31m\"c\xff";
  const std::string harmless = R"(a\nb\x1b[31m\"c\xff)";
  const auto host = run_server({"--host", evil, "--log-level", "debug"});
  CHECK_THAT(host.err, contains("starting: host " + harmless + ", port 10000\n"));
  CHECK_THAT(host.err, contains("cannot resolve '" + harmless + "': "));
  CHECK(count_of(host.err, "\n") == 2);
  const auto usage = run_server({"--port", evil});
  CHECK_THAT(usage.err, contains(harmless));
  CHECK(count_of(usage.err, "\n") == 2);
}

namespace {

/// Checks that the server fails to start, and says so in these words.
void check_refusal(const Words& arguments, const std::string& words, const Setup& setup = {}) {
  const auto finished = run_server(arguments, setup);
  CHECK(finished.status == 1);
  CHECK(finished.out.empty());
  CHECK_THAT(finished.err, Catch::Matchers::StartsWith("echo-server: cannot " + words));
  CHECK(count_of(finished.err, "\n") == 1);
}

}  // namespace

TEST_CASE("startup errors give exit status 1 and one line with the reason", "[start]") {
  const Server first;
  const std::string port = std::to_string(first.port());
  check_refusal({"--host", "127.0.0.1", "--port", port},
                "listen on 127.0.0.1:" + port + ": Address already in use\n");
  check_refusal({"--host", "240.0.0.1", "--port", "0"},
                "listen on 240.0.0.1:0: Cannot assign requested address\n");
  check_refusal({"--host", "no.such.host.invalid"}, "resolve 'no.such.host.invalid': ");
}

TEST_CASE("permission hint is shown for a port below 1024 and for no other", "[start]") {
  const Setup denied = with_faults("bind:error=EACCES");
  const auto& [port, hint] = GENERATE(table<std::string, std::string>(
      {{"1024", "\n"}, {"1023", " (ports below 1024 need root or CAP_NET_BIND_SERVICE)\n"}}));
  check_refusal({"--host", "127.0.0.1", "--port", port},
                "listen on 127.0.0.1:" + port + ": Permission denied" + hint, denied);
}

TEST_CASE("address in use is an error even if the host name has another address", "[start]") {
  const Setup setup = with_file("/etc/hosts", "127.0.0.1 two.invalid\n127.0.0.2 two.invalid\n");
  Server first({"--host", "two.invalid"}, setup);
  first.wait_for_log("serving on 127.0.0.1:");
  const std::string port = std::to_string(first.port());
  check_refusal({"--host", "two.invalid", "--port", port},
                "listen on 127.0.0.1:" + port + ": Address already in use\n", setup);
}

TEST_CASE("restart on the same port works immediately", "[start]") {
  std::string port = "0";
  for (int round = 0; round < 3; ++round) {
    Server server({"--port", port});
    port = std::to_string(server.port());
    Client client = served_client(server.port());
    server.signal(SIGTERM);
    // The server ends the connection, so TIME_WAIT is on its side.
    CHECK(client.receive_all().empty());
    CHECK(server.wait() == 0);
  }
}

TEST_CASE("stdout write errors are logged and the server keeps serving", "[start]") {
  const echo::UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const Pipe pipe = full_pipe();
  for (const auto& [fd, words] :
       {std::pair(full.get(), "No space left on device"), std::pair(closed, "Bad file descriptor"),
        std::pair(pipe.write_end.get(), "Resource temporarily unavailable")}) {
    Server server({}, {.out = fd});
    server.wait_for_log(" error cannot write to stdout: " + std::string(words));
    CHECK(Client(server.port()).exchange("hello") == "hello");
    CHECK(server.stop() == 0);
  }
}

TEST_CASE("closed standard streams are never replaced by a client's connection", "[start]") {
  // A socket in place of stderr would receive the log, and one in place of stdin would lose bytes.
  Server server({"-v"}, {.in = closed, .out = closed});
  Client client = served_client(server.port());
  Server silent({"-v"}, {.in = closed, .err = closed});
  Client other = served_client(silent.port());
  CHECK(other.finish().empty());
  CHECK(silent.stop() == 0);
}

TEST_CASE("closed standard streams prevent startup if there is no /dev/null", "[start]") {
  // /dev/null is opened after everything that the loader opens.
  for (const auto stream : {&Setup::in, &Setup::out, &Setup::err}) {
    Setup setup = with_faults("openat:error=ENOENT");
    setup.prefix.insert(setup.prefix.begin() + 1, {"-P", "/dev/null"});
    setup.*stream = closed;
    CHECK(run_server({"--port", "0", "--host", "127.0.0.1"}, setup).status == 1);
  }
}

TEST_CASE("systemd is told by READY=1 that clients can connect", "[start]") {
  const bool is_abstract = GENERATE(true, false);
  const std::string path =
      std::filesystem::temp_directory_path() / ("echo-server-ready-" + std::to_string(::getpid()));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (is_abstract)
    address.sun_path[0] = '\0';
  const echo::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  echo::checked(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                       static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size())),
                "bind");
  const std::string variable = "NOTIFY_SOCKET=" + (is_abstract ? '@' + path.substr(1) : path);
  const Server first;
  CHECK(run_server({"--host", "127.0.0.1", "--port", std::to_string(first.port())},
                   {.environment = {variable}})
            .status == 1);
  char byte = 0;
  CHECK(::recv(socket.get(), &byte, 1, 0) == -1);  // The server has not said that it is ready.
  const Server ready({}, {.environment = {variable}});
  CHECK(std::regex_match(read_some(socket), std::regex("READY=1\n?")));
  std::filesystem::remove(path);
  Server unheard({}, {.environment = {variable + "/gone"}});
  CHECK(Client(unheard.port()).exchange("hello") == "hello");
}

TEST_CASE("backlog is as long as the system allows", "[start]") {
  const Network network;
  network.shell("echo 20000 >/proc/sys/net/core/somaxconn");
  const Server server({}, network.setup());
  const std::string shown = network.shell("ss -Hltn sport = " + std::to_string(server.port()));
  CHECK_THAT(shown, contains(" 20000 "));
}

}  // namespace test
