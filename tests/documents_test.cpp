#include <compare>
#include <fstream>
#include <iterator>
#include <ostream>
#include <regex>
#include <set>
#include <string>

#include "catch.hpp"
#include "program.hpp"

namespace {

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

std::string contents_of(const std::string& file) {
  std::ifstream in(ECHO_SOURCE_DIR "/" + file);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
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
                               std::regex(R"(\n +(-\w)?,? *(--[a-z-]+)(?: ([A-Z]+))?(?=\s))"),
                               std::regex(R"(\(default (\S+), environment (\S+)\))"));
  CHECK(help.size() == 10);
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
