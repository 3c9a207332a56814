#include <compare>
#include <iterator>
#include <ostream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "catch.hpp"
#include "program.hpp"
#include "readme.hpp"

namespace {

using test::contents_of;

/// An option as a document shows it: "-p --port PORT", "10000", "ECHO_SERVER_PORT".
struct Option {
  std::string flags;
  std::string default_value;
  std::string variable;
  auto operator<=>(const Option&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Option& option) {
  return out << option.flags << " (default " << option.default_value << ", environment "
             << option.variable << ")";
}

/// Each match of `entry` begins an option; groups 1 to 3 are the flags. What follows it up to the
/// next one has its default and variable, as `value` finds them.
std::set<Option> options_in(const std::string& text, const std::regex& entry,
                            const std::regex& value) {
  std::set<Option> options;
  const std::sregex_iterator end;
  for (std::sregex_iterator at(text.begin(), text.end(), entry); at != end; ++at) {
    const auto next = std::next(at);
    const auto stop = next == end ? text.end() : text.begin() + next->position();
    const std::string body(text.begin() + at->position() + at->length(), stop);
    Option option;
    for (std::size_t group = 1; group <= 3; ++group)
      if ((*at)[group].length() > 0)
        option.flags += (option.flags.empty() ? "" : " ") + (*at)[group].str();
    if (std::smatch found; std::regex_search(body, found, value)) {
      const bool variable_first = found[1].str().rfind("ECHO_SERVER_", 0) == 0;
      option.default_value = found[variable_first ? 2 : 1];
      option.variable = found[variable_first ? 1 : 2];
    }
    options.insert(option);
  }
  return options;
}

}  // namespace

TEST_CASE("help, manual page and README name the same options, defaults and variables",
          "[program]") {
  const auto help = options_in(test::run({{"--help"}}).out,
                               std::regex(R"(\n +(-\w)?,? *(--[a-z-]+)(?: ([A-Z]+))?(?=[\s=]))"),
                               std::regex(R"(^(?:=| \[)(\S+?)\]?\s+\(Env:(\S+)\))"));
  CHECK(help.size() == 14);
  CHECK(help.count({"-p --port PORT", "10000", "ECHO_SERVER_PORT"}) == 1);
  CHECK(help.count({"-h --help", "", ""}) == 1);

  // A flag is "Fl p" or "Fl -port" there.
  const std::string manual =
      std::regex_replace(contents_of("src/echo-server.1"), std::regex("Fl (\\S)"), "-$1");
  CHECK(options_in(manual, std::regex(R"(\n\.It (?:(-\w) , )?(--[a-z-]+)(?: Ar ([A-Z]+))?(?=\n))"),
                   std::regex(R"(\n\.Pq default (\S+) , environment Ev (\S+))")) == help);

  CHECK(options_in(contents_of("README.md"),
                   std::regex(R"(\n\| `(?:(-\w), )?(--[a-z-]+)(?: ([A-Z]+))?`(?= ))"),
                   std::regex(R"(^ \| `([A-Z_]+)` \| `(\S+)` \|)")) == help);
}

TEST_CASE("bash completes the options of the help", "[program]") {
  const auto complete = [](const std::string& words) {
    const std::string script =
        "source " ECHO_SOURCE_DIR "/src/echo-server.bash; COMP_WORDS=(echo-server " + words +
        "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _echo_server echo-server "
        "\"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; echo \"${COMPREPLY[*]}\"";
    const auto finished = test::run(test::command("bash", {"-c", script}));
    CHECK(finished.log.empty());
    return finished.out;
  };
  const std::string help = test::run({{"--help"}}).out;
  std::set<std::string> options;
  const std::regex option(R"(\n +(-\w)?,? *(--[a-z-]+))");
  for (std::sregex_iterator at(help.begin(), help.end(), option), end; at != end; ++at)
    for (const std::size_t group : {1U, 2U})
      if ((*at)[group].matched)
        options.insert((*at)[group]);
  std::istringstream completed(complete("-"));
  CHECK(std::set<std::string>(std::istream_iterator<std::string>(completed), {}) == options);

  CHECK(complete("--po") == "--port\n");
  CHECK(complete("--log-level d") == "debug\n");
  CHECK(complete("--log-level = w") == "warn\n");
  CHECK(complete("--log-level =") == "trace debug info warn error off\n");
  CHECK(complete("--port ''") == "\n");
}
