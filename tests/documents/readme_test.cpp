// The commands in the Markdown files print what is shown there, and the links lead somewhere.

#include <signal.h>

#include <cctype>
#include <chrono>
#include <filesystem>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

using namespace std::chrono_literals;

namespace {

/// The fenced blocks of a language in their order. There is at least one.
std::vector<std::string> blocks_in(const std::string& file, const std::string& language) {
  std::vector<std::string> blocks;
  std::istringstream text(contents_of(file));
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with("```"))
      continue;
    const bool is_wanted = line == "```" + language;
    std::string block;
    while (std::getline(text, line) && line != "```")
      block += line + "\n";
    if (is_wanted)
      blocks.push_back(block);
  }
  REQUIRE_FALSE(blocks.empty());
  return blocks;
}

/// A command that runs a script in the project's directory, with the program under test.
Words in_project(const std::string& script) {
  const std::string directory = std::filesystem::path(server_binary()).parent_path();
  return {"bash", "-c", "cd " ECHO_SOURCE_DIR "; PATH=" + directory + ":$PATH\n" + script};
}

Finished run_script(const std::string& script, const Setup& setup = {},
                    Place place = Place::here()) {
  const Words command = in_project(script);
  return run("bash", {command.begin() + 1, command.end()}, "", setup, 60s, place);
}

/// Replaces what differs from run to run.
std::string without_times(const std::string& text) {
  return std::regex_replace(text, std::regex(R"(\d+\.\d+ ms)"), "TIME ms");
}

/// A block in which "$ " precedes what is typed, followed by the output.
struct ConsoleBlock {
  explicit ConsoleBlock(const std::string& block) {
    std::istringstream lines(block);
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("$ "))
        typed += line.substr(2) + "\n";
      else
        shown += line + "\n";
  }

  std::string typed;
  std::string shown;
};

/// The part after "#" of links to the headings of a Markdown file.
std::string anchors_of(const std::string& markdown) {
  std::string anchors = "\n";
  std::istringstream lines(markdown);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("#")) {
      for (const char c : line.substr(line.find(' ') + 1))
        if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == ' ')
          anchors += c == ' ' ? '-' : static_cast<char>(std::tolower(c));
      anchors += '\n';
    }
  return anchors;
}

}  // namespace

TEST_CASE("commands in the documents produce the output that is shown", "[readme][slow]") {
  for (const char* const program : {"python3", "nc", "ncat"})
    need_program(program);
  const std::string file = GENERATE("README.md", "src/README.md");
  const Network network;  // A network of its own, so that the documents' ports are free.
  std::optional<Process> server;
  std::string shown_by_server;
  const auto stop_server = [&] {
    server->signal(SIGINT);
    CHECK(server->wait() == 0);
    CHECK_THAT(server->out(), contains(shown_by_server));
  };
  for (const std::string& block : blocks_in(file, "console")) {
    const ConsoleBlock console(block);
    CAPTURE(console.typed);
    if (!console.typed.starts_with("echo-server")) {
      const auto finished = run_script(console.typed, network.setup());
      CHECK(finished.err.empty());
      CHECK(without_times(finished.out) == without_times(console.shown));
      continue;
    }
    if (server)
      stop_server();
    server.emplace(in_project("exec " + console.typed), network.setup());
    server->wait_for_out("Listening on ");
    shown_by_server = console.shown;
  }
  REQUIRE(server);
  stop_server();
}

TEST_CASE("CI script exits with a status that says what went wrong", "[readme]") {
  for (const char* const program : {"nc", "python3"})
    need_program(program);
  const std::string reset = R"py(python3 -c "import socket, struct
with socket.create_connection(('127.0.0.1', $1)) as client:
    client.sendall(b'x')
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))")py";
  const auto& [client, options, status, log] =
      GENERATE_COPY(table<std::string, std::string, int, std::string>(
          {{"echo hello | nc -N 127.0.0.1 $1 | grep -x hello", "", 0, "stopped: 1 connection"},
           {"nc -N 127.0.0.1 $1 </dev/null | grep -x hello", "", 1, "no more data"},
           {"false", "", 1, "stopped: 0 connections"},
           {reset, "-c 64k --delay 100ms", 3, "1 failed"},
           {"true", "--port http", 2, "--port 'http'"},
           {"true", "--host 240.0.0.1", 1, "cannot listen"}}));
  CAPTURE(client, options);
  const auto finished = run_script("timeout 20 tests/experiments/ci.sh \"$CLIENT\" " + options,
                                   {.environment = {"CLIENT=" + client}});
  CHECK(finished.status == status);
  CHECK_THAT(finished.err, contains(log));
}

TEST_CASE("Python test in the README passes", "[readme]") {
  // Debian's package of pytest is for Debian's own python3.
  const std::string python =
      run_script("python3 -c 'import pytest'").status == 0 ? "python3" : "/usr/bin/python3";
  if (run_script(python + " -c 'import pytest'").status != 0)
    skip("pytest is not installed");
  std::string script = "directory=$(mktemp -d); trap 'rm -r $directory' EXIT\n";
  for (const std::string& block : blocks_in("README.md", "python"))
    script += "cat >>$directory/test_readme.py <<'END'\n" + block + "END\n";
  const auto finished =
      run_script(script + python + " -m pytest -p no:cacheprovider $directory/test_readme.py");
  CHECK(finished.status == 0);
  CHECK_THAT(finished.out, contains(" passed"));
}

TEST_CASE("links in the documents lead to targets that exist", "[readme]") {
  const std::filesystem::path file =
      GENERATE("README.md", "src/README.md", "src/packaging/README.md", "tests/README.md",
               ".github/CONTRIBUTING.md", ".github/CHANGELOG.md", "tests/bench/results/results.md");
  const std::string text = contents_of(file);
  // A name in backquotes stands in the source.
  const std::regex link(R"(\[(?:`([\w:~]+)`|[^\]]*)\]\((?!https:)([^)#]*)#?([^)]*)\))");
  for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
    CAPTURE(file.string(), at->str());
    const auto path = (*at)[2].length() == 0 ? file : file.parent_path() / (*at)[2].str();
    const std::string name = (*at)[1];
    const std::string anchor = (*at)[3];
    CHECK(std::filesystem::exists(ECHO_SOURCE_DIR / path));
    if (!name.empty())
      CHECK(count_of(contents_of(path), name + '(') + count_of(contents_of(path), ' ' + name) > 0);
    if (!anchor.empty())
      CHECK_THAT(anchors_of(contents_of(path)), contains('\n' + anchor + '\n'));
  }
}

TEST_CASE("README shows the figures that were measured", "[readme]") {
  const auto part = [](const std::string& file, const std::string& begin, const std::string& end) {
    const std::string text = contents_of(file);
    const auto from = text.find("\n| ", text.find(begin));
    REQUIRE(from != text.npos);
    return text.substr(from, text.find(end, from) - from);
  };
  const std::string table = part("tests/bench/results/results.md", "\n## Summary\n", "\n\n");
  CHECK(count_of(table, "\n") > 5);
  CHECK(part("README.md", "\n## Performance\n", "\n\n") == table);
}

}  // namespace test
