#include "echo/options.hpp"

#include <stdlib.h>  // setenv

#include <algorithm>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "echo/value.hpp"
#include "matchers.hpp"
#include "options_table.hpp"
#include "process.hpp"

namespace test {
namespace {

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

/// Checks the error about a value from `source`, an option or a variable.
void check_refused(const Words& arguments, const std::string& source, const std::string& value,
                   const std::string& accepted) {
  CAPTURE(arguments);
  CHECK_THAT(
      usage_error(arguments),
      Catch::Matchers::StartsWith(source + " '" + value + "': must be ") && contains(accepted));
}

}  // namespace

TEST_CASE("defaults apply if no options are given", "[options]") {
  const echo::Options defaults = parse({});
  CHECK(defaults.test_settings.empty());
  CHECK(defaults.information.empty());
  for (const Option& option : options_table())
    DYNAMIC_SECTION(option.name) {
      const auto& [value, field] = option.default_value;
      CHECK(option.field(defaults) == field);
      CHECK(option.field(parse({option.name, value})) == field);
    }
}

TEST_CASE("options can be given in every form and the last one counts", "[options]") {
  for (const Option& option : options_table())
    DYNAMIC_SECTION(option.name) {
      const auto& [value, field] = option.sample;
      for (const Words& form : {Words{option.name, value}, {option.name + '=' + value}}) {
        const echo::Options options = parse(form);
        CHECK(option.field(options) == field);
        CHECK(options.test_settings ==
              (option.fault.empty() ? "" : option.name + ' ' + option.fault));
        for (const std::string& wrong : option.wrong) {
          Words twice = {option.name, wrong};
          twice.insert(twice.end(), form.begin(), form.end());
          CHECK(option.field(parse(twice)) == field);
        }
      }
    }
  for (const char* const line : {"-p 7", "-p7", "-p=7 -p 7", "-vp7"})
    CHECK(parse(typed(line)).port == 7);
  CHECK(parse({"-c64k"}).chunk_size == 65536);
}

TEST_CASE("variables apply only where no option is given", "[options]") {
  for (const Option& option : options_table())
    DYNAMIC_SECTION(option.variable()) {
      const auto& [value, field] = option.sample;
      const Environment sample(option.variable(), value);
      CHECK(option.field(parse({})) == field);
      CHECK(option.field(parse({option.name, option.default_value.typed})) ==
            option.default_value.field);
      for (const std::string& wrong : option.wrong) {
        const Environment bad(option.variable(), wrong);
        check_refused({}, option.variable(), wrong, option.accepted);
        CHECK(option.field(parse({option.name, value})) == field);
        CHECK_FALSE(parse({"--help"}).information.empty());
      }
    }
}

TEST_CASE("variables that are empty or set by Kubernetes count as unset", "[options]") {
  const std::string value = GENERATE("", "tcp://10.0.0.7:10000", "tcp://");
  for (const Option& option : options_table())
    DYNAMIC_SECTION(option.variable()) {
      const Environment environment(option.variable(), value);
      CHECK(option.field(parse({})) == option.default_value.field);
    }
  CHECK_THAT(usage_error({"--port", "tcp://10.0.0.7:10000"}), contains("0 to 65535"));
}

TEST_CASE("errors name the option and the value and say what is accepted", "[options]") {
  for (const Option& option : options_table())
    DYNAMIC_SECTION(option.name) {
      for (const std::string& wrong : option.wrong)
        check_refused({option.name, wrong}, option.name, wrong, option.accepted);
      for (const Words& arguments : {Words{option.name}, {option.name, "-v"}})
        CHECK_THAT(usage_error(arguments),
                   Catch::Matchers::StartsWith("missing value for " + option.name));
    }
}

TEST_CASE("empty values are errors and do not consume the next argument", "[options]") {
  for (const Option& option : options_table())
    DYNAMIC_SECTION(option.name) {
      const std::string& name = option.name;
      const std::string& sample = option.sample.typed;
      const Environment environment(option.variable(), sample);
      if (option.wrong.empty()) {  // The greeting, which may be empty.
        CHECK(parse({name + '=', "--port=7"}).port == 7);
        CHECK(option.field(parse({name, ""})).empty());
        continue;
      }
      for (const Words& arguments : {Words{name + '='},
                                     {name, ""},
                                     {name + '=', sample},
                                     {name + '=', "--verbose"},
                                     {name, sample, name + '='}})
        check_refused(arguments, name, "", option.accepted);
    }
}

TEST_CASE("units and words are accepted in upper and lower case", "[options]") {
  const auto& [name, values, field] = GENERATE(table<const char*, const char*, const char*>(
      {{"--chunk-size", "65536 64k 64K 64kb 64KB 64KiB 64kib 0064k", "65536"},
       {"--chunk-size", "1M 1m 1MB 1MiB 1024k 1048576", "1048576"},
       {"--chunk-size", "1", "1"},
       {"--chunk-size", "16M", "16777216"},
       {"--close-after", "3G 3gb 3GiB 3072m", "3221225472"},
       {"--reset-after", "1T 1tb 1TiB 1024G 1099511627776", "1099511627776"},
       {"--stall-after", "NEVER never", "never"},
       {"--only-first", "All all", "never"},
       {"--max-connections", "0 00", "0"},
       {"--idle-timeout", "500ms 500MS", "500 ms"},
       {"--idle-timeout", "10s 10S 10 010s", "10000 ms"},
       {"--idle-timeout", "5m 5M", "300000 ms"},
       {"--idle-timeout", "0 0ms NEVER Never", "0 ms"},
       {"--delay", "100000h 360000000 360000000000ms 6000000m", "360000000000 ms"},
       {"--log-level", "oFF off", "off"},
       {"--log-level", "WARNING warn", "warn"},
       {"--host", "::1 [::1]", "::1"},
       {"--host", "fe80::1%eth0", "fe80::1%eth0"}}));
  const auto option = std::ranges::find(options_table(), name, &Option::name);
  for (const std::string& value : typed(values)) {
    CAPTURE(name, value);
    CHECK(option->field(parse({name, value})) == field);
  }
}

TEST_CASE("byte limits are mutually exclusive wherever they are set", "[options]") {
  const std::string together = " cannot be used together";
  const auto& [first, second] = GENERATE(table<std::string, std::string>(
      {{"close", "reset"}, {"close", "stall"}, {"reset", "stall"}}));
  const std::string one = "--" + first + "-after";
  const std::string other = "--" + second + "-after";
  CHECK(usage_error({other, "2k", one, "1"}) == one + " '1' and " + other + " '2k'" + together);
  CHECK(parse({one, "0", other, "never"}).limit() == 0);
  CHECK(parse({one, "never", other, "7"}).limit() == 7);

  const auto option = std::ranges::find(options_table(), one, &Option::name);
  const Environment environment(option->variable(), "3");
  CHECK(usage_error({other, "0"}) == option->variable() + " '3' and " + other + " '0'" + together);
  CHECK(parse({one, "never", other, "0"}).limit() == 0);
}

TEST_CASE("verbose means level debug and overrides any other level", "[options]") {
  for (const char* const line :
       {"-v", "--verbose", "-v -v", "-vv", "-v --log-level error", "--log-level off -v"})
    CHECK(parse(typed(line)).log_level == "debug");
  CHECK_THAT(usage_error({"-v", "--log-level", "loud"}), contains("--log-level 'loud'"));
  const Environment environment("ECHO_SERVER_LOG_LEVEL", "loud");
  CHECK(parse({"-v"}).log_level == "debug");
}

TEST_CASE("errors say what kind of mistake was made and what to type instead", "[options]") {
  const auto& [line, begin, advice] = GENERATE(table<const char*, const char*, const char*>(
      {{"--bogus", "unknown option '--bogus'", ""},
       {"--dealy 3", "unknown option '--dealy'", ""},
       {"--bogus=1 stray", "unknown option '--bogus=1'", ""},
       {"-V", "unknown option '-V'", ""},
       {"-l 10000", "unknown option '-l'", ""},
       {"-- --port 7", "unknown option '--port'", ""},
       {"stray --bogus=1 -x", "unexpected argument 'stray'", "--host HOST"},
       {"--delay 100 ms", "unexpected argument 'ms'", "one word, such as 100ms"},
       {"-", "unexpected argument '-'", "--port PORT"},
       {"10000", "unexpected argument '10000'", "use --port 10000"},
       {"127.0.0.1 10000", "unexpected argument '127.0.0.1'", "--host HOST and --port PORT"},
       {"-p", "missing value for --port", "0 to 65535"},
       {"--port --verbose", "missing value for --port", "0 to 65535"},
       {"-port 10000", "'-port'", "use two dashes, as in --port"},
       {"-port=7", "'-port=7'", "use two dashes, as in --port=7"},
       {"-host ::1", "'-host'", "use two dashes, as in --host"},
       {"-version", "'-version'", "use two dashes, as in --version"},
       {"--host 10000", "--host '10000'", "give the port with --port"},
       {"--host *", "--host '*'", ":: or 0.0.0.0"},
       {"--verbose=1", "'--verbose=1'", "--verbose takes no value"},
       {"--verbose=", "'--verbose='", "--verbose takes no value"}}));
  CAPTURE(line);
  CHECK_THAT(usage_error(typed(line)), Catch::Matchers::StartsWith(begin) && contains(advice));
  CHECK_THAT(usage_error({""}), contains("unexpected argument ''"));
}

TEST_CASE("help and version work whatever else is wrong", "[options]") {
  const Environment port("ECHO_SERVER_PORT", "http");
  const Environment close("ECHO_SERVER_CLOSE_AFTER", "1");
  for (const char* const line : {"--version", "--port x --version", "--port= --version"}) {
    CAPTURE(line);
    CHECK(parse(typed(line)).information == "echo-server " ECHO_SERVER_VERSION "\n");
  }
  for (const char* const line :
       {"--help", "-h", "-vh", "--bogus --help", "--help --bogus stray", "--port bogus -h",
        "--help --port", "--port --help", "--host= --help", "-p -h", "-v --log-level info -h",
        "--reset-after 0 --help", "--help --version", "-host x --help", "--verbose=1 -h"}) {
    CAPTURE(line);
    CHECK_THAT(parse(typed(line)).information, contains("Usage: echo-server"));
  }
}

TEST_CASE("arbitrary arguments and variables give a usage error or valid options", "[options]") {
  std::minstd_rand random;
  Words words = typed(
      "- -- --- --= = -c=1 -p0 -v -vv -h -vh --help --version --no-port @file --config \" ' {} "
      "%s%n \xff\xfe [x] [] [");
  words.insert(words.end(), {"", "\n", std::string(5000, '9')});
  for (const Option& option : options_table()) {
    words.insert(words.end(), {option.name, option.name + '=', option.sample.typed,
                               option.name + '=' + option.sample.typed});
    words.insert(words.end(), option.wrong.begin(), option.wrong.end());
  }
  for (int i = 0; i < 2000; ++i) {
    Words arguments(random() % 6);
    for (std::string& argument : arguments)
      argument = words[random() % words.size()];
    const std::string variable = options_table()[random() % options_table().size()].variable();
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

}  // namespace test
