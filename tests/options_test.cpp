#include "echo/options.hpp"

#include <cstdlib>
#include <initializer_list>
#include <regex>
#include <vector>

#include "catch.hpp"

namespace {

using std::chrono::milliseconds;
constexpr std::uint64_t never = UINT64_MAX;

/// Sets variables for as long as it lives.
class Environment {
 public:
  Environment(std::initializer_list<std::pair<const char*, const char*>> variables) {
    for (const auto& [name, value] : variables) {
      ::setenv(name, value, 1);
      names_.push_back(name);
    }
  }
  ~Environment() {
    for (const char* name : names_)
      ::unsetenv(name);
  }

 private:
  std::vector<const char*> names_;
};

auto parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "echo-server");
  return echo::parse_options(static_cast<int>(arguments.size()), arguments.data());
}

echo::Options options(const std::vector<const char*>& arguments) {
  return parse(arguments);
}

/// In the layout of CLI11 2.1; newer ones write "-p,     --port PORT [10000]".
std::string information(const std::vector<const char*>& arguments) {
  std::string text = parse(arguments).information;
  for (const auto& [newer, older] :
       {std::pair(R"((-\w), +--)", "$1,--"), std::pair(R"( \[(\S+)\])", "=$1")})
    text = std::regex_replace(text, std::regex(newer), older);
  return text;
}

std::string usage_error(const std::vector<const char*>& arguments) {
  try {
    parse(arguments);
    return "no error";
  } catch (const echo::UsageError& error) {
    return error.what();
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("without flags the defaults hold", "[options]") {
  const echo::Options defaults = options({});
  CHECK(defaults.host == "0.0.0.0");
  CHECK(defaults.port == 10000);
  CHECK(defaults.chunk_size == 16);
  CHECK(defaults.max_connections == 1024);
  CHECK(defaults.idle_timeout == milliseconds(0));
  CHECK(defaults.drain_timeout == milliseconds(5000));
  CHECK(defaults.delay == milliseconds(0));
  CHECK(defaults.close_after == never);
  CHECK(defaults.reset_after == never);
  CHECK(defaults.exit_after == never);
  CHECK(defaults.log_level == "info");
}

TEST_CASE("each flag sets its option, in every form", "[options]") {
  CHECK(options({"--host", "::1"}).host == "::1");
  CHECK(options({"--port", "80"}).port == 80);
  CHECK(options({"--port=80"}).port == 80);
  CHECK(options({"-p", "80"}).port == 80);
  CHECK(options({"-p80"}).port == 80);
  CHECK(options({"-c", "64k"}).chunk_size == 65'536);
  CHECK(options({"--max-connections", "7"}).max_connections == 7);
  CHECK(options({"--idle-timeout", "30s"}).idle_timeout == milliseconds(30'000));
  CHECK(options({"--drain-timeout", "0"}).drain_timeout == milliseconds(0));
  CHECK(options({"--delay", "20ms"}).delay == milliseconds(20));
  CHECK(options({"--close-after", "100"}).close_after == 100);
  CHECK(options({"--reset-after", "1k"}).reset_after == 1024);
  CHECK(options({"--exit-after", "3"}).exit_after == 3);
  CHECK(options({"--log-level", "warn"}).log_level == "warn");
  CHECK(options({"-v"}).log_level == "debug");
  CHECK(options({"--verbose"}).log_level == "debug");
  CHECK(options({"-v", "-v"}).log_level == "debug");
  CHECK(options({"-v", "--log-level", "error"}).log_level == "debug");
  CHECK(options({"--log-level", "error", "-v"}).log_level == "debug");
}

TEST_CASE("numbers are plain decimal digits", "[options]") {
  CHECK(options({"--port", "010"}).port == 10);
  CHECK(options({"--port", "0"}).port == 0);
  CHECK(options({"--port", "65535"}).port == 65535);
  for (const char* bad : {"0x10", "+5", "-5", "1e3", "65536", "99999999999999999999999", "", " 5",
                          "5 ", "5.0", "abc", "0b1", "1'000", "١"}) {
    CAPTURE(bad);
    CHECK(usage_error({"--port", bad}) == "--port '" + std::string(bad) + "': must be 0 to 65535");
  }
  CHECK(options({"--max-connections", "0100000"}).max_connections == 100'000);
  CHECK(options({"--max-connections", "5000000000"}).max_connections == 5'000'000'000);
  CHECK(usage_error({"--max-connections", "0"}) == "--max-connections '0': must be 1 or more");
}

TEST_CASE("a size may have a unit of 1024", "[options]") {
  for (const char* size : {"65536", "64k", "64K", "64kb", "64KB", "64KiB", "64kib", "0064k"})
    CHECK(options({"--chunk-size", size}).chunk_size == 65'536);
  for (const char* size : {"1M", "1m", "1MB", "1MiB", "1024k", "1048576"})
    CHECK(options({"--chunk-size", size}).chunk_size == 1'048'576);
  CHECK(options({"--chunk-size", "1"}).chunk_size == 1);
  CHECK(options({"--chunk-size", "16M"}).chunk_size == 16'777'216);
  for (const char* bad : {"0", "0k", "17M", "16777217", "1G", "k", "64 k", "64kk", "0x10", "1.5k",
                          "-1", "18014398509481984k", "18446744073709551615M"}) {
    CAPTURE(bad);
    CHECK(contains(usage_error({"-c", bad}), "--chunk-size '" + std::string(bad) + "': must be 1"));
  }
}

TEST_CASE("a number of bytes or clients may be never", "[options]") {
  for (const char* text : {"never", "NEVER", "Never"}) {
    CHECK(options({"--close-after", text}).close_after == never);
    CHECK(options({"--reset-after", text}).reset_after == never);
    CHECK(options({"--exit-after", text}).exit_after == never);
    CHECK(usage_error({"--chunk-size", text}) != "no error");
  }
  CHECK(options({"--close-after", "0"}).close_after == 0);
  CHECK(options({"--reset-after", "1T"}).reset_after == 1ULL << 40);
  CHECK(options({"--reset-after", "1024GiB"}).reset_after == 1ULL << 40);
  CHECK(options({"--reset-after", "3gb"}).reset_after == 3ULL << 30);
  CHECK(options({"--reset-after", "1TiB"}).reset_after == 1ULL << 40);
  for (const char* bad : {"2T", "1025G", "1099511627777", "-1", "nev", "never1", "", "0x1"})
    CHECK(usage_error({"--close-after", bad}) ==
          "--close-after '" + std::string(bad) +
              "': must be 0 to 1T, such as 100 or 64k, or never");
  for (const char* bad : {"0", "1k", "-1", "", "5x"})
    CHECK(usage_error({"--exit-after", bad}) ==
          "--exit-after '" + std::string(bad) + "': must be 1 or more, or never");
}

TEST_CASE("a close and a reset exclude each other, wherever they come from", "[options]") {
  const std::string either = ": only one of them can be used";
  CHECK(usage_error({"--close-after", "1", "--reset-after", "2k"}) ==
        "--close-after '1' and --reset-after '2k'" + either);
  CHECK(options({"--close-after", "1", "--reset-after", "never"}).close_after == 1);
  const Environment close{{"ECHO_SERVER_CLOSE_AFTER", "0"}};
  CHECK(usage_error({"--reset-after", "0"}) ==
        "ECHO_SERVER_CLOSE_AFTER '0' and --reset-after '0'" + either);
  CHECK(options({"--reset-after", "7", "--close-after", "never"}).reset_after == 7);
  CHECK(contains(information({"--reset-after", "0", "--help"}), "--max-connections N"));
  const Environment reset{{"ECHO_SERVER_RESET_AFTER", "3"}};
  CHECK(usage_error({}) == "ECHO_SERVER_CLOSE_AFTER '0' and ECHO_SERVER_RESET_AFTER '3'" + either);
  CHECK(options({"--close-after", "never"}).reset_after == 3);
}

TEST_CASE("a time has a unit or is a number of seconds", "[options]") {
  const auto time = [](const char* text) { return options({"--idle-timeout", text}).idle_timeout; };
  CHECK(time("500ms") == milliseconds(500));
  CHECK(time("500MS") == milliseconds(500));
  CHECK(time("30s") == milliseconds(30'000));
  CHECK(time("5m") == milliseconds(300'000));
  CHECK(time("1h") == milliseconds(3'600'000));
  CHECK(time("2") == milliseconds(2000));
  CHECK(time("0") == milliseconds(0));
  CHECK(time("0ms") == milliseconds(0));
  CHECK(time("010s") == milliseconds(10'000));
  for (const char* bad : {"0.5s", "1d", "s", "-1s", "1 s", "1e3", "5mm", "99999999999999999999h",
                          "9999999999h", ""}) {
    CAPTURE(bad);
    CHECK(contains(usage_error({"--drain-timeout", bad}),
                   "--drain-timeout '" + std::string(bad) +
                       "': must be a time such as 500ms, 30s, 5m or 1h, or"));
    CHECK(contains(usage_error({"--idle-timeout", bad}), "--idle-timeout '"));
  }
}

TEST_CASE("a level may be in any case", "[options]") {
  CHECK(options({"--log-level", "WARN"}).log_level == "warn");
  CHECK(options({"--log-level", "Trace"}).log_level == "trace");
  CHECK(options({"--log-level", "oFF"}).log_level == "off");
  for (const char* bad : {"bogus", "", "warning", "1", "critical", "info "})
    CHECK(usage_error({"--log-level", bad}) == "--log-level '" + std::string(bad) +
                                                   "': must be trace, debug, info, warn, error or "
                                                   "off");
}

TEST_CASE("a usage error names what was wrong", "[options]") {
  CHECK(contains(usage_error({"--bogus"}), "--bogus"));
  CHECK(contains(usage_error({"stray"}), "stray"));
  CHECK(contains(usage_error({"--", "stray"}), "stray"));
  CHECK(contains(usage_error({"--port"}), "--port"));
  CHECK(contains(usage_error({"--host", ""}), "--host '': must be an IPv4 or IPv6 address"));
  CHECK(contains(usage_error({"--verbose=1"}), "verbose"));
  CHECK(contains(usage_error({"-v", "--log-level", "loud"}), "--log-level 'loud': must be trace"));
}

TEST_CASE("of an option given twice the last one counts", "[options]") {
  CHECK(options({"--port", "1", "-p", "2"}).port == 2);
  CHECK(options({"--port", "bogus", "-p", "2"}).port == 2);
}

TEST_CASE("each option has its environment variable, and a flag beats it", "[options]") {
  const Environment environment{
      {"ECHO_SERVER_HOST", "::1"},        {"ECHO_SERVER_PORT", "81"},
      {"ECHO_SERVER_CHUNK_SIZE", "1k"},   {"ECHO_SERVER_MAX_CONNECTIONS", "3"},
      {"ECHO_SERVER_IDLE_TIMEOUT", "1m"}, {"ECHO_SERVER_DRAIN_TIMEOUT", "2ms"},
      {"ECHO_SERVER_LOG_LEVEL", "ERROR"}, {"ECHO_SERVER_DELAY", "3s"},
      {"ECHO_SERVER_CLOSE_AFTER", "4"},   {"ECHO_SERVER_RESET_AFTER", "never"},
      {"ECHO_SERVER_EXIT_AFTER", "5"}};
  const echo::Options from_environment = options({});
  CHECK(from_environment.host == "::1");
  CHECK(from_environment.port == 81);
  CHECK(from_environment.chunk_size == 1024);
  CHECK(from_environment.max_connections == 3);
  CHECK(from_environment.idle_timeout == milliseconds(60'000));
  CHECK(from_environment.drain_timeout == milliseconds(2));
  CHECK(from_environment.log_level == "error");
  CHECK(from_environment.delay == milliseconds(3000));
  CHECK(from_environment.close_after == 4);
  CHECK(from_environment.reset_after == never);
  CHECK(from_environment.exit_after == 5);
  CHECK(options({"--port", "82"}).port == 82);
  CHECK(options({"-v"}).log_level == "debug");
  CHECK(options({"--log-level", "off"}).log_level == "off");
}

TEST_CASE("an empty variable is as good as none", "[options]") {
  const Environment environment{{"ECHO_SERVER_PORT", ""}, {"ECHO_SERVER_HOST", ""}};
  CHECK(options({}).port == 10000);
  CHECK(options({}).host == "0.0.0.0");
}

TEST_CASE("a bad variable is an error that names it, unless a flag makes it irrelevant",
          "[options]") {
  const Environment environment{{"ECHO_SERVER_PORT", "http"}, {"ECHO_SERVER_LOG_LEVEL", "loud"}};
  CHECK(usage_error({"-v"}) == "ECHO_SERVER_PORT 'http': must be 0 to 65535");
  CHECK(contains(usage_error({"-p", "1"}), "ECHO_SERVER_LOG_LEVEL 'loud'"));
  CHECK(options({"-p", "1", "-v"}).port == 1);
}

TEST_CASE("help and version work whatever else is wrong", "[options]") {
  const Environment environment{{"ECHO_SERVER_PORT", "http"}};
  CHECK(information({"--version"}) == "echo-server " ECHO_SERVER_VERSION "\n");
  for (const std::vector<const char*>& arguments :
       std::initializer_list<std::vector<const char*>>{{"--help"},
                                                       {"-h"},
                                                       {"-vh"},
                                                       {"--bogus", "--help"},
                                                       {"--help", "--bogus", "stray"},
                                                       {"--port", "bogus", "-h"},
                                                       {"--help", "--port"},
                                                       {"--port", "--help"},
                                                       {"-p", "-h"},
                                                       {"-v", "--log-level", "info", "-h"},
                                                       {"--help", "--version"}})
    CHECK(contains(information(arguments), "--max-connections N"));
  CHECK(information({"--port", "x", "--version"}) == "echo-server " ECHO_SERVER_VERSION "\n");
}

TEST_CASE("help shows every option with its default and its variable", "[options]") {
  const std::string help = information({"--help"});
  // Each version of CLI11 has a layout of its own: PORT=10000, or PORT [10000].
  for (const auto& [option, value, variable] :
       {std::tuple("--host HOST", "0.0.0.0", "HOST"),
        std::tuple("-p, *--port PORT", "10000", "PORT"),
        std::tuple("-c, *--chunk-size SIZE", "16", "CHUNK_SIZE"),
        std::tuple("--max-connections N", "1024", "MAX_CONNECTIONS"),
        std::tuple("--idle-timeout TIME", "0", "IDLE_TIMEOUT"),
        std::tuple("--drain-timeout TIME", "5s", "DRAIN_TIMEOUT"),
        std::tuple("--delay TIME", "0", "DELAY"),
        std::tuple("--close-after SIZE", "never", "CLOSE_AFTER"),
        std::tuple("--reset-after SIZE", "never", "RESET_AFTER"),
        std::tuple("--exit-after N", "never", "EXIT_AFTER"),
        std::tuple("--log-level LEVEL", "info", "LOG_LEVEL")}) {
    CAPTURE(option);
    CHECK(std::regex_search(help, std::regex(std::string(option) + "(=| \\[)" + value +
                                             "\\]? +\\(Env:ECHO_SERVER_" + variable + "\\)")));
  }
  for (const char* flag : {"-v, *--verbose", "--version", "-h, *--help"}) {
    CAPTURE(flag);
    CHECK(std::regex_search(help, std::regex(flag)));
  }
}
