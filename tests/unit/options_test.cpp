#include "echo/options.hpp"

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "matchers.hpp"
#include "options_table.hpp"

namespace {

using test::contains;
using test::Words;

/// Sets a variable for as long as it lives.
class Environment {
 public:
  Environment(const std::string& name, const std::string& value) : name_(name) {
    ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() { ::unsetenv(name_.c_str()); }

 private:
  const std::string name_;
};

echo::Options parse(const Words& arguments) {
  std::vector<const char*> words = {"echo-server"};
  for (const std::string& argument : arguments)
    words.push_back(argument.c_str());
  return echo::parse_options(static_cast<int>(words.size()), words.data());
}

/// What is typed, as its words.
Words typed(const std::string& line) {
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
}

TEST_CASE("each flag sets its option, in every form, and the last one counts", "[options]") {
  for_each_option([](const test::Option& option) {
    const std::string& wrong = option.wrong.front();
    Words forms = {option.flag + ' ' + option.sample, option.flag + '=' + option.sample};
    if (!option.short_flag.empty()) {
      forms.push_back(option.short_flag + ' ' + option.sample);
      forms.push_back(option.short_flag + option.sample);
    }
    for (const std::string& form : forms) {
      CAPTURE(form);
      CHECK(option.field(parse(typed(form))) == option.sample_field);
      Words twice = typed(form);
      twice.insert(twice.begin(), {option.flag, wrong});
      CHECK(option.field(parse(twice)) == option.sample_field);
    }
  });
}

TEST_CASE("each option has its variable, and a flag beats it", "[options]") {
  for_each_option([](const test::Option& option) {
    CAPTURE(option.variable);
    {
      const Environment sample(option.variable, option.sample);
      CHECK(option.field(parse({})) == option.sample_field);
      CHECK(option.field(parse({option.flag, option.default_value})) == option.default_field);
    }
    const std::string& wrong = option.wrong.front();
    const Environment bad(option.variable, wrong);
    CHECK(usage_error({}) == option.variable + " '" + wrong + "': must be " + option.accepts);
    CHECK(option.field(parse({option.flag, option.sample})) == option.sample_field);
    CHECK_FALSE(parse({"--help"}).information.empty());
  });
}

TEST_CASE("a variable that is empty, or that Kubernetes made, is as good as none", "[options]") {
  for (const std::string value : {"", "tcp://10.0.0.7:10000", "tcp://"})
    for_each_option([&](const test::Option& option) {
      const Environment environment(option.variable, value);
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
    for (const Words& arguments :
         std::initializer_list<Words>{{option.flag + "="},
                                      {option.flag, ""},
                                      {option.flag + "=", option.sample},
                                      {option.flag + "=", "--port=10001"},
                                      {option.flag + "=", option.flag, option.sample},
                                      {option.flag, option.sample, option.flag + "="},
                                      {option.flag + "=", option.flag + "=" + option.sample}}) {
      CAPTURE(arguments);
      CHECK(usage_error(arguments) == empty);
    }
    const Environment environment(option.variable, option.sample);
    CHECK(usage_error({option.flag + "="}) == empty);
    CHECK_THAT(usage_error({option.flag}), contains(option.flag));
  });
}

TEST_CASE("a value may have a unit of its kind, and letters in any case", "[options]") {
  for (const auto& [flag, values, field] : {
           std::tuple("--chunk-size", "65536 64k 64K 64kb 64KB 64KiB 64kib 0064k", "65536"),
           std::tuple("--chunk-size", "1M 1m 1MB 1MiB 1024k 1048576", "1048576"),
           std::tuple("--chunk-size", "1", "1"),
           std::tuple("--chunk-size", "16M", "16777216"),
           std::tuple("--close-after", "3G 3gb 3GiB 3072m", "3221225472"),
           std::tuple("--reset-after", "1T 1tb 1TiB 1024G 1099511627776", "1099511627776"),
           std::tuple("--reset-after", "NEVER never", "never"),
           std::tuple("--only-first", "All all", "never"),
           std::tuple("--idle-timeout", "500ms 500MS", "500 ms"),
           std::tuple("--idle-timeout", "10s 10S 10 010s", "10000 ms"),
           std::tuple("--idle-timeout", "5m 5M", "300000 ms"),
           std::tuple("--idle-timeout", "0 0ms NEVER Never", "0 ms"),
           std::tuple("--delay", "100000h 360000000 360000000000ms 6000000m", "360000000000 ms"),
           std::tuple("--log-level", "oFF off", "off"),
           std::tuple("--log-level", "WARNING warn", "warn"),
           std::tuple("--host", "::1 [::1]", "::1"),
           std::tuple("--host", "fe80::1%eth0", "fe80::1%eth0"),
       }) {
    const auto option = std::ranges::find(test::options_table(), flag, &test::Option::flag);
    for (const std::string& value : typed(values)) {
      CAPTURE(flag, value);
      CHECK(option->field(parse({flag, value})) == field);
    }
  }
  CHECK_THAT(usage_error({"--host", "[]"}), contains("--host '[]'"));
}

TEST_CASE("a close and a reset exclude each other, wherever they come from", "[options]") {
  const std::string either = ": only one of them can be used";
  CHECK(usage_error({"--close-after", "1", "--reset-after", "2k"}) ==
        "--close-after '1' and --reset-after '2k'" + either);
  const echo::Options closing = parse({"--close-after", "1", "--reset-after", "never"});
  CHECK(closing.limit() == 1);
  CHECK_FALSE(closing.ends_by_reset());
  const Environment close("ECHO_SERVER_CLOSE_AFTER", "0");
  CHECK(usage_error({"--reset-after", "0"}) ==
        "ECHO_SERVER_CLOSE_AFTER '0' and --reset-after '0'" + either);
  const echo::Options resetting = parse({"--reset-after", "7", "--close-after", "never"});
  CHECK(resetting.limit() == 7);
  CHECK(resetting.ends_by_reset());
  const Environment reset("ECHO_SERVER_RESET_AFTER", "3");
  CHECK(usage_error({}) == "ECHO_SERVER_CLOSE_AFTER '0' and ECHO_SERVER_RESET_AFTER '3'" + either);
  CHECK(parse({"--close-after", "never"}).limit() == 3);
}

TEST_CASE("verbose is the level debug, and stronger than any other", "[options]") {
  for (const char* line :
       {"-v", "--verbose", "-v -v", "-vv", "-v --log-level error", "--log-level off -v"})
    CHECK(parse(typed(line)).log_level == "debug");
  CHECK_THAT(usage_error({"-v", "--log-level", "loud"}), contains("--log-level 'loud'"));
  const Environment environment("ECHO_SERVER_LOG_LEVEL", "loud");
  CHECK(parse({"-v"}).log_level == "debug");
}

TEST_CASE("what is no option is named, in the order of typing", "[options]") {
  for (const auto& [line, first] :
       {std::pair("--bogus", "'--bogus'"), std::pair("stray --bogus=1 -x", "'stray'"),
        std::pair("--bogus=1 stray", "'--bogus=1'"), std::pair("-- --port 7", "'--port'"),
        std::pair("-", "'-'")}) {
    CHECK_THAT(usage_error(typed(line)), contains(first));
  }
  CHECK_THAT(usage_error({""}), contains("''"));
}

TEST_CASE("an error that a habit is behind says what to type", "[options]") {
  for (const char* line : {"10000", "127.0.0.1 10000", "-l 10000", "-port 10000",
                           "--host 127.0.0.1:10000", "--host http://localhost"}) {
    CAPTURE(line);
    CHECK_THAT(usage_error(typed(line)), contains("--port"));
  }
  for (const std::string word : {"--verbose=1", "--verbose="})
    CHECK(usage_error({word}) == "'" + word + "': --verbose takes no value");
}

TEST_CASE("help and version work whatever else is wrong", "[options]") {
  const Environment port("ECHO_SERVER_PORT", "http");
  const Environment close("ECHO_SERVER_CLOSE_AFTER", "1");
  for (const char* line : {"--version", "--port x --version", "--port= --version"}) {
    CAPTURE(line);
    CHECK(parse(typed(line)).information == "echo-server " ECHO_SERVER_VERSION "\n");
  }
  for (const char* line :
       {"--help", "-h", "-vh", "--bogus --help", "--help --bogus stray", "--port bogus -h",
        "--help --port", "--port --help", "--host= --help", "-p -h", "-v --log-level info -h",
        "--reset-after 0 --help", "--help --version"}) {
    CAPTURE(line);
    CHECK_THAT(parse(typed(line)).information, contains("Usage: echo-server"));
  }
}

TEST_CASE("whatever is typed and set, it is a usage error or good options", "[options]") {
  std::minstd_rand random;
  Words words = typed(
      "- -- --- --= = -c=1 -p0 -v -vv -h -vh --help --version --no-port @file --config \" ' {} "
      "%s%n \xff\xfe [x] [] [");
  words.insert(words.end(), {"", "\n", std::string(5000, '9')});
  Words variables;
  for_each_option([&](const test::Option& option) {
    words.insert(words.end(), {option.flag, option.flag + "=", option.short_flag, option.sample,
                               option.flag + "=" + option.sample});
    words.insert(words.end(), option.wrong.begin(), option.wrong.end());
    variables.push_back(option.variable);
  });
  for (int i = 0; i < 5000; ++i) {
    Words arguments(random() % 6);
    for (std::string& argument : arguments)
      argument = words[random() % words.size()];
    const std::string& variable = variables[random() % variables.size()];
    const Environment environment(variable, words[random() % words.size()]);
    CAPTURE(arguments, variable);
    try {
      const echo::Options options = parse(arguments);
      REQUIRE((!options.information.empty() || !options.host.empty()));
    } catch (const echo::UsageError& error) {
      REQUIRE_FALSE(std::string(error.what()).empty());
    }
  }
}
