// Help, manual page, README and completions name the same options, with the same defaults.

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "matchers.hpp"
#include "options_table.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace {

using test::contents_of;
using test::Option;
using Names = std::set<std::string>;

/// As a document shows an option: "-p, --port PORT default 10000 variable ECHO_SERVER_PORT".
std::string shown(const std::string& usage, const std::string& value, const std::string& variable) {
  return usage + (value.empty() ? "" : " default " + value + " variable " + variable);
}

Names shown_options() {
  Names names;
  for (const Option& option : test::options_table())
    names.insert(shown(option.usage, option.default_value, option.variable));
  return names;
}

/// Each match of `entry` is an option: its group 1 the usage, and what `value` finds from there to
/// the next option the default and the variable, in groups of these numbers.
Names options_in(const std::string& text, const std::string& entry, const std::string& value,
                 std::pair<std::size_t, std::size_t> groups = {1, 2}) {
  Names names;
  const std::regex begin(entry);
  for (std::sregex_iterator at(text.begin(), text.end(), begin), end; at != end; ++at) {
    const auto next = std::next(at);
    const auto stop = next == end ? text.end() : text.begin() + next->position();
    const std::string body((*at)[0].second, stop);
    std::smatch found;
    std::regex_search(body, found, std::regex(value));
    names.insert(shown((*at)[1], found.empty() ? "" : found[groups.first].str(),
                       found.empty() ? "" : found[groups.second].str()));
  }
  return names;
}

/// All that `pattern` finds, of its group 1.
Names found_in(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  Names names;
  for (std::sregex_iterator at(text.begin(), text.end(), regex), end; at != end; ++at)
    names.insert((*at)[1]);
  return names;
}

/// The flags of the table, short and long.
Names flags() {
  Names names;
  for (const Option& option : test::options_table()) {
    names.insert(option.flag);
    if (!option.short_flag.empty())
      names.insert(option.short_flag);
  }
  return names;
}

/// The line of a completion that speaks of `flag`.
std::string line_with(const std::string& text, const std::string& flag) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (std::regex_search(line, std::regex(flag + "(?![a-z-])")))
      return line;
  return "";
}

const std::string manual_page = "src/packaging/echo-server.1";

}  // namespace

TEST_CASE("the table of these tests has every option of the source", "[documents]") {
  Names in_table;
  for (const Option& option : test::options_table())
    in_table.insert(option.flag);
  CHECK(found_in(contents_of("src/options.cpp"), R"x((--[a-z-]+)")x") == in_table);
}

TEST_CASE("the help has every option, its default and its variable, in 45 rows of 80",
          "[documents]") {
  const std::string help = test::run_server({"--help"}).out;
  CHECK(options_in(help, R"(\n +((?:-\w, )?--[a-z-]+(?: [A-Z]+)?)(?= ))",
                   R"(\[(\S+),\s+(ECHO_SERVER_\w+)\])") == shown_options());
  CHECK(found_in(help, "(.{81,})").empty());
  CHECK(std::ranges::count(help, '\n') <= 45);
}

TEST_CASE("the manual page has every option, its default and its variable", "[documents]") {
  // A flag is "Fl p" or "Fl -port" there.
  std::string manual = contents_of(manual_page);
  for (const auto& [from, to] :
       {std::pair("Fl (\\S)", "-$1"), std::pair(" , -", ", -"), std::pair("\\bAr ([A-Z]+)", "$1")})
    manual = std::regex_replace(manual, std::regex(from), to);
  CHECK(options_in(manual, R"(\n\.It ((?:-\w, )?--[a-z-]+(?: [A-Z]+)?)(?=\n))",
                   R"(\n\.Pq default (\S+) , environment Ev (\S+))") == shown_options());
  const Names synopsis =
      found_in(manual.substr(0, manual.find("\n.Sh DESCRIPTION")), R"((--[a-z-]+))");
  for (const Option& option : test::options_table()) {
    CAPTURE(option.flag);
    CHECK((synopsis.count(option.flag) == 1 || !option.short_flag.empty()));
  }
}

TEST_CASE("the manual page has every word of the help", "[documents]") {
  test::need_program("mandoc");
  const auto finished = test::run(
      "mandoc", {"-T", "ascii", "-W", "warning", "-l", ECHO_SOURCE_DIR "/" + manual_page});
  CHECK(finished.status == 0);
  const std::string manual = std::regex_replace(finished.out, std::regex(".\b|-\\n +"), "");
  for (const std::string& word : found_in(test::run_server({"--help"}).out, "([a-z]{3,})"))
    CHECK(manual.find(word) != manual.npos);
}

TEST_CASE("the README has every option, its default and its variable", "[documents]") {
  const std::string readme = contents_of("README.md");
  CHECK(options_in(readme, R"(\n\| `((?:-\w, )?--[a-z-]+(?: [A-Z]+)?)`(?= ))",
                   R"(^ \| `(ECHO_SERVER_\w+)` \| `(\S+)` \|)", {2, 1}) == shown_options());
}

TEST_CASE("bash completes every option, and the words that it takes", "[documents]") {
  const auto complete = [](const std::string& words) {
    const std::string script =
        "source " ECHO_SOURCE_DIR "/src/packaging/echo-server.bash; COMP_WORDS=(echo-server " +
        words +
        "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _echo_server echo-server "
        "\"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; echo \"${COMPREPLY[*]}\"";
    const auto finished = test::run("bash", {"-c", script});
    CHECK(finished.err.empty());
    return finished.out;
  };
  CHECK(found_in(complete("-"), R"((\S+))") == flags());
  for (const Option& option : test::options_table()) {
    CAPTURE(option.flag);
    CHECK_THAT(complete(option.flag), test::contains(option.flag));
    if (!option.placeholder.empty() && option.flag != "--host")
      for (const char* const before : {" ''", " ="})
        CHECK(complete(option.flag + before) == option.completions + '\n');
  }
  CHECK_THAT(complete("--host 0"), test::contains("0.0.0.0"));
  CHECK(complete("--log-level = w") == "warn\n");
}

TEST_CASE("zsh and fish complete every option, and the words that it takes", "[documents]") {
  const std::string zsh = contents_of("src/packaging/_echo-server");
  const std::string fish = contents_of("src/packaging/echo-server.fish");
  CHECK(found_in(zsh, R"([*{,](--?[a-z][a-z-]*)(?=[=\[+,}]))") == flags());
  Names in_fish;
  for (const std::string& name : found_in(fish, R"( -l ([a-z-]+))"))
    in_fish.insert("--" + name);
  for (const std::string& name : found_in(fish, R"( -s ([a-z]))"))
    in_fish.insert("-" + name);
  CHECK(in_fish == flags());
  for (const Option& option : test::options_table()) {
    CAPTURE(option.flag);
    if (option.completions.empty() || option.flag == "--host")
      continue;
    CHECK_THAT(line_with(zsh, option.flag), test::contains(":(" + option.completions + ")"));
    const bool is_one = option.completions.find(' ') == std::string::npos;
    const std::string quote = is_one ? "" : "'";
    CHECK_THAT(line_with(fish, " -l " + option.flag.substr(2)),
               test::contains(" -a " + quote + option.completions + quote));
  }
}
