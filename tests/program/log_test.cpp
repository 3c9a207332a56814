// What the log says, how it looks, and that nothing waits for its reader.

#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <ios>
#include <regex>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

using namespace std::chrono_literals;

namespace {

/// Enough debug lines to fill any pipe or terminal that nobody reads.
void flood(std::uint16_t port) {
  Client client(port);
  const std::string data = pattern(100'000);
  REQUIRE(same_bytes(client.exchange(data), data));
}

}  // namespace

TEST_CASE("log reports each step at its level", "[log]") {
  Server server({"-v"});
  server.wait_for_log("waiting for a connection");  // Otherwise a client's lines may come first.
  Client client = served_client(server.port());
  REQUIRE(client.finish().empty());
  REQUIRE(server.stop(SIGINT) == 0);
  const std::string peer = client.address();
  const std::vector<std::string> steps = {
      R"(debug starting: host 127\.0\.0\.1, port 0)",
      R"(info serving on 127\.0\.0\.1:\d+ \(chunk size 16 bytes\))",
      R"(info at most 1024 connections)",
      R"(debug waiting for a connection)",
      R"(info connection accepted from )" + peer + R"( \(1 open\))",
      R"(debug waiting for a connection)",
      R"(debug received 5 bytes from )" + peer + R"(: "hello")",
      R"(debug sending data back to )" + peer + R"(: 5 bytes)",
      R"(info no more data from )" + peer +
          R"( \(5 bytes in \d+\.\d\d s, rtt \d+\.\d\d ms, mss [1-9]\d+\))",
      R"(info received SIGINT, stopping)",
      R"(info stopped: 1 connection served, 5 bytes echoed, uptime \d+\.\d+ s)"};
  std::istringstream lines(server.log());
  std::string line;
  for (const std::string& step : steps) {
    REQUIRE(std::getline(lines, line));
    REQUIRE_THAT(line,
                 Catch::Matchers::Matches(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} )" + step));
  }
  CHECK_FALSE(std::getline(lines, line));
  CHECK_THAT(server.log(), !contains("Ctrl+C"));  // Nobody can press Ctrl+C here.
}

TEST_CASE("connection whose client has seen end-of-file is not counted as open", "[log]") {
  Server server;
  for (int i = 0; i < 300; ++i)
    serve_one(server.port());
  CHECK(server.stop() == 0);
  CHECK(count_of(server.log(), " (1 open)\n") == 300);
}

TEST_CASE("log shows what the kernel measured for each connection", "[log]") {
  tcp_info known{};
  known.tcpi_rtt = 1230;  // Microseconds.
  known.tcpi_snd_mss = 1448;
  known.tcpi_total_retrans = 1;
  std::ostringstream bytes;
  for (const std::byte byte : std::as_bytes(std::span(&known, 1)))
    bytes << std::hex << std::setw(2) << std::setfill('0') << std::to_integer<int>(byte);
  Server server({}, with_faults("getsockopt:poke_exit=@arg4=" + bytes.str()));
  served_client(server.port()).close();
  server.wait_for_log(", rtt 1.23 ms, mss 1448, 1 retransmitted)\n");
}

TEST_CASE("log names each option for testing clients and its value", "[log]") {
  Server slow({"--delay", "100", "--only-first", "1"},
              {.environment = {"ECHO_SERVER_STALL_AFTER=1k"}});
  slow.wait_for_log("--delay 100 s, --stall-after 1024 bytes, --only-first 1 connection\n");
  Server plain({"--chunk-size", "7", "--close-after", "never", "--only-first", "all"});
  CHECK(plain.stop() == 0);
  CHECK_THAT(plain.log(), !contains("--"));
}

TEST_CASE("log level hides what is below it and only level off hides SIGUSR1 totals", "[log]") {
  const auto& [level, info, warning, totals] =
      GENERATE(table<std::string, std::size_t, std::size_t, bool>({{"info", 1, 1, true},
                                                                   {"Warning", 0, 1, true},
                                                                   {"error", 0, 0, true},
                                                                   {"off", 0, 0, false}}));
  CAPTURE(level);
  Server server({"--log-level", level});
  Client client = served_client(server.port());
  client.reset();
  server.signal(SIGUSR1);
  if (totals)
    server.wait_for_log("open, 1 connection served, ");
  REQUIRE(server.stop() == 0);
  const std::string log = server.log();
  CHECK(count_of(log, " info connection accepted from") == info);
  CHECK(count_of(log, "stopped: 1 connection served, 1 failed, 5 bytes") == info);
  CHECK(count_of(log, " warn connection from ") == warning);
  CHECK(count_of(log, "received 5") == 0);
  CHECK(log.empty() != totals);
}

TEST_CASE("large chunks are logged with only their first 512 bytes", "[log]") {
  Server server({"-v", "-c", "1M"});
  Client client(server.port());
  const std::string shown(512, 'a');
  for (const std::string rest : {"", "b"}) {
    REQUIRE(client.exchange(shown + rest) == shown + rest);
    server.wait_for_log("received " + std::to_string(512 + rest.size()) + " bytes from " +
                        client.address() + ": \"" + shown + (rest.empty() ? "\"\n" : "\"...\n"));
  }
}

TEST_CASE("escape sequences from clients cannot forge lines or control the terminal", "[log]") {
  Server server({"-v", "-c", "4k"}, {.environment = {"LC_ALL=C"}});
  Client client(server.port());
  const std::string evil =
      "x\n2026-01-01 00:00:00.000 info forged\r\033[2J\033]0;title\a\"\\ \x9b \xff \xc3"
      "\xe2\x80\xae turned \xe2\x80\x8b hidden \xef\xbb\xbf \xc2\x85 h\xc3\xa9llo";
  REQUIRE(client.exchange(evil) == evil);
  server.wait_for_log("sending data back");
  CHECK_THAT(server.log(),
             contains(": \"x\\n2026-01-01 00:00:00.000 info "
                      "forged\\r\\x1b[2J\\x1b]0;title\\x07\\\"\\\\ \\x9b \\xff \\xc3"
                      "\\u202e turned \\u200b hidden \\ufeff \\x85 h\xc3\xa9llo\"\n"));
}

TEST_CASE("waiting for a connection is logged whenever there is room for one", "[log]") {
  const std::string waiting = "waiting for a connection\n";
  Server server({"-v", "--max-connections", "2"});
  server.wait_for_log(waiting);
  Client first(server.port());
  server.wait_for_clients();
  server.wait_for_log(waiting, 2);
  Client second(server.port());
  server.wait_for_clients(2);
  CHECK(second.exchange("full") == "full");
  CHECK(count_of(server.log(), waiting) == 2);
  second.close();
  server.wait_for_log(waiting, 3);
  first.close();
  server.wait_for_log("no more data from", 2);
  CHECK(count_of(server.log(), waiting) == 3);
}

TEST_CASE("log on a terminal shows the time of day and most lines fit in 80 columns", "[log]") {
  const Terminal terminal;
  const Setup setup{.environment = {"NO_COLOR=1"}, .err = terminal.theirs.get()};
  std::string log;
  const auto serve = [&](const Server& server, std::size_t size, const std::string& end,
                         void (*finish)(Client&)) {
    Client client(server.port());
    const std::string data(size, 'x');
    CHECK(client.exchange(data) == data);
    finish(client);
    log += terminal.read_until(end);
  };
  const auto half_close = [](Client& client) { client.half_close(); };
  const std::string end = " s\r\n";  // The end of the totals.
  Server plain({"-v"}, setup);
  serve(plain, 16, "no more data from", half_close);
  plain.signal(SIGINT);
  log += terminal.read_until(end);

  Server other({"--idle-timeout", "300ms", "--close-after", "1k", "--only-first", "1"}, setup);
  serve(other, 1024, "closed by --close-after (", half_close);
  serve(other, 16, "Connection reset by peer (", [](Client& client) { client.reset(); });
  serve(other, 16, "timed out (", [](Client&) {});
  const Client open = served_client(other.port());
  other.signal(SIGINT);
  log += terminal.read_until(end);
  CHECK_THAT(log, contains("Ctrl+C"));
  const std::regex usual(
      "serving on |at most|press Ctrl\\+C to|accepted|received 16|sending|stopping\r|served, \\d+ "
      "b");
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    CHECK_THAT(line, Catch::Matchers::Matches(R"(\d\d:\d\d:\d\d\.\d{3} [a-z]+ .*\r)"));
    // A carriage return ends the line. The kernel's words and the options do not count.
    const std::size_t not_ours = 1 + (count_of(line, "reset by peer") > 0 ? 24 : 0);
    if (count_of(line, "--only-first") == 0)
      CHECK(line.size() - not_ours <= (std::regex_search(line, usual)            ? 80
                                       : count_of(line, "no more data from") > 0 ? 101
                                                                                 : 120));
  }
}

TEST_CASE("journal lines start with a priority instead of a time", "[log]") {
  const bool is_journal = GENERATE(true, false);
  Output file;
  struct stat status {};
  REQUIRE(::fstat(file.fd(), &status) == 0);
  const std::string variable = "JOURNAL_STREAM=" + std::to_string(status.st_dev) + ':' +
                               std::to_string(status.st_ino + (is_journal ? 0 : 1));
  Server server({"-v"}, {.environment = {variable}, .err = file.fd()});
  served_client(server.port()).reset();
  REQUIRE(eventually([&] { return count_of(file.text(), "reset by peer") > 0; }));
  server.set_limit(RLIMIT_NOFILE, server.open_descriptors());
  const Client waiting(server.port());
  std::vector<Client> more;
  for (int i = 0; i < 12; ++i)
    more.emplace_back(server.port());
  REQUIRE(eventually([&] { return count_of(file.text(), "cannot accept") > 0; }));
  CHECK(server.stop() == 0);
  std::istringstream lines(file.text());
  for (std::string line; std::getline(lines, line);)
    CHECK_THAT(line, Catch::Matchers::Matches(is_journal ? "<[3467]>[a-z].*" : "20\\d\\d-.*"));
  for (const std::string text : {"<7>.*received 5 bytes", "<6>.*connection accepted",
                                 "<4>.*connection from .* failed: ", "<3>.*cannot accept"})
    CHECK(std::regex_search(file.text(), std::regex(text)) == is_journal);
}

TEST_CASE("unread or unwritable log delays neither an echo nor a shutdown", "[log]") {
  const Pipe pipe;
  Pipe broken;
  broken.read_end = {};
  const Terminal terminal;
  const Terminal stopped;
  REQUIRE(::tcflow(stopped.theirs.get(), TCOOFF) == 0);
  const echo::UniqueFd full_disk(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  for (const int fd : {pipe.write_end.get(), broken.write_end.get(), terminal.theirs.get(),
                       stopped.theirs.get(), full_disk.get(), closed}) {
    CAPTURE(fd);
    Server server({"-v"}, {.err = fd});
    flood(server.port());
    Client client(server.port());
    for (int i = 0; i < 100; ++i)
      REQUIRE(client.exchange("hello") == "hello");
    server.signal(SIGINT);
    CHECK(client.receive_all().empty());
    CHECK(is_free(server.port()));
    CHECK(server.wait() == 0);
    CHECK((fd == closed || (::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0));
  }
}

TEST_CASE("log blocked by another user's terminal delays neither echo nor shutdown", "[log]") {
  // The terminal can be opened again only if it is that of the session.
  const bool is_of_session = GENERATE(true, false);
  const Terminal terminal;
  const std::string name = ::ttyname(terminal.theirs.get());
  REQUIRE(::fchmod(terminal.theirs.get(), 0600) == 0);
  const std::string open = is_of_session ? "exec 2<>" + name + "; " : "";
  const Setup setup{.prefix = {"setsid", "sh", "-c",
                               open + "exec setpriv --reuid=65534 --clear-groups \"$0\" \"$@\""},
                    .err = terminal.theirs.get()};
  if (run_server({"--version"}, setup).status != 0)
    skip("the program cannot be run as another user here");
  Server server({"-v"}, setup);
  Client client = served_client(server.port());
  flood(server.port());
  CHECK(client.exchange("hello") == "hello");
  server.signal(SIGTERM);
  CHECK(client.receive_all().empty());
  CHECK(is_free(server.port()));
  CHECK(server.wait() == 0);
}

TEST_CASE("log file that reaches its size limit stops the log and nothing else", "[log]") {
  Server server({"-v"}, with_limit("fsize=1024"));
  flood(server.port());
  CHECK(server.log().size() == 1024);
  CHECK(Client(server.port()).exchange("hello") == "hello");
  CHECK(server.stop() == 0);
}

TEST_CASE("background job serves and stops even if its terminal has tostop set", "[log]") {
  const Terminal terminal;
  const std::string name = ::ttyname(terminal.theirs.get());
  termios settings{};
  REQUIRE(::tcgetattr(terminal.theirs.get(), &settings) == 0);
  settings.c_lflag |= TOSTOP;
  REQUIRE(::tcsetattr(terminal.theirs.get(), TCSANOW, &settings) == 0);
  // With job control (-m), a job in the background is a process group of its own.
  Process shell({"setsid", "sh", "-c",
                 "exec 2<>" + name +
                     "; set -m; \"$0\" --host 127.0.0.1 -p 0 -v & "
                     "wait $!; echo status $?",
                 server_binary()});
  shell.wait_for_out("\n");
  const auto port = std::stoi(shell.out().substr(shell.out().rfind(':') + 1));
  CHECK(Client(static_cast<std::uint16_t>(port)).exchange("hello") == "hello");
  ::kill(shell.pid(), SIGTERM);  // This is the job, since pid() tells the child.
  shell.wait_for_out("status 0\n");
}

TEST_CASE("dropped log lines are whole lines and the next line says how many", "[log]") {
  Pipe pipe;
  const int capacity = ::fcntl(pipe.write_end.get(), F_GETPIPE_SZ);
  Server server({"-v"}, {.err = pipe.write_end.get()});
  flood(server.port());
  // The pipe belongs to others, too.
  CHECK(::fcntl(pipe.write_end.get(), F_GETPIPE_SZ) == capacity);

  std::string log = read_some(pipe.read_end);
  CHECK(log.back() == '\n');
  Client client(server.port());
  REQUIRE(client.exchange("the next") == "the next");
  CHECK(server.stop() == 0);
  pipe.write_end = {};
  for (std::string part = read_some(pipe.read_end); !part.empty(); part = read_some(pipe.read_end))
    log += part;
  CHECK(std::regex_search(log, std::regex("\n[^\n]*\\d+ lines dropped here[^\n]*\n20")));
  CHECK(count_of(log, "dropped here") == 1);
  CHECK(count_of(log, "received 8 bytes from " + client.address() + ": \"the next\"\n") == 1);
  // Each line is whole: it begins with a time or a count, and the last one is there.
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    CHECK((line.starts_with("20") || line.find(" dropped here") != line.npos));
  CHECK(std::regex_search(log, std::regex("stopped: 2 connections served, .*\n$")));
}

TEST_CASE("partial lines on a terminal are completed before the next line", "[log]") {
  const Terminal terminal;
  Server server({"-v"}, {.environment = {"NO_COLOR=1"}, .err = terminal.theirs.get()});
  flood(server.port());
  std::string log;
  Client client(server.port());
  for (int i = 0; i < 1000 && log.find(" dropped here") == log.npos; ++i) {
    REQUIRE(client.exchange("hello") == "hello");
    log += read_some(terminal.ours);
  }
  const auto dropped = log.find(" dropped here");
  REQUIRE(dropped != log.npos);
  std::istringstream lines(log.substr(0, dropped));
  for (std::string line; std::getline(lines, line);)
    CHECK(std::regex_search(line, std::regex("^\\d\\d:\\d\\d:|lines$")));
}

TEST_CASE("colour is used only on a terminal that supports it", "[log]") {
  const auto& [variables, is_coloured] =
      GENERATE(table<Words, bool>({{{"TERM=xterm-256color", "NO_COLOR="}, true},
                                   {{"TERM=xterm-256color", "NO_COLOR=1"}, false},
                                   {{"TERM=dumb", "NO_COLOR="}, false},
                                   {{"TERM=", "NO_COLOR="}, false}}));
  const Terminal terminal;
  Server server({}, {.environment = variables, .err = terminal.theirs.get()});
  const std::string log = terminal.read_until("\n");
  CAPTURE(variables, log);
  CHECK((count_of(log, "\033[32minfo\033[0m ") > 0) == is_coloured);
  CHECK((count_of(log, "\033") > 0) == is_coloured);
}

}  // namespace test
