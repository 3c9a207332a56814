#include "echo/options.hpp"

#include <cctype>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "echo/command_line.hpp"
#include "echo/value.hpp"

namespace echo {
namespace {

std::uint64_t parse_limit(const Value& value) {
  return value.is("never") ? Options::never : parse_size(value, 0, 1ULL << 40, "0 to 1T, or never");
}

std::uint64_t parse_count(const Value& value, const std::string& word) {
  return value.is(word) ? Options::never
                        : parse_number(value, 1, INT64_MAX, "1 or more, or " + word);
}

using O = Options&;
using V = const Value&;
/// A limit is a test option as well, but only one of the limits can be used.
enum class Group { general, test, limit };
using enum Group;

/// All that there is to know about an option, except what it does. The command line, the
/// environment and the help are read from this table.
struct Row {
  Group group;
  std::string_view names, placeholder, default_value;
  std::string_view help;  ///< Lines of at most 52 columns.
  void (*set)(O, V);      ///< Stores a value. Null for a flag, which takes no value.
  /// For an option that tests a client: what it is set to, as the log names it, or an empty string
  /// if it is not set.
  std::string (*test_setting)(const Options&) = nullptr;

  std::string long_name() const { return std::string(names.substr(names.find("--"))); }
  std::string variable() const;
};

constexpr Row rows[] = {
    {general, "--host", "HOST", "0.0.0.0", "Listen on this address or name; :: for IPv6 and IPv4",
     [](O o, V v) { o.host = parse_host(v); }},
    {general, "-p,--port", "PORT", "10000", "Listen on this port; 0 picks a free one",
     [](O o, V v) {
       o.port = static_cast<std::uint16_t>(parse_number(v, 0, 65535, "0 to 65535"));
     }},
    {general, "-c,--chunk-size", "SIZE", "16", "Read at most SIZE bytes at a time (1 to 16M)",
     [](O o, V v) {
       o.chunk_size = static_cast<std::size_t>(parse_size(v, 1, 1 << 24, "1 to 16M, such as 64k"));
     }},
    {general, "--max-connections", "N", "1024",
     "Serve at most N connections at a time; others wait\n"
     "(with 0, even connection attempts get no answer)",
     [](O o, V v) {
       o.max_connections =
           static_cast<std::size_t>(parse_number(v, 0, INT32_MAX, "0 to 2147483647"));
     },
     // With 0, this general option tests a client, too.
     [](const Options& o) { return std::string(o.max_connections == 0 ? "0" : ""); }},
    {general, "--idle-timeout", "TIME", "never", "Close connections that are idle for TIME",
     [](O o, V v) {
       o.idle_timeout = v.is("never") ? std::chrono::milliseconds() : parse_time(v, ", or never");
     }},
    {general, "--drain-timeout", "TIME", "5s", "On shutdown, give connections TIME to finish",
     [](O o, V v) { o.drain_timeout = parse_time(v); }},
    {general, "--greeting", "TEXT", "",
     "Send TEXT and a newline first; {client} and\n{server} are replaced by their addresses",
     [](O o, V v) { o.greeting = parse_text(v); }},
    {general, "--log-level", "LEVEL", "info", "trace, debug, info, warn, error or off",
     [](O o, V v) { o.log_level = parse_level(v); }},
    {general, "-v,--verbose", "", "", "Log every chunk; same as --log-level debug", nullptr},
    {general, "-h,--help", "", "", "Print this help", nullptr},
    {general, "--version", "", "", "Print the version", nullptr},

    {test, "--delay", "TIME", "0", "Wait TIME before sending back each chunk",
     [](O o, V v) { o.delay = parse_time(v); }, [](const Options& o) { return in_words(o.delay); }},
    {limit, "--close-after", "SIZE", "never", "Send back SIZE bytes, then close (client sees EOF)",
     [](O o, V v) { o.close_after = parse_limit(v); },
     [](const Options& o) { return in_words(o.close_after, "byte"); }},
    {limit, "--reset-after", "SIZE", "never", "Send back SIZE bytes, then reset the connection",
     [](O o, V v) { o.reset_after = parse_limit(v); },
     [](const Options& o) { return in_words(o.reset_after, "byte"); }},
    {limit, "--stall-after", "SIZE", "never", "Send back SIZE bytes, then nothing more",
     [](O o, V v) { o.stall_after = parse_limit(v); },
     [](const Options& o) { return in_words(o.stall_after, "byte"); }},
    {test, "--only-first", "N", "all",
     "Apply the four options above to the first N\nconnections only",
     [](O o, V v) { o.only_first = parse_count(v, "all"); },
     [](const Options& o) { return in_words(o.only_first, "connection"); }},
    {test, "--exit-after", "N", "never",
     "Serve N connections, then exit with status 0, or\nwith 3 if any failed or timed out",
     [](O o, V v) { o.exit_after = parse_count(v, "never"); },
     [](const Options& o) { return in_words(o.exit_after, "connection"); }},
};

/// ECHO_SERVER_CHUNK_SIZE for --chunk-size.
std::string Row::variable() const {
  std::string name = "ECHO_SERVER" + long_name().substr(1);
  for (char& c : name)
    c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

constexpr std::string_view help_intro =
    R"(Usage: echo-server [OPTION]...
TCP echo server for testing network clients. It sends back what it receives
until you stop it with Ctrl+C.
)";
constexpr std::string_view help_footer = R"(
TIME is a whole number, in seconds or with a unit (500ms, 30s, 5m, 1h). SIZE is
a number, in bytes or with a unit (64k, 1M, 2G, 1T). Brackets show the default
and the environment variable, which an option on the command line overrides.

Examples:
  echo-server --chunk-size 7 --delay 20ms     Reply in small pieces
  echo-server --chunk-size 64k --delay 100ms  Add 100 ms of latency
  echo-server --stall-after 100               Stop in the middle of a reply

SIGINT (Ctrl+C) and SIGTERM shut the server down; SIGUSR1 makes it log totals.
See also: man echo-server
)";

/// An option in the help: its names, its text, and in brackets its default and its variable.
std::string help_for(const Row& row) {
  constexpr std::size_t indent = 28;
  const std::size_t comma = row.names.find(',');
  std::string line = "      ";
  if (comma != row.names.npos)
    line = "  " + std::string(row.names.substr(0, comma)) + ", ";
  line += row.long_name() + ' ' + std::string(row.placeholder);
  line.resize(indent, ' ');
  std::string text(row.help);
  if (row.set != nullptr)
    text += "\n[" + std::string(row.default_value.empty() ? "none" : row.default_value) + ", " +
            row.variable() + ']';
  for (const char c : text + '\n') {
    line += c;
    if (c == '\n')
      line.append(indent, ' ');
  }
  line.resize(line.size() - indent);
  return line;
}

std::string help() {
  std::string text(help_intro);
  for (const bool is_general : {true, false}) {
    text += is_general ? "\nOptions:\n" : "\nTo test a client:\n";
    for (const Row& row : rows)
      if ((row.group == general) == is_general)
        text += help_for(row);
  }
  return text + std::string(help_footer);
}

Value value_of(const Row& row, const CommandLine& line) {
  const std::string name = row.long_name();
  if (line.has(name))
    return line.value(name);
  const char* const text = std::getenv(row.variable().c_str());
  // --verbose overrides the variable, even a wrong one.
  const bool is_overridden = name == "--log-level" && line.has("--verbose");
  // Kubernetes sets ECHO_SERVER_PORT=tcp://10.0.0.7:10000 for a Service named echo-server.
  if (text == nullptr || *text == '\0' || std::string_view(text).starts_with("tcp://") ||
      is_overridden)
    return {name, std::string(row.default_value)};
  return {row.variable(), text};
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  std::vector<CommandLine::Option> known;
  for (const Row& row : rows)
    known.push_back({row.names, row.set != nullptr});
  const CommandLine line(known, argc, argv);

  Options options;
  if (line.has("--help") || line.has("--version")) {
    options.information = line.has("--help") ? help() : "echo-server " ECHO_SERVER_VERSION "\n";
    return options;
  }
  std::string used_limit;
  for (const Row& row : rows) {
    if (row.set == nullptr)
      continue;
    const Value value = value_of(row, line);
    row.set(options, value);
    if (row.group == limit && !value.is("never")) {
      if (!used_limit.empty())
        throw UsageError(used_limit + " and " + value.shown() + " cannot be used together");
      used_limit = value.shown();
    }
    const std::string test_setting = row.test_setting != nullptr ? row.test_setting(options) : "";
    if (!test_setting.empty())
      options.test_settings +=
          (options.test_settings.empty() ? "" : ", ") + row.long_name() + ' ' + test_setting;
  }
  if (line.has("--verbose"))
    options.log_level = "debug";
  line.check();
  return options;
}

}  // namespace echo
