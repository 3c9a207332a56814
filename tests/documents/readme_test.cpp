// What is typed in the README gives what it shows.

#include <signal.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"

namespace {

using test::contains;
using test::contents_of;
using test::Network;
using test::Process;
using namespace std::chrono_literals;

/// The fenced blocks of a language, in their order; at least one.
std::vector<std::string> readme_blocks(const std::string& language) {
  std::vector<std::string> blocks;
  std::istringstream readme(contents_of("README.md"));
  for (std::string line; std::getline(readme, line);) {
    if (!line.starts_with("```"))
      continue;
    const bool is_wanted = line == "```" + language;
    std::string block;
    while (std::getline(readme, line) && line != "```")
      block += line + "\n";
    if (is_wanted)
      blocks.push_back(block);
  }
  REQUIRE_FALSE(blocks.empty());
  return blocks;
}

/// A command that runs a script in the project's directory, with this build's program.
test::Words in_project(const std::string& script) {
  const std::string directory = std::filesystem::path(ECHO_SERVER_BINARY).parent_path();
  return {"bash", "-c", "cd " ECHO_SOURCE_DIR "; PATH=" + directory + ":$PATH\n" + script};
}

test::Finished run_script(const std::string& script, const test::Setup& setup = {},
                          test::Place place = test::Place::here()) {
  test::Words command = in_project(script);
  command.erase(command.begin());
  return test::run("bash", command, "", setup, 60s, place);
}

/// The same after each run.
std::string without_times(const std::string& text) {
  return std::regex_replace(text, std::regex(R"(\d+\.\d+ ms)"), "TIME ms");
}

/// A block with "$ " before what is typed, and below it what then is shown.
struct Session {
  std::string typed;
  std::string shown;
};

Session session_in(const std::string& block) {
  Session session;
  std::istringstream lines(block);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("$ "))
      session.typed += line.substr(2) + "\n";
    else
      session.shown += line + "\n";
  return session;
}

}  // namespace

TEST_CASE("what is typed in the README gives what it shows", "[readme][slow]") {
  for (const char* program : {"python3", "nc"})
    test::need_program(program);
  const Network network;  // Of its own, so that the README's ports are free.
  std::optional<Process> server;
  std::string shown_by_server;
  const auto stop_server = [&] {
    server->signal(SIGINT);
    CHECK(server->wait() == 0);
    CHECK_THAT(server->out(), contains(shown_by_server));
  };
  for (const std::string& block : readme_blocks("console")) {
    const Session session = session_in(block);
    CAPTURE(session.typed);
    if (!session.typed.starts_with("echo-server")) {
      const auto finished = run_script(session.typed, network.setup());
      CHECK(finished.err.empty());
      CHECK(without_times(finished.out) == without_times(session.shown));
      continue;
    }
    if (server)
      stop_server();
    server.emplace(in_project("exec 2>&1; exec " + session.typed), network.setup());
    server->wait_for_out("; Ctrl+C stops\n");
    shown_by_server = session.shown;
  }
  REQUIRE(server);
  stop_server();
}

TEST_CASE("the README's script starts a server, uses it and stops it", "[readme]") {
  test::need_program("nc");
  const auto scripts = readme_blocks("bash");
  REQUIRE(scripts.size() == 1);
  const std::string& script = scripts.front();
  const auto finished = run_script(script);
  CHECK(finished.status == 0);
  CHECK(finished.out == "hello\n");
  CHECK_THAT(finished.err, contains("stopped: 1 connection served, 6 bytes echoed"));

  // The line with the client, and another one in its place.
  const std::regex client(R"(^client\(\) .*)");
  REQUIRE(std::regex_search(script, client));
  const auto with = [&](const std::string& other) {
    return run_script(std::regex_replace(script, client, "client() { " + other + "; }"));
  };
  CHECK(with(R"(nc -N 127.0.0.1 "$$1" </dev/null | grep -x hello)").status == 1);
  const auto unmet = with("false");
  CHECK(unmet.status == 1);
  CHECK_THAT(unmet.err, contains("stopped: 0 connections served"));
  const std::string reset = R"py(python3 -c "import socket, struct
with socket.create_connection(('127.0.0.1', $$1)) as client:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))")py";
  CHECK(with(reset).status == 3);

  const auto wrong = std::regex_replace(script, std::regex("--port 0"), "--port http");
  CHECK(run_script(wrong).status == 2);
}

TEST_CASE("the README's pytest passes", "[readme]") {
  // Debian's package is for Debian's own python3.
  const std::string python =
      run_script("python3 -c 'import pytest'").status == 0 ? "python3" : "/usr/bin/python3";
  if (run_script(python + " -c 'import pytest'").status != 0)
    test::skip("pytest is not installed");
  std::string script = "directory=$(mktemp -d); trap 'rm -r $directory' EXIT\n";
  for (const std::string& block : readme_blocks("python"))
    script += "cat >>$directory/test_readme.py <<'END'\n" + block + "END\n";
  const auto finished =
      run_script(script + python + " -m pytest -p no:cacheprovider $directory/test_readme.py");
  CHECK(finished.status == 0);
  CHECK_THAT(finished.out, contains(" passed"));
}

TEST_CASE("each file that the README links to is there, and has what it names", "[readme]") {
  const std::string readme = contents_of("README.md");
  const std::regex link(R"((?:`((?:\w+::)?~?\w+)` in )?\[[^\]]*\]\(([\w./-]+)(?:#[\w-]+)?\))");
  std::size_t names = 0;
  for (std::sregex_iterator at(readme.begin(), readme.end(), link), end; at != end; ++at) {
    CAPTURE(at->str());
    REQUIRE(std::filesystem::exists(ECHO_SOURCE_DIR "/" + (*at)[2].str()));
    if ((*at)[1].matched) {
      CHECK(std::regex_search(contents_of((*at)[2]), std::regex((*at)[1].str() + "\\b")));
      ++names;
    }
  }
  CHECK(names >= 9);
}

TEST_CASE("the README shows the figures that were measured", "[readme]") {
  const std::string results = contents_of("tests/bench/results/results.md");
  const auto begin = results.find("\n| ", results.find("\n## Summary\n"));
  REQUIRE(begin != results.npos);
  const std::string table = results.substr(begin, results.find("\n\n", begin) - begin);
  CHECK(test::count_of(table, "\n") > 5);
  CHECK_THAT(contents_of("README.md"), contains(table));
}
