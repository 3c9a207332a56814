#include "readme.hpp"

#include <signal.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <regex>
#include <sstream>

#include "catch.hpp"
#include "program.hpp"

namespace {

using test::Network;
using test::Program;
using namespace std::chrono_literals;

/// A script to be run in the project's directory, with this build's program.
test::Setup script_of(const std::string& script) {
  const std::string directory = std::filesystem::path(ECHO_SERVER_BINARY).parent_path();
  return test::command("bash",
                       {"-c", "cd " ECHO_SOURCE_DIR "; PATH=" + directory + ":$PATH\n" + script});
}

test::Setup script_in(const Network& network, const std::string& script) {
  test::Setup setup = script_of(script);
  setup.prefix = network.prefix();
  return setup;
}

/// What differs from run to run is the same afterwards: times, clients' ports, milliseconds.
std::string without_chance(const std::string& text) {
  std::string result = text;
  for (const auto& [pattern, replacement] :
       {std::pair(R"(\^C)", ""), std::pair(R"(\d+-\d+-\d+ \d+:\d+:\d+\.\d+)", "TIME"),
        std::pair(R"((127\.0\.0\.1):[3-6]\d{4})", "$1:PORT"), std::pair(R"(\d+\.\d+ s)", "TIME s"),
        std::pair(R"(\d+(\.\d+)? ms)", "TIME ms")})
    result = std::regex_replace(result, std::regex(pattern), replacement);
  return result;
}

/// A block with "$ " before what is typed, and below it what then is shown.
struct Session {
  std::string typed;
  std::string shown;
};

Session session_in(const test::Block& block) {
  Session session;
  std::istringstream lines(block.text);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind("$ ", 0) == 0)
      session.typed += line.substr(2) + "\n";
    else
      session.shown += line + "\n";
  return session;
}

/// A server as the README starts it, and what its terminal is said to show.
class Server {
 public:
  Server(const Network& network, const Session& session)
      : program_(script_in(network, "exec 2>&1; exec " + session.typed)), shown_(session.shown) {
    REQUIRE(program_.out().wait_for("Listening on"));
    if (shown_.find("waiting for a connection") != shown_.npos)
      REQUIRE(program_.out().wait_for("waiting for a connection"));
  }

  void stop_and_check() {
    program_.signal(SIGINT);
    CHECK(program_.wait() == 0);
    const std::string terminal = without_chance(program_.out().text());
    CAPTURE(terminal.substr(0, 4000));
    std::istringstream expected(without_chance(shown_));
    std::size_t at = 0;
    for (std::string line; std::getline(expected, line);) {
      if (line == "...")
        continue;
      CAPTURE(line);
      at = terminal.find(line + "\n", at);
      REQUIRE(at != terminal.npos);
    }
  }

 private:
  Program program_;
  std::string shown_;
};

}  // namespace

TEST_CASE("what is typed in the README gives what it shows", "[program]") {
  // Of its own, so that the README's ports are free.
  const Network network;
  if (network.skip())
    return;
  std::optional<Server> server;
  for (const test::Block& block : test::readme_blocks("console")) {
    const Session session = session_in(block);
    CAPTURE(session.typed);
    if (session.typed.rfind("echo-server", 0) == 0) {
      if (server)
        server->stop_and_check();
      server.emplace(network, session);
      continue;
    }
    const auto finished = test::run(script_in(network, session.typed), "", 60s);
    CHECK(finished.log.empty());
    CHECK(without_chance(finished.out) == without_chance(session.shown));
  }
  REQUIRE(server);
  server->stop_and_check();
}

TEST_CASE("the README's script starts a server, uses it and stops it", "[program]") {
  const auto scripts = test::readme_blocks("bash");
  REQUIRE(scripts.size() == 1);
  const std::string script = scripts.front().text;
  const auto finished = test::run(script_of(script));
  CHECK(finished.status == 0);
  CHECK(finished.out == "hello\n");
  CHECK(finished.log.find("stopped: 0 connections open, 1 connection served") != std::string::npos);

  // The line with the client, and another one in its place.
  const std::regex client(R"(^client\(\) .*)");
  REQUIRE(std::regex_search(script, client));
  const auto with = [&](const std::string& other) {
    return test::run(script_of(std::regex_replace(script, client, "client() { " + other + "; }")));
  };
  CHECK(with(R"(nc -N 127.0.0.1 "$$1" </dev/null | grep -x hello)").status == 1);
  const auto unmet = with("false");
  CHECK(unmet.status == 1);
  CHECK(unmet.log.find("stopped: 0 connections open, 0 connections served") != std::string::npos);
  const std::string reset = R"py(python3 -c "import socket, struct
with socket.create_connection(('127.0.0.1', $$1)) as client:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))")py";
  CHECK(with(reset).status == 3);

  const auto wrong = std::regex_replace(script, std::regex("--port 0"), "--port http");
  CHECK(test::run(script_of(wrong)).status == 2);
}

TEST_CASE("each place in the source that the README names is there", "[documents]") {
  const std::string readme = test::contents_of("README.md");
  const std::regex place(R"(`((?:\w+::)?~?\w+)` in \[([\w/]+\.[ch]pp)\]\(([\w/]+\.[ch]pp)\))");
  std::size_t places = 0;
  for (std::sregex_iterator at(readme.begin(), readme.end(), place), end; at != end; ++at) {
    CAPTURE(at->str());
    CHECK((*at)[2] == (*at)[3]);
    CHECK(std::regex_search(test::contents_of((*at)[2]), std::regex((*at)[1].str() + "\\b")));
    ++places;
  }
  CHECK(places >= 9);
}

TEST_CASE("the README shows the figures that were measured", "[documents]") {
  const std::string readme = test::contents_of("README.md");
  std::istringstream results(test::contents_of("tests/bench/results/results.md"));
  std::string line;
  while (std::getline(results, line) && line != "## Summary") {
  }
  std::size_t rows = 0;
  while (std::getline(results, line) && line.rfind("## ", 0) != 0)
    if (line.rfind("| ", 0) == 0) {
      CAPTURE(line);
      CHECK(readme.find(line + "\n") != readme.npos);
      ++rows;
    }
  CHECK(rows > 5);
}
