// Help, manual page, README and completions have the same options, with the same defaults.

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <utility>

#include "matchers.hpp"
#include "options_table.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {
namespace {

using Names = std::set<std::string>;

const std::string manual_page = "src/packaging/echo-server.1";

const std::string& help() {
  static const std::string text = run_server({"--help"}).out;
  return text;
}

/// What group 1 of `pattern` matches, each time that the pattern is found.
Names found_in(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  Names names;
  for (std::sregex_iterator at(text.begin(), text.end(), regex), end; at != end; ++at)
    names.insert((*at)[1]);
  return names;
}

/// Those of `names` that are not in `others`, for a failed check to show.
std::string listed(const std::string& what, const Names& names, const Names& others) {
  std::string text;
  for (const std::string& name : names)
    text += others.contains(name) ? "" : what + ": " + name + '\n';
  return text;
}

Comparison difference(const Names& actual, const Names& expected) {
  return {listed("missing", expected, actual) + listed("unexpected", actual, expected)};
}

/// The options of a document, written as "-p, --port PORT [10000, ECHO_SERVER_PORT]". Each match of
/// `entry` is one, with the first part as its group 1. What `value` finds from there to the next
/// option is the second part, in groups 1 and 2.
Names options_in(const std::string& text, const std::string& entry, const std::string& value) {
  Names names;
  const std::regex begin(entry);
  for (std::sregex_iterator at(text.begin(), text.end(), begin), end; at != end; ++at) {
    const auto next = std::next(at);
    const auto stop = next == end ? text.end() : text.begin() + next->position();
    const std::string body((*at)[0].second, stop);
    std::smatch found;
    const bool takes_value = std::regex_search(body, found, std::regex(value));
    names.insert((*at)[1].str() +
                 (takes_value ? " [" + found[1].str() + ", " + found[2].str() + "]" : ""));
  }
  return names;
}

Names options_of_help(const std::string& part = help()) {
  return options_in(part, R"(\n {2,6}((?:-\w, )?--[a-z-]+(?: [A-Z]+)?)(?= |\n))",
                    R"(\n +\[(\S+), (ECHO_SERVER_\w+)\])");
}

/// "--port [10000, ECHO_SERVER_PORT]"
Names without_forms(const Names& options) {
  Names names;
  for (const std::string& option : options)
    names.insert(
        std::regex_replace(option, std::regex("(-\\w, )?(--[a-z-]+)( [A-Z]+(?= ))?"), "$2"));
  return names;
}

/// The long and short names.
Names names_in_help() {
  Names names;
  for (const std::string& option : options_of_help())
    names.merge(found_in(option, "(--?[a-z][a-z-]*)"));
  return names;
}

/// All of the files below a directory of the project.
std::string contents_below(const std::string& directory) {
  std::string text;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(ECHO_SOURCE_DIR "/" + directory))
    if (entry.is_regular_file())
      text += read_file(entry.path());
  return text;
}

}  // namespace

TEST_CASE("help has two groups and lists every option with its default and variable",
          "[documents]") {
  Names expected;
  Names expected_faults;
  for (const Option& option : options_table()) {
    const std::string& value = option.default_value.typed;
    const std::string text =
        option.name + " [" + (value.empty() ? "none" : value) + ", " + option.variable() + "]";
    expected.insert(text);
    if (!option.fault.empty())
      expected_faults.insert(text);
  }
  INFO(
      "Each option that takes a value has a row in src/options.cpp and in "
      "tests/support/options_table.cpp.");
  const auto middle = help().find("\nTo test a client:\n");
  REQUIRE(middle != std::string::npos);
  CHECK(difference(without_forms(options_of_help(help().substr(middle))), expected_faults));
  expected.insert({"--help", "--verbose", "--version"});
  CHECK(difference(without_forms(options_of_help()), expected));
}

TEST_CASE("help fits in 80 columns and explains each kind of value only once", "[documents]") {
  CHECK(found_in(help(), "(.{81,})").empty());
  CHECK(count_of(help(), "\nTIME is ") == 1);
  CHECK(count_of(help(), "SIZE is\na ") == 1);
}

TEST_CASE("manual page lists every option with its default and variable", "[documents]") {
  // A flag is "Fl p" or "Fl -port" there.
  std::string manual = contents_of(manual_page);
  for (const auto& [from, to] :
       {std::pair("Fl (\\S)", "-$1"), std::pair(" , -", ", -"), std::pair("\\bAr ([A-Z]+)", "$1")})
    manual = std::regex_replace(manual, std::regex(from), to);
  INFO("The manual page is compared with --help.");
  CHECK(difference(options_in(manual, R"(\n\.It ((?:-\w, )?--[a-z-]+(?: [A-Z]+)?)(?=\n))",
                              R"(\n\.Pq default (\S+) , environment Ev (\S+))"),
                   options_of_help()));
  const std::string synopsis = manual.substr(0, manual.find("\n.Sh DESCRIPTION"));
  for (const std::string& option : options_of_help()) {
    CAPTURE(option);
    const Names forms = found_in(option, "(--?[a-z][a-z-]*)");
    CHECK(std::ranges::any_of(forms, [&](const std::string& form) {
      return std::regex_search(synopsis, std::regex("[ \n]" + form + "(?![a-z-])"));
    }));
  }
}

TEST_CASE("manual page contains every word of the help", "[documents]") {
  need_program("mandoc");
  const auto finished =
      run("mandoc", {"-T", "ascii", "-W", "warning", "-l", ECHO_SOURCE_DIR "/" + manual_page});
  CHECK(finished.status == 0);
  const std::string manual = std::regex_replace(finished.out, std::regex(".\b|-\\n +"), "");
  for (const std::string& word : found_in(help(), "\\b([a-z]{3,})")) {
    CAPTURE(word);
    CHECK(manual.find(word) != manual.npos);
  }
}

TEST_CASE("README shows the help", "[documents]") {
  const std::string readme = contents_of("README.md");
  const auto begin = readme.find("```\nUsage: echo-server");
  REQUIRE(begin != readme.npos);
  INFO("Replace the block in README.md by the output of --help.");
  CHECK(same_bytes(readme.substr(begin + 4, readme.find("```", begin + 4) - begin - 4), help()));
}

TEST_CASE("documents mention only options and variables that exist", "[documents]") {
  const std::string markdown = contents_of("README.md") + contents_of("src/README.md") +
                               contents_of("src/packaging/README.md") +
                               contents_of(".github/CONTRIBUTING.md");
  Names known = names_in_help();
  known.insert({"--exec", "--pids-limit", "--prefix"});  // Of ncat, Podman and CMake.
  CHECK(Comparison{listed("unknown", found_in(markdown, "`(--[a-z-]+)"), known)});

  Names in_manual;
  for (const std::string& name : found_in(contents_of(manual_page), R"(\bFl (-?[a-z][a-z-]*))"))
    in_manual.insert('-' + name);
  CHECK(Comparison{listed("unknown", in_manual, names_in_help())});

  Names variables = found_in(help(), R"(\b(ECHO_SERVER_\w+))");
  variables.insert({"ECHO_SERVER_HARDENING", "ECHO_SERVER_STATIC_RUNTIME"});  // CMake's.
  const std::string files = markdown + contents_below("src/packaging");
  CHECK(Comparison{listed("unknown", found_in(files, R"(\b(ECHO_SERVER_\w+))"), variables)});
}

TEST_CASE("completions offer every option and the words that it accepts as values", "[documents]") {
  // Each function prints what its shell offers for words of which the last is incomplete.
  const auto& [shell, function] = GENERATE(table<std::string, std::string>(
      {{"bash", R"sh(
          source src/packaging/echo-server.bash
          offer() {
            COMP_WORDS=(echo-server "$@") COMP_CWORD=$#
            _echo_server echo-server "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
            printf '%s\n' "${COMPREPLY[@]}"
          })sh"},
       {"fish", R"sh(
          source src/packaging/echo-server.fish
          function offer
            complete --do-complete "echo-server $argv"
          end)sh"},
       // Zsh completes only at a prompt. Here its completion file tells what it would offer.
       {"zsh", R"sh(
          _call_program() { shift; "$@" }
          _arguments() { specs=($@) }
          _hosts() { }
          offer() {
            words=(echo-server) specs=()
            source src/packaging/_echo-server
            if [[ $1 == - ]]; then
              print -rl -- ${${(M)specs:#\**}//(#b)(#s)\*(-#[a-z-]##)*/$match[1]}
            else
              print -rl -- ${=${${(M)specs:#\*$1=*}##*:}//[()]/}
            fi
          })sh"}}));
  need_program(shell);
  const std::string directory = std::filesystem::path(server_binary()).parent_path();
  const auto offers = [&, &shell = shell, &function = function](const std::string& words) {
    const std::string script = "cd " ECHO_SOURCE_DIR "; export PATH=" + directory + ":$PATH\n" +
                               (shell == "zsh" ? "setopt extendedglob\n" : "") + function;
    const auto finished = run(shell, {"-c", script + "\noffer " + words});
    CHECK(finished.err.empty());
    return found_in(finished.out, R"((?:^|\n)([^\s]+))");
  };
  CAPTURE(shell);
  CHECK(difference(offers("-"), names_in_help()));
  for (const Option& option : options_table()) {
    CAPTURE(option.name);
    Names expected = found_in(option.default_value.typed, "^([a-z]+)$");
    if (option.name == "--log-level")
      expected = {"trace", "debug", "info", "warn", "error", "off"};
    if (option.name != "--host")
      CHECK(difference(offers(option.name + " ''"), expected));
  }
  if (shell == "bash") {
    CHECK(offers("--log-level = w") == Names{"warn"});
    CHECK(offers("--host 0") == Names{"0.0.0.0"});
  }
}

}  // namespace test
