#include "echo/options.hpp"

#include <cstdlib>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "matchers.hpp"
#include "options_table.hpp"

namespace {

using std::chrono::milliseconds;
using test::contains;
using test::Words;

/// Sets variables for as long as it lives.
class Environment {
 public:
  Environment(std::initializer_list<std::pair<std::string, std::string>> variables)
      : variables_(variables) {
    for (const auto& [name, value] : variables_)
      ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : variables_)
      ::unsetenv(name.c_str());
  }

 private:
  const std::vector<std::pair<std::string, std::string>> variables_;
};

echo::Options parse(const Words& arguments) {
  std::vector<const char*> words = {"echo-server"};
  for (const std::string& argument : arguments)
    words.push_back(argument.c_str());
  return echo::parse_options(static_cast<int>(words.size()), words.data());
}

/// The words of a line; none of them has a space.
Words split(const std::string& line) {
  std::istringstream words(line);
  return {std::istream_iterator<std::string>(words), {}};
}

std::string usage_error(const Words& arguments) {
  try {
    parse(arguments);
    return "no error";
  } catch (const echo::UsageError& error) {
    return error.what();
  }
}

std::string information(const Words& arguments) {
  return parse(arguments).information;
}

/// A test for each option that takes a value.
template <typename Test>
void for_each_option(Test test) {
  for (const test::Option& option : test::options_table()) {
    CAPTURE(option.flag);
    if (!option.placeholder.empty())
      test(option);
  }
}

}  // namespace

TEST_CASE("without flags the defaults hold", "[options]") {
  const echo::Options defaults = parse({});
  for_each_option([&](const test::Option& option) {
    CHECK(option.field(defaults) == option.default_field);
    CHECK(option.field(parse({option.flag, option.default_value})) == option.default_field);
  });
  CHECK(defaults.limit() == echo::Options::never);
}

TEST_CASE("each flag sets its option, in every form, and the last one counts", "[options]") {
  for_each_option([](const test::Option& option) {
    const auto field = [&](const Words& arguments) { return option.field(parse(arguments)); };
    const std::string& wrong = option.wrong.front();
    CHECK(field({option.flag, option.sample}) == option.sample_field);
    CHECK(field({option.flag + "=" + option.sample}) == option.sample_field);
    CHECK(field({option.flag, option.default_value, option.flag, option.sample}) ==
          option.sample_field);
    CHECK(field({option.flag, wrong, option.flag, option.sample}) == option.sample_field);
    CHECK(usage_error({option.flag, option.sample, option.flag, wrong}) != "no error");
    if (!option.short_flag.empty()) {
      CHECK(field({option.short_flag, option.sample}) == option.sample_field);
      CHECK(field({option.short_flag + option.sample}) == option.sample_field);
      CHECK(field({option.flag, wrong, option.short_flag, option.sample}) == option.sample_field);
    }
  });
}

TEST_CASE("each option has its variable, and a flag beats it", "[options]") {
  for_each_option([](const test::Option& option) {
    CAPTURE(option.variable);
    {
      const Environment sample{{option.variable, option.sample}};
      CHECK(option.field(parse({})) == option.sample_field);
      CHECK(option.field(parse({option.flag, option.default_value})) == option.default_field);
    }
    const std::string& wrong = option.wrong.front();
    const Environment bad{{option.variable, wrong}};
    CHECK(usage_error({}) == option.variable + " '" + wrong + "': must be " + option.accepts);
    CHECK(option.field(parse({option.flag, option.sample})) == option.sample_field);
    CHECK_FALSE(information({"--help"}).empty());
  });
}

TEST_CASE("a variable that is empty, or that Kubernetes made, is as good as none", "[options]") {
  for (const std::string value : {"", "tcp://10.0.0.7:10000", "tcp://"})
    for_each_option([&](const test::Option& option) {
      const Environment environment{{option.variable, value}};
      CHECK(option.field(parse({})) == option.default_field);
    });
  CHECK_THAT(usage_error({"--port", "tcp://10.0.0.7:10000"}), contains("must be 0 to 65535"));
}

TEST_CASE("a value that is refused is named, with what is accepted", "[options]") {
  for_each_option([](const test::Option& option) {
    const std::string accepted = "': must be " + option.accepts;
    for (const std::string& wrong : option.wrong)
      CHECK(usage_error({option.flag, wrong}) == option.flag + " '" + wrong + accepted);
  });
}

TEST_CASE("an empty value is an error, wherever it stands, and takes no other argument",
          "[options]") {
  for_each_option([](const test::Option& option) {
    const std::string empty = option.flag + " '': must be " + option.accepts;
    const std::string& flag = option.flag;
    const std::string& sample = option.sample;
    for (const Words& arguments : std::vector<Words>{{flag},
                                                     {flag + "="},
                                                     {flag, ""},
                                                     {flag, "--verbose"},
                                                     {flag + "=", sample},
                                                     {flag + "=", "--port=10001"},
                                                     {flag, sample, flag},
                                                     {flag + "=", flag, sample},
                                                     {flag, sample, flag + "="}}) {
      CAPTURE(arguments);
      CHECK(usage_error(arguments) == empty);
    }
    const Environment environment{{option.variable, option.sample}};
    CHECK(usage_error({flag + "="}) == empty);
  });
}

TEST_CASE("the table has every option of the source", "[options]") {
  const std::string source = test::contents_of("src/options.cpp");
  std::set<std::string> in_source;
  for (auto at = source.find("--"); at != source.npos; at = source.find("--", at + 2)) {
    const auto end = source.find_first_not_of("abcdefghijklmnopqrstuvwxyz-", at);
    if (source[end] == '"' && end > at + 2)
      in_source.insert(source.substr(at, end - at));
  }
  std::set<std::string> in_table;
  for (const test::Option& option : test::options_table())
    in_table.insert(option.flag);
  CHECK(in_source == in_table);
}

TEST_CASE("a size has units of 1024, in any case", "[options]") {
  for (const char* size : {"65536", "64k", "64K", "64kb", "64KB", "64KiB", "64kib", "0064k"})
    CHECK(parse({"--chunk-size", size}).chunk_size == 65'536);
  for (const char* size : {"1M", "1m", "1MB", "1MiB", "1024k", "1048576"})
    CHECK(parse({"--chunk-size", size}).chunk_size == 1'048'576);
  CHECK(parse({"--chunk-size", "1"}).chunk_size == 1);
  CHECK(parse({"--chunk-size", "16M"}).chunk_size == 16'777'216);
  for (const char* size : {"3G", "3gb", "3GiB", "3072m"})
    CHECK(parse({"--close-after", size}).close_after == 3ULL << 30);
  for (const char* size : {"1T", "1tb", "1TiB", "1024G", "1099511627776"})
    CHECK(parse({"--reset-after", size}).reset_after == 1ULL << 40);
}

TEST_CASE("a time has a unit in any case, or is a number of seconds", "[options]") {
  for (const auto& [text, time] :
       {std::pair("500ms", 500), std::pair("500MS", 500), std::pair("30s", 30'000),
        std::pair("5M", 300'000), std::pair("1h", 3'600'000), std::pair("2", 2000),
        std::pair("0", 0), std::pair("0ms", 0), std::pair("010s", 10'000), std::pair("NEVER", 0),
        std::pair("Never", 0)})
    CHECK(parse({"--idle-timeout", text}).idle_timeout == milliseconds(time));
  for (const char* text : {"100000h", "360000000", "360000000000ms", "6000000m"})
    CHECK(parse({"--delay", text}).delay == std::chrono::hours(100'000));
}

TEST_CASE("a host may be in brackets, and words in any case", "[options]") {
  CHECK(parse({"--host", "[::1]"}).host == "::1");
  CHECK(parse({"--host", "fe80::1%eth0"}).host == "fe80::1%eth0");
  CHECK(parse({"--close-after", "NEVER"}).close_after == echo::Options::never);
  CHECK(parse({"--only-first", "All"}).only_first == echo::Options::never);
  CHECK(parse({"--log-level", "oFF"}).log_level == "off");
  CHECK(parse({"--log-level", "WARNING"}).log_level == "warn");
}

TEST_CASE("a close and a reset exclude each other, wherever they come from", "[options]") {
  const std::string either = ": only one of them can be used";
  CHECK(usage_error({"--close-after", "1", "--reset-after", "2k"}) ==
        "--close-after '1' and --reset-after '2k'" + either);
  const echo::Options closing = parse({"--close-after", "1", "--reset-after", "never"});
  CHECK(closing.limit() == 1);
  CHECK_FALSE(closing.ends_by_reset());
  const Environment close{{"ECHO_SERVER_CLOSE_AFTER", "0"}};
  CHECK(usage_error({"--reset-after", "0"}) ==
        "ECHO_SERVER_CLOSE_AFTER '0' and --reset-after '0'" + either);
  const echo::Options resetting = parse({"--reset-after", "7", "--close-after", "never"});
  CHECK(resetting.limit() == 7);
  CHECK(resetting.ends_by_reset());
  const Environment reset{{"ECHO_SERVER_RESET_AFTER", "3"}};
  CHECK(usage_error({}) == "ECHO_SERVER_CLOSE_AFTER '0' and ECHO_SERVER_RESET_AFTER '3'" + either);
  CHECK(parse({"--close-after", "never"}).limit() == 3);
}

TEST_CASE("verbose is the level debug, and stronger than any other", "[options]") {
  for (const std::string line :
       {"-v", "--verbose", "-v -v", "-vv", "-v --log-level error", "--log-level off -v"})
    CHECK(parse(split(line)).log_level == "debug");
  CHECK_THAT(usage_error({"-v", "--log-level", "loud"}), contains("--log-level 'loud'"));
  const Environment environment{{"ECHO_SERVER_LOG_LEVEL", "loud"}};
  CHECK(parse({"-v"}).log_level == "debug");
}

TEST_CASE("what is no option is named, in the order of typing", "[options]") {
  CHECK_THAT(usage_error({"--bogus"}), contains("'--bogus'"));
  CHECK_THAT(usage_error({"stray", "--bogus=1", "-x"}), contains("unexpected 'stray"));
  CHECK_THAT(usage_error({"--bogus=1", "stray"}), contains("unexpected '--bogus=1"));
  CHECK_THAT(usage_error({"--", "--port", "7"}), contains("unexpected '--"));
  CHECK_THAT(usage_error({"-"}), contains("'-'"));
  CHECK_THAT(usage_error({""}), contains("''"));
}

TEST_CASE("an error that a habit is behind says what to type", "[options]") {
  for (const std::string line : {"10000", "127.0.0.1 10000", "-l 10000", "-port 10000",
                                 "--host 127.0.0.1:10000", "--host http://localhost"})
    CHECK_THAT(usage_error(split(line)), contains("--port"));
  CHECK(usage_error({"--verbose=1"}) == "'--verbose=1': --verbose takes no value");
  CHECK(usage_error({"--verbose="}) == "'--verbose=': --verbose takes no value");
}

TEST_CASE("help and version work whatever else is wrong", "[options]") {
  const Environment environment{{"ECHO_SERVER_PORT", "http"}, {"ECHO_SERVER_CLOSE_AFTER", "1"}};
  const std::string version = "echo-server " ECHO_SERVER_VERSION "\n";
  CHECK(information({"--version"}) == version);
  CHECK(information({"--port", "x", "--version"}) == version);
  CHECK(information({"--port=", "--version"}) == version);
  for (const std::string line :
       {"--help", "-h", "-vh", "--bogus --help", "--help --bogus stray", "--port bogus -h",
        "--help --port", "--port --help", "--host= --help", "-p -h", "-v --log-level info -h",
        "--reset-after 0 --help", "--help --version"})
    CHECK_THAT(information(split(line)), contains("Usage: echo-server"));
}

TEST_CASE("whatever is typed and set, it is a usage error or good options", "[options]") {
  std::uint32_t state = 1;
  const auto random = [&state](std::size_t below) {
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % below;
  };
  Words words =
      split("- -- --- --= = -c=1 -p0 -vv -vh --no-port @file --config \" ' {} %s%n [x] [] [");
  words.insert(words.end(), {"", "\xff\xfe", "\n", std::string(5000, '9')});
  Words variables;
  for (const test::Option& option : test::options_table()) {
    words.insert(words.end(), {option.flag, option.flag + "=", option.short_flag, option.sample,
                               option.flag + "=" + option.sample});
    words.insert(words.end(), option.wrong.begin(), option.wrong.end());
    variables.push_back(option.variable);
  }
  for (int i = 0; i < 10'000; ++i) {
    Words arguments(random(6));
    for (std::string& argument : arguments)
      argument = words[random(words.size())];
    const std::string& variable = variables[random(variables.size())];
    const Environment environment{
        {variable.empty() ? "OTHER" : variable, words[random(words.size())]}};
    CAPTURE(arguments, variable);
    try {
      const echo::Options options = parse(arguments);
      const bool is_good = options.chunk_size >= 1 && options.chunk_size <= 1 << 24 &&
                           options.max_connections >= 1 && options.exit_after >= 1 &&
                           !options.host.empty() && !options.log_level.empty() &&
                           (options.close_after == echo::Options::never ||
                            options.reset_after == echo::Options::never);
      REQUIRE((is_good || !options.information.empty()));
    } catch (const echo::UsageError& error) {
      REQUIRE_FALSE(std::string(error.what()).empty());
    }
  }
}
