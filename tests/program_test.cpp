#include "program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <iostream>
#include <iterator>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "catch.hpp"
#include "client.hpp"

namespace {

using namespace std::chrono_literals;
using test::Client;
using test::command;
using test::on_loopback;
using test::open_full_disk;
using test::open_pipe;
using test::open_terminal;
using test::Pipe;
using test::Program;
using test::run;
using test::Terminal;

std::string read_some(int fd) {
  pollfd readable{fd, POLLIN, 0};
  if (::poll(&readable, 1, static_cast<int>(test::deadline / 1ms)) != 1)
    throw std::runtime_error("nothing comes to be read");
  std::string text(65'536, '\0');
  const auto count = ::read(fd, text.data(), text.size());
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

bool matches(const std::string& text, const std::string& expression) {
  return std::regex_search(text, std::regex(expression));
}

/// Enough debug lines to fill any pipe or terminal that nobody reads.
void flood(std::uint16_t port) {
  Client client(port);
  const std::string data = test::pattern(1 << 20);
  REQUIRE(client.exchange(data) == data);
}

/// A pipe that takes nothing more.
Pipe open_full_pipe() {
  Pipe pipe = open_pipe();
  const std::string page(4096, 'x');
  REQUIRE(::fcntl(pipe.write_end.get(), F_SETPIPE_SZ, page.size()) != -1);
  REQUIRE(::write(pipe.write_end.get(), page.data(), page.size()) == 4096);
  return pipe;
}

}  // namespace

TEST_CASE("stdout carries one line with the address that was bound", "[program]") {
  Program four(on_loopback());
  const std::uint16_t port = four.port();
  Client client(port);
  CHECK(client.exchange("hello") == "hello");
  four.signal(SIGTERM);
  CHECK(four.wait() == 0);
  CHECK(four.out().text() == "Listening on 127.0.0.1:" + std::to_string(port) + "\n");

  Program six({"--host", "::1", "--port", "0"});
  CHECK(six.out().wait_for("Listening on [::1]:" + std::to_string(six.port()) + "\n"));
}

TEST_CASE("help and version go to stdout with status 0", "[program]") {
  const auto version = run({{"--version"}});
  CHECK(version.status == 0);
  CHECK(version.out == "echo-server " ECHO_SERVER_VERSION "\n");
  CHECK(version.log.empty());
  const auto help = run({{"--bogus", "--help"}});
  CHECK(help.status == 0);
  CHECK(std::regex_search(help.out, std::regex(R"((Usage: |\n\n)echo-server \[OPTIONS\])")));
  CHECK(help.log.empty());
  const echo::UniqueFd full = open_full_disk();
  test::Setup to_full_disk{{"--help"}};
  to_full_disk.stdout_fd = full.get();
  CHECK(run(to_full_disk).status == 1);
}

TEST_CASE("a usage error ends with status 2 and names the flag", "[program]") {
  for (const std::vector<std::string>& arguments : std::initializer_list<std::vector<std::string>>{
           {"--port", "65536"}, {"--chunk-size", "0"}, {"--bogus"}, {"stray"}}) {
    const auto finished = run({arguments});
    CHECK(finished.status == 2);
    CHECK(finished.out.empty());
    CHECK(finished.log.find(arguments.front()) != std::string::npos);
    CHECK(finished.log.rfind("echo-server: ", 0) == 0);
  }
  const auto variable = run({{}, {"ECHO_SERVER_PORT=http"}});
  CHECK(variable.status == 2);
  CHECK(variable.log.find("ECHO_SERVER_PORT 'http': must be 0 to 65535") != std::string::npos);
}

TEST_CASE("what a user typed is shown escaped, on one line", "[program]") {
  const std::string evil = "a\nb\033[31m\"c\xff";
  const std::string harmless = R"(a\nb\x1b[31m\"c\xff)";
  const auto host = run({{"--host", evil, "--log-level", "debug"}});
  CHECK(host.status == 1);
  CHECK(host.log.find("starting up on host " + harmless + ", port 10000\n") != std::string::npos);
  CHECK(host.log.find("cannot resolve '" + harmless + "': ") != std::string::npos);
  CHECK(test::count_of(host.log, "\n") == 2);
  for (const test::Setup& setup :
       {test::Setup{{"--port", evil}}, test::Setup{{"--" + evil}}, test::Setup{{evil}},
        test::Setup{{}, {"ECHO_SERVER_LOG_LEVEL=" + evil}}}) {
    const auto usage = run(setup);
    CHECK(usage.status == 2);
    CHECK(usage.log.find(harmless) != std::string::npos);
    CHECK(test::count_of(usage.log, "\n") == 2);
  }
}

TEST_CASE("interrupted calls are neither an error nor the end of a wait at the start",
          "[program]") {
  if (test::skip_without_strace())
    return;
  // As a stop and a continue, or a tracer, interrupt them.
  for (const std::string calls : {"poll,ppoll", "write", "rt_sigtimedwait"}) {
    CAPTURE(calls);
    Program program(test::with_faults(calls + ":error=EINTR:when=1..3"));
    CHECK(Client(program.port()).exchange("hello") == "hello");
    CHECK(program.log().wait_for("connection accepted from"));
    CHECK(program.log().text().find("[error]") == std::string::npos);
    program.signal(SIGTERM);
    CHECK(program.wait() == 0);
    CHECK(program.out().text().find("Listening on 127.0.0.1:") == 0);
    CHECK(program.log().text().find("] stopped: ") != std::string::npos);
  }
}

TEST_CASE("a stop and a continue end no wait", "[program]") {
  Program program(on_loopback({"--drain-timeout", "1h", "-c", "4k"}));
  Client deaf(program.port());
  deaf.send_until_blocked(test::pattern(64 << 20));
  const auto pause = [&] {
    program.signal(SIGSTOP);
    REQUIRE(test::eventually([&] { return program.is_stopped(); }));
    program.signal(SIGCONT);
    REQUIRE(test::eventually([&] { return !program.is_stopped(); }));
  };
  pause();
  Client client(program.port());
  CHECK(client.exchange("hello") == "hello");
  program.signal(SIGTERM);
  CHECK(client.receive_all().empty());
  pause();
  program.signal(SIGUSR1);
  CHECK(program.log().wait_for("1 connection open, 2 connections served"));
  CHECK(program.running());
  deaf.reset();
  CHECK(program.wait() == 0);
}

TEST_CASE("a server that cannot start says why in one line, with status 1", "[program]") {
  Program first(on_loopback());
  const std::string port = std::to_string(first.port());
  const auto in_use = run({{"--host", "127.0.0.1", "--port", port}});
  CHECK(in_use.status == 1);
  CHECK(in_use.out.empty());
  CHECK(in_use.log ==
        "echo-server: cannot listen on 127.0.0.1:" + port + ": Address already in use\n");

  const auto unknown = run({{"--host", "no.such.host.invalid", "--port", "0"}});
  CHECK(unknown.status == 1);
  CHECK(unknown.log.rfind("echo-server: cannot resolve 'no.such.host.invalid': ", 0) == 0);
  CHECK(test::count_of(unknown.log, "\n") == 1);

  const auto elsewhere = run({{"--host", "192.0.2.1", "--port", "0"}});
  CHECK(elsewhere.status == 1);
  CHECK(elsewhere.log ==
        "echo-server: cannot listen on 192.0.2.1:0: Cannot assign requested address\n");
}

TEST_CASE("every option can come from the environment", "[program]") {
  Program program(
      test::Setup{{},
                  {"ECHO_SERVER_HOST=127.0.0.1", "ECHO_SERVER_PORT=0", "ECHO_SERVER_CHUNK_SIZE=3",
                   "ECHO_SERVER_MAX_CONNECTIONS=7", "ECHO_SERVER_LOG_LEVEL=debug"}});
  Client client(program.port());
  CHECK(client.exchange("hello") == "hello");
  CHECK(program.log().wait_for("received 3 bytes from " + client.address() + ": \"hel\""));
  CHECK(program.log().wait_for("at most 7 connections"));
}

TEST_CASE("the address that a name stands for is in the log", "[program]") {
  Program program({"--host", "localhost", "--port", "0"});
  const std::string port = std::to_string(program.port());
  CHECK(program.log().wait_for("serving on "));
  CHECK(matches(program.log().text(), "serving on (127\\.0\\.0\\.1|\\[::1\\]):" + port + ": "));
}

TEST_CASE("the log tells each step at its level", "[program]") {
  Program program(on_loopback({"-v"}));
  Client client(program.port());
  REQUIRE(client.exchange("hello") == "hello");
  client.half_close();
  REQUIRE(client.receive_all().empty());
  program.signal(SIGINT);
  REQUIRE(program.wait() == 0);
  const std::string log = program.log().text();
  const std::string peer = client.address();
  CHECK(matches(log, "\\[debug\\] starting up on host 127.0.0.1, port 0\n"));
  CHECK(matches(log,
                "\\[info\\] serving on 127.0.0.1:\\d+: chunk size 16 bytes, at most 1024 "
                "connections; Ctrl\\+C stops\n"));
  CHECK(matches(log, "\\[debug\\] waiting for a connection\n"));
  CHECK(matches(log, "\\[info\\] connection accepted from " + peer + " \\(1 open\\)\n"));
  CHECK(matches(log, "\\[debug\\] received 5 bytes from " + peer + ": \"hello\"\n"));
  CHECK(matches(log, "\\[debug\\] sending data back to " + peer + ": 5 bytes\n"));
  CHECK(matches(log, "\\[info\\] no more data from " + peer +
                         " \\(5 bytes echoed in \\d+\\.\\d+ s, round trip \\d+\\.\\d+ ms, "
                         "0 retransmissions, maximum segment size \\d+\\)\n"));
  CHECK(matches(log,
                "\\[info\\] stopping on SIGINT: 0 connections open, 1 connection served, 5 bytes "
                "echoed, up \\d+\\.\\d+ s; 5 s to finish, a second Ctrl\\+C ends it now\n"));
  CHECK(matches(log,
                "\\[info\\] stopped: 0 connections open, 1 connection served, 5 bytes echoed, up "
                "\\d+\\.\\d+ s\n$"));
  CHECK(log.find('\033') == std::string::npos);
}

TEST_CASE("a level holds back what is below it", "[program]") {
  for (const auto& [level, info, warning] :
       {std::tuple("info", true, true), std::tuple("warn", false, true),
        std::tuple("error", false, false), std::tuple("off", false, false)}) {
    CAPTURE(level);
    Program program(on_loopback({"--log-level", level}));
    Client client(program.port());
    REQUIRE(client.exchange("hello") == "hello");
    client.reset();
    Client next(program.port());
    REQUIRE(next.exchange("hello") == "hello");
    program.signal(SIGTERM);
    REQUIRE(program.wait() == 0);
    const std::string log = program.log().text();
    CHECK((log.find("accepted") != log.npos) == info);
    CHECK((log.find("failed, receive: Connection reset by peer (5 bytes") != log.npos) == warning);
    CHECK(log.find("received") == log.npos);
  }
}

TEST_CASE("of a large chunk the first 512 bytes are shown", "[program]") {
  Program program(on_loopback({"-v", "-c", "1M"}));
  Client client(program.port());
  const std::string shown(512, 'a');
  for (const std::string rest : {"", "b"}) {
    REQUIRE(client.exchange(shown + rest) == shown + rest);
    CHECK(program.log().wait_for("received " + std::to_string(512 + rest.size()) + " bytes from " +
                                 client.address() + ": \"" + shown +
                                 (rest.empty() ? "\"\n" : "\"...\n")));
  }
}

TEST_CASE("a client's bytes can neither forge a line nor steer the terminal", "[program]") {
  Program program(on_loopback({"-v", "-c", "4k"}));
  Client client(program.port());
  const std::string evil =
      "x\n[2026-01-01 00:00:00.000] [info] forged\r\033[2J\033]0;title\a\"\\ \x9b \xff \xc3"
      "\xe2\x80\xae turned \xe2\x80\x8b hidden \xef\xbb\xbf \xc2\x85 h\xc3\xa9llo";
  REQUIRE(client.exchange(evil) == evil);
  REQUIRE(program.log().wait_for("sending data back"));
  const std::string log = program.log().text();
  CHECK(log.find(": \"x\\n[2026-01-01 00:00:00.000] [info] "
                 "forged\\r\\x1b[2J\\x1b]0;title\\x07\\\"\\\\ \\x9b \\xff \\xc3"
                 "\\u202e turned \\u200b hidden \\ufeff \\x85 h\xc3\xa9llo\"\n") != log.npos);
  for (const char* raw : {"\033", "\r", "\a", "\x9b", "\xff", "\xe2\x80\xae", "\xe2\x80\x8b"})
    CHECK(log.find(raw) == log.npos);
}

TEST_CASE("netcat gets back what it sent", "[program]") {
  Program program(on_loopback());
  const auto finished =
      run(command("nc", {"-N", "127.0.0.1", std::to_string(program.port())}), "hello\n");
  CHECK(finished.status == 0);
  CHECK(finished.out == "hello\n");
}

TEST_CASE("10 MiB through netcat come back identical at any chunk size", "[program]") {
  const std::string data = test::pattern(10 << 20);
  for (const char* size : {"1", "16", "4096", "1M"}) {
    CAPTURE(size);
    Program program(on_loopback({"-c", size}));
    const auto finished =
        run(command("nc", {"-N", "127.0.0.1", std::to_string(program.port())}), data);
    CHECK((finished.out == data));
  }
}

TEST_CASE("a line typed in telnet comes back", "[program]") {
  Program program(on_loopback());
  Program telnet(command("telnet", {"127.0.0.1", std::to_string(program.port())}));
  REQUIRE(telnet.out().wait_for("Escape character"));
  telnet.write("hello from telnet\n");
  CHECK(telnet.out().wait_for("hello from telnet"));
}

TEST_CASE("an idle client gets the end of file when a signal stops the server", "[program]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    Program program(on_loopback({"--drain-timeout", "1h"}));
    Client client(program.port());
    REQUIRE(client.exchange("hello") == "hello");
    program.signal(signal);
    CHECK(client.receive_all().empty());
    CHECK(program.wait() == 0);
    CHECK(program.log().text().find("connection from " + client.address() +
                                    " closed by the stop (5 bytes echoed") != std::string::npos);
  }
}

TEST_CASE("a second signal ends the server as that signal does by default", "[program]") {
  for (const int second : {SIGINT, SIGTERM}) {
    Program program(on_loopback({"--drain-timeout", "1h", "-c", "4k"}));
    Client deaf(program.port());
    deaf.send_until_blocked(test::pattern(64 << 20));
    program.signal(SIGINT);
    REQUIRE(program.log().wait_for("stopping on SIGINT: 1 connection open, "));
    program.signal(SIGUSR1);
    CHECK(program.log().wait_for("1 connection open, 1 connection served"));
    program.signal(second);
    CHECK(program.wait() == -second);
  }
}

TEST_CASE("the stop signals work when they were inherited ignored or blocked", "[program]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    test::Setup ignored = on_loopback();
    ignored.prefix = {"sh", "-c", "trap '' INT TERM; exec \"$0\" \"$@\""};
    Program first(ignored);
    first.port();
    first.signal(signal);
    CHECK(first.wait() == 0);

    test::Setup blocked = on_loopback();
    blocked.prefix = {"env", "--block-signal=INT,TERM,USR1"};
    Program second(blocked);
    second.port();
    second.signal(signal);
    CHECK(second.wait() == 0);
  }
}

TEST_CASE("process 1 of a container is stopped by one signal, ended by two, and leaves no zombie",
          "[program]") {
  test::Setup setup = on_loopback({"--drain-timeout", "1h", "-c", "4k"});
  setup.prefix = {"unshare", "--fork", "--pid", "--mount-proc"};
  if (run(command("unshare", {"--fork", "--pid", "--mount-proc", "true"})).status != 0) {
    std::cout << "skipped: no process namespaces here" << std::endl;
    return;
  }
  Program once(setup);
  once.port();
  // A shell that leaves its child to process 1 of the namespace.
  const std::string server = std::to_string(once.server_pid());
  CHECK(run(command("nsenter", {"--target", server, "--pid", "sh", "-c",
                                "sleep 1 </dev/null >/dev/null 2>&1 &"}))
            .status == 0);
  const auto has_children = [&] {
    std::ifstream children("/proc/" + server + "/task/" + server + "/children");
    return children >> std::ws && !children.eof();
  };
  CHECK(has_children());
  CHECK(test::eventually([&] { return !has_children(); }));
  once.signal(SIGTERM);
  CHECK(once.wait() == 0);

  // An end at once joins no thread; for ThreadSanitizer that is a leak.
  setup.environment = {"TSAN_OPTIONS=report_thread_leaks=0"};
  Program twice(setup);
  Client deaf(twice.port());
  deaf.send_until_blocked(test::pattern(64 << 20));
  twice.signal(SIGTERM);
  REQUIRE(twice.log().wait_for("stopping on SIGTERM"));
  twice.signal(SIGTERM);
  CHECK(twice.wait() == 128 + SIGTERM);
}

TEST_CASE("a hang-up keeps the effect that it was given", "[program]") {
  test::Setup default_action = on_loopback();
  default_action.prefix = {"env", "--default-signal=HUP"};
  Program by_default(default_action);
  by_default.port();
  by_default.signal(SIGHUP);
  CHECK(by_default.wait() == -SIGHUP);

  test::Setup ignored = on_loopback();
  ignored.prefix = {"sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""};
  Program under_nohup(ignored);
  under_nohup.port();
  under_nohup.signal(SIGHUP);
  under_nohup.signal(SIGTERM);
  CHECK(under_nohup.wait() == 0);
}

TEST_CASE("SIGUSR1 logs the totals at every level but off", "[program]") {
  for (const char* level : {"trace", "info", "error"}) {
    Program program(on_loopback({"--log-level", level}));
    Client client(program.port());
    REQUIRE(client.exchange("hello") == "hello");
    REQUIRE(client.exchange("x") == "x");  // Now the first five are counted, if not yet the sixth.
    program.signal(SIGUSR1);
    REQUIRE(program.log().wait_for(" bytes echoed, up "));
    CHECK(matches(program.log().text(),
                  "1 connection open, 1 connection served, [56] bytes echoed, up \\d"));
  }
  Program off(on_loopback({"--log-level", "off"}));
  off.port();
  off.signal(SIGUSR1);
  off.signal(SIGTERM);
  CHECK(off.wait() == 0);
  CHECK(off.log().text().empty());
}

TEST_CASE("a restart on the same port works at once", "[program]") {
  std::string port = "0";
  for (int round = 0; round < 5; ++round) {
    Program program({"--host", "127.0.0.1", "--port", port});
    port = std::to_string(program.port());
    Client client(program.port());
    REQUIRE(client.exchange("hello") == "hello");
    program.signal(SIGTERM);
    CHECK(client.receive_all().empty());
    CHECK(program.wait() == 0);
  }
}

TEST_CASE("a log that nobody reads delays neither an echo nor the stop", "[program]") {
  const Pipe pipe = open_pipe();
  const Terminal terminal = open_terminal();
  const Terminal stopped = open_terminal();
  REQUIRE(::tcflow(stopped.theirs.get(), TCOOFF) == 0);
  const echo::UniqueFd full_disk = open_full_disk();
  for (const int fd :
       {pipe.write_end.get(), terminal.theirs.get(), stopped.theirs.get(), full_disk.get(), -1}) {
    CAPTURE(fd);
    test::Setup setup = on_loopback({"-v"});
    setup.stderr_fd = fd;
    Program program(setup);
    flood(program.port());
    Client client(program.port());
    for (int i = 0; i < 100; ++i)
      REQUIRE(client.exchange("hello") == "hello");
    program.signal(SIGINT);
    CHECK(client.receive_all().empty());
    CHECK(program.wait() == 0);
    CHECK((fd == -1 || (::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0));
  }
}

TEST_CASE("nor does a log to a terminal that is another user's", "[program]") {
  const Terminal terminal = open_terminal();
  const std::string name = ::ttyname(terminal.theirs.get());
  REQUIRE(::fchmod(terminal.theirs.get(), 0600) == 0);
  test::Setup setup = on_loopback({"-v"});
  // The first terminal that the leader of a session opens becomes that of the session.
  setup.prefix = {"setsid", "sh", "-c",
                  "exec 2<>" + name + "; exec setpriv --reuid=65534 --clear-groups \"$0\" \"$@\""};
  test::Setup version = setup;
  version.arguments = {"--version"};
  if (run(version).status != 0) {
    std::cout << "skipped: the program cannot be run as another user here" << std::endl;
    return;
  }
  Program program(setup);
  flood(program.port());
  CHECK(Client(program.port()).exchange("hello") == "hello");
  program.signal(SIGINT);
  CHECK(program.wait() == 0);
}

TEST_CASE("of a log that nobody reads whole lines are dropped, and counted by the next that fits",
          "[program]") {
  Pipe pipe = open_pipe();
  const int capacity = ::fcntl(pipe.write_end.get(), F_GETPIPE_SZ);
  test::Setup setup = on_loopback({"-v"});
  setup.stderr_fd = pipe.write_end.get();
  Program program(setup);
  flood(program.port());
  CHECK(::fcntl(pipe.write_end.get(), F_GETPIPE_SZ) == capacity);  // It belongs to others, too.

  std::string log = read_some(pipe.read_end.get());
  CHECK(log.back() == '\n');
  Client client(program.port());
  REQUIRE(client.exchange("the next") == "the next");
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
  pipe.write_end = {};
  for (std::string part = read_some(pipe.read_end.get()); !part.empty();
       part = read_some(pipe.read_end.get()))
    log += part;
  CHECK(matches(log, "\n\\[\\d+ lines dropped here: nobody read them\\]\n\\["));
  CHECK(test::count_of(log, "dropped here") == 1);
  CHECK(test::count_of(log, "received 8 bytes from " + client.address() + ": \"the next\"\n") == 1);
  // Each line is whole: it begins with a time or a count, and the last one is there.
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    CHECK((line.rfind("[20", 0) == 0 || line.find(" dropped here: ") != line.npos));
  CHECK(matches(log, "stopped: 0 connections open, 2 connections served, .*\n$"));
}

TEST_CASE("a line that a terminal took in part is completed before the next one", "[program]") {
  const Terminal terminal = open_terminal();
  test::Setup setup = on_loopback({"-v"});
  setup.stderr_fd = terminal.theirs.get();
  setup.environment = {"NO_COLOR=1"};
  Program program(setup);
  flood(program.port());
  std::string log;
  Client client(program.port());
  for (int i = 0; i < 1000 && log.find(" dropped here") == log.npos; ++i) {
    REQUIRE(client.exchange("hello") == "hello");
    log += read_some(terminal.ours.get());
  }
  const auto dropped = log.find(" dropped here");
  REQUIRE(dropped != log.npos);
  std::istringstream lines(log.substr(0, dropped));
  for (std::string line; std::getline(lines, line);)
    CHECK(line.rfind("[", 0) == 0);
}

TEST_CASE("a log whose reader is gone does not end the server", "[program]") {
  Pipe pipe = open_pipe();
  test::Setup setup = on_loopback();
  setup.stderr_fd = pipe.write_end.get();
  Program program(setup);
  Client client(program.port());
  pipe.read_end = {};
  CHECK(client.exchange("hello") == "hello");
  CHECK(Client(program.port()).exchange("hello") == "hello");
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
}

TEST_CASE("the log can be a file, and holds every line then", "[program]") {
  const test::LogFile file;
  test::Setup setup = on_loopback();
  setup.stderr_fd = file.fd();
  Program program(setup);
  for (int i = 0; i < 100; ++i)
    CHECK(Client(program.port()).exchange("hello") == "hello");
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
  CHECK(test::count_of(file.text(), "connection accepted from") == 100);
  CHECK(file.text().find("stopped: 0 connections open, 100 connections served") !=
        std::string::npos);
}

TEST_CASE("a stdout that cannot be written is logged, and the server serves", "[program]") {
  const echo::UniqueFd full = open_full_disk();
  const Pipe pipe = open_full_pipe();
  for (const auto& [fd, words] :
       {std::pair(full.get(), "No space left on device"), std::pair(-1, "Bad file descriptor"),
        std::pair(pipe.write_end.get(), "Resource temporarily unavailable")}) {
    test::Setup setup = on_loopback();
    setup.stdout_fd = fd;
    Program program(setup);
    CHECK(program.log().wait_for("[error] cannot write to stdout: " + std::string(words)));
    REQUIRE(program.log().wait_for("serving on 127.0.0.1:"));
    const std::string log = program.log().text();
    Client client(
        static_cast<std::uint16_t>(std::stoi(log.substr(log.find("serving on 127.0.0.1:") + 21))));
    CHECK(client.exchange("hello") == "hello");
    program.signal(SIGTERM);
    CHECK(program.wait() == 0);
  }
}

TEST_CASE("what cannot be printed does not hold up the end", "[program]") {
  const Pipe pipe = open_full_pipe();
  test::Setup usage_error{{"--bogus"}};
  usage_error.stderr_fd = pipe.write_end.get();
  CHECK(Program(usage_error).wait() == 2);
  const echo::UniqueFd full = open_full_disk();
  test::Setup help{{"--help"}};
  help.stdout_fd = full.get();
  const auto finished = run(help);
  CHECK(finished.status == 1);
  CHECK(finished.log == "echo-server: cannot write to stdout: No space left on device\n");
}

TEST_CASE("the log is in colour on a terminal that knows colours, and nowhere else", "[program]") {
  for (const auto& [variables, coloured] :
       std::initializer_list<std::pair<std::vector<std::string>, bool>>{
           {{"TERM=xterm-256color", "NO_COLOR="}, true},
           {{"TERM=xterm-256color", "NO_COLOR=1"}, false},
           {{"TERM=dumb", "NO_COLOR="}, false},
           {{"TERM=", "NO_COLOR="}, false}}) {
    const Terminal terminal = open_terminal();
    test::Setup setup = on_loopback();
    setup.environment = variables;
    setup.stderr_fd = terminal.theirs.get();
    Program program(setup);
    program.port();
    std::string log;
    while (log.find('\n') == log.npos)
      log += read_some(terminal.ours.get());
    CAPTURE(variables, log);
    CHECK((log.find("\033[32minfo\033[0m") != log.npos) == coloured);
    CHECK((log.find('\033') != log.npos) == coloured);
  }
}
