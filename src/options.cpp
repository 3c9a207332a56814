#include "echo/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace echo {
namespace {

using Unit = std::pair<std::string_view, std::uint64_t>;
constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M, T = 1024 * G;
constexpr Unit no_units[] = {{"", 1}};
constexpr Unit size_units[] = {{"", 1},   {"k", K},   {"kb", K}, {"kib", K}, {"m", M},
                               {"mb", M}, {"mib", M}, {"g", G},  {"gb", G},  {"gib", G},
                               {"t", T},  {"tb", T},  {"tib", T}};
constexpr Unit time_units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

/// The text that an option is set to, and the option or variable that it comes from.
struct Value {
  std::string source, text;
  bool is_missing = false;  ///< The option was the last argument, or another option follows it.

  bool is(std::string_view word) const { return lower(text) == word; }
  std::string shown() const {
    return is_missing ? "missing value for " + source : source + " '" + text + "'";
  }
  [[noreturn]] void reject(const std::string& accepted) const {
    throw UsageError(shown() + ": must be " + accepted);
  }
};

/// Plain decimal digits, followed by one of `units`.
template <typename Number = std::uint64_t>
Number parse_number(const Value& value, std::uint64_t min, std::uint64_t max,
                    const std::string& accepted, std::span<const Unit> units = no_units) {
  std::uint64_t digits = 0;
  const char* const end = value.text.data() + value.text.size();
  const auto [rest, error] = std::from_chars(value.text.data(), end, digits);
  const auto unit = std::ranges::find(units, lower({rest, end}), &Unit::first);
  if (error != std::errc() || unit == units.end() || digits > max / unit->second ||
      digits * unit->second < min)
    value.reject(accepted);
  return static_cast<Number>(digits * unit->second);
}

std::chrono::milliseconds parse_time(const Value& value, const std::string& or_never = "") {
  const std::string accepted = "a time such as 500ms, 30s, 5m or 1h, a whole number of seconds" +
                               or_never + ", at most 100000h";
  return std::chrono::milliseconds(
      parse_number(value, 0, 100'000 * 3'600'000ULL, accepted, time_units));
}

std::uint64_t parse_limit(const Value& value) {
  return value.is("never") ? Options::never
                           : parse_number(value, 0, T, "0 to 1T, or never", size_units);
}

std::uint64_t parse_count(const Value& value, const std::string& word) {
  return value.is(word) ? Options::never
                        : parse_number(value, 1, INT64_MAX, "1 or more, or " + word);
}

std::string parse_host(const Value& value) {
  std::string host = value.text;
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  // A single colon, or one after a bracket, separates a port. A slash is part of a URL. A number
  // alone would be an IPv4 address to getaddrinfo, but is meant as a port.
  const bool is_number = host.find_first_not_of("0123456789") == host.npos;
  if (is_number || std::ranges::count(host, ':') == 1 || host.find_first_of("/]*") != host.npos)
    value.reject(
        "an IPv4 or IPv6 address or a host name (:: or 0.0.0.0 for all addresses; "
        "give the port with --port)");
  return host;
}

std::string parse_level(const Value& value) {
  const auto levels = {"trace", "debug", "info", "warn", "error", "off"};
  std::string level = value.is("warning") ? "warn" : lower(value.text);
  if (std::ranges::count(levels, level) == 0)
    value.reject("trace, debug, info, warn, error or off");
  return level;
}

std::string parse_text(const Value& value) {
  if (value.is_missing)
    value.reject("a text");
  return value.text;
}

// What an option was set to, as the log names it. Empty if that changes nothing.

std::string in_words(std::chrono::milliseconds time) {
  if (time.count() == 0)
    return "";
  return time.count() % 1000 == 0 ? std::to_string(time.count() / 1000) + " s"
                                  : std::to_string(time.count()) + " ms";
}

std::string in_words(std::uint64_t number, const std::string& unit) {
  if (number == Options::never)
    return "";
  return std::to_string(number) + ' ' + unit + (number == 1 ? "" : "s");
}

/// Everything about an option except what it does.
struct Row {
  std::string_view names;
  std::string_view placeholder = "";  ///< Empty for a flag, which takes no value.
  std::string_view default_value = "";
  std::string_view help;  ///< Lines of at most 52 columns.
  void (*set)(Options&, const Value&) = nullptr;
  /// For the options that make the server misbehave: what they are set to, for the log.
  std::string (*fault)(const Options&) = nullptr;
  bool is_limit = false;  ///< Only one of these can be used.

  std::string long_name() const { return std::string(names.substr(names.find("--"))); }
  /// The environment variable of --chunk-size is ECHO_SERVER_CHUNK_SIZE.
  std::string variable() const {
    std::string name = "ECHO_SERVER" + long_name().substr(1);
    for (char& c : name)
      c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return name;
  }
};

constexpr Row general_options[] = {
    {.names = "--host",
     .placeholder = "HOST",
     .default_value = "0.0.0.0",
     .help = "Listen on this address or name; :: is IPv6 and IPv4",
     .set = [](Options& o, const Value& v) { o.host = parse_host(v); }},
    {.names = "-p,--port",
     .placeholder = "PORT",
     .default_value = "10000",
     .help = "Listen on this port; 0 picks a free one",
     .set =
         [](Options& o, const Value& v) {
           o.port = parse_number<std::uint16_t>(v, 0, 65535, "0 to 65535");
         }},
    {.names = "-c,--chunk-size",
     .placeholder = "SIZE",
     .default_value = "16",
     .help = "Read at most SIZE bytes at a time (1 to 16M)",
     .set =
         [](Options& o, const Value& v) {
           o.chunk_size =
               parse_number<std::size_t>(v, 1, 16 * M, "1 to 16M, such as 64k", size_units);
         }},
    {.names = "--max-connections",
     .placeholder = "N",
     .default_value = "1024",
     .help = "Serve at most N connections at a time; others wait\n"
             "(with 0, not even connecting gets an answer)",
     .set =
         [](Options& o, const Value& v) {
           o.max_connections = parse_number<std::size_t>(v, 0, INT32_MAX, "0 to 2147483647");
         },
     .fault = [](const Options& o) { return std::string(o.max_connections == 0 ? "0" : ""); }},
    {.names = "--idle-timeout",
     .placeholder = "TIME",
     .default_value = "never",
     .help = "Close connections that are idle for TIME",
     .set =
         [](Options& o, const Value& v) {
           o.idle_timeout =
               v.is("never") ? std::chrono::milliseconds() : parse_time(v, ", or never");
         }},
    {.names = "--drain-timeout",
     .placeholder = "TIME",
     .default_value = "5s",
     .help = "On shutdown, give connections TIME to finish",
     .set = [](Options& o, const Value& v) { o.drain_timeout = parse_time(v); }},
    {.names = "--greeting",
     .placeholder = "TEXT",
     .default_value = "",
     .help = "Send TEXT and a newline first; {client} and\n"
             "{server} are replaced by the two addresses",
     .set = [](Options& o, const Value& v) { o.greeting = parse_text(v); }},
    {.names = "--log-level",
     .placeholder = "LEVEL",
     .default_value = "info",
     .help = "trace, debug, info, warn, error or off",
     .set = [](Options& o, const Value& v) { o.log_level = parse_level(v); }},
    {.names = "-v,--verbose", .help = "Log every chunk; same as --log-level debug"},
    {.names = "-h,--help", .help = "Print this help"},
    {.names = "--version", .help = "Print the version"},
};

constexpr Row test_options[] = {
    {.names = "--delay",
     .placeholder = "TIME",
     .default_value = "0",
     .help = "Wait TIME before sending back each chunk",
     .set = [](Options& o, const Value& v) { o.delay = parse_time(v); },
     .fault = [](const Options& o) { return in_words(o.delay); }},
    {.names = "--close-after",
     .placeholder = "SIZE",
     .default_value = "never",
     .help = "Send back SIZE bytes, then close (client sees EOF)",
     .set = [](Options& o, const Value& v) { o.close_after = parse_limit(v); },
     .fault = [](const Options& o) { return in_words(o.close_after, "byte"); },
     .is_limit = true},
    {.names = "--reset-after",
     .placeholder = "SIZE",
     .default_value = "never",
     .help = "Send back SIZE bytes, then reset the connection",
     .set = [](Options& o, const Value& v) { o.reset_after = parse_limit(v); },
     .fault = [](const Options& o) { return in_words(o.reset_after, "byte"); },
     .is_limit = true},
    {.names = "--stall-after",
     .placeholder = "SIZE",
     .default_value = "never",
     .help = "Send back SIZE bytes, then nothing more",
     .set = [](Options& o, const Value& v) { o.stall_after = parse_limit(v); },
     .fault = [](const Options& o) { return in_words(o.stall_after, "byte"); },
     .is_limit = true},
    {.names = "--only-first",
     .placeholder = "N",
     .default_value = "all",
     .help = "Apply the four options above to the first N\n"
             "connections only",
     .set = [](Options& o, const Value& v) { o.only_first = parse_count(v, "all"); },
     .fault = [](const Options& o) { return in_words(o.only_first, "connection"); }},
    {.names = "--exit-after",
     .placeholder = "N",
     .default_value = "never",
     .help = "Serve N connections, then exit with status 0, or\n"
             "with 3 if one failed or timed out",
     .set = [](Options& o, const Value& v) { o.exit_after = parse_count(v, "never"); },
     .fault = [](const Options& o) { return in_words(o.exit_after, "connection"); }},
};

struct Group {
  std::string_view title;
  std::span<const Row> rows;
};
constexpr Group groups[] = {{"Options:", general_options}, {"To test a client:", test_options}};

constexpr std::string_view help_intro =
    R"(Usage: echo-server [OPTION]...
TCP echo server for testing network clients. It sends back what it receives,
until Ctrl+C stops it.
)";
constexpr std::string_view help_footer = R"(
TIME is a number with a unit (500ms, 30s, 5m, 1h) or a number of seconds. SIZE
is a number of bytes or has a unit (64k, 1M, 2G, 1T). Brackets show the default
and the environment variable. An option overrides its variable.

Examples:
  echo-server --chunk-size 7 --delay 20ms     Reply in small pieces
  echo-server --chunk-size 64k --delay 100ms  Add 100 ms of latency
  echo-server --stall-after 100               Stop in the middle of a reply

SIGINT (Ctrl+C) and SIGTERM shut the server down; SIGUSR1 logs totals.
See also: man echo-server
)";

std::string help_for(const Row& row) {
  constexpr std::size_t indent = 28;
  const std::size_t comma = row.names.find(',');
  std::string line =
      comma == row.names.npos ? "      " : "  " + std::string(row.names.substr(0, comma)) + ", ";
  line += row.long_name() + ' ' + std::string(row.placeholder);
  line.resize(indent, ' ');
  for (const char c : row.help)
    line += c == '\n' ? c + std::string(indent, ' ') : std::string(1, c);
  line += '\n';
  if (row.placeholder.empty())
    return line;
  const std::string_view value = row.default_value.empty() ? "none" : row.default_value;
  return line + std::string(indent, ' ') + '[' + std::string(value) + ", " + row.variable() + "]\n";
}

std::string help() {
  std::string text(help_intro);
  for (const Group& group : groups) {
    text += '\n' + std::string(group.title) + '\n';
    for (const Row& row : group.rows)
      text += help_for(row);
  }
  return text + std::string(help_footer);
}

/// The command line, as CLI11 splits it into options and values, and the environment. CLI11 could
/// do more, but from version 2.1.2 to 2.7 not everything that it does is right for this program:
/// - `envname`: up to 2.3.2, an error names the option instead of the variable and prevents --help;
///   from 2.4.0 on, a wrong value in the environment is silently ignored.
/// - Typed options and `AsNumberWithUnit` read 010 as 8, and accept 0x10 and "64 k".
/// - `excludes` only sees that an option is present, so that `--reset-after never` would clash.
/// - `set_help_flag`: up to 2.4.2, `--port x --help` is an error.
/// - `Formatter` and `footer` lay text out differently in different versions.
class CommandLine {
 public:
  CommandLine(int argc, const char* const* argv) {
    app_.set_help_flag();
    app_.allow_extras();
    app_.option_defaults()->take_last();
    for (const Group& group : groups)
      for (const Row& row : group.rows)
        if (row.placeholder.empty())
          app_.add_flag(std::string(row.names));
        else  // An option without a value is not CLI11's error, but ours.
          app_.add_option(std::string(row.names))->expected(0, 1)->default_str(missing);

    std::vector<std::string> arguments;
    for (const std::string argument : std::span(argv + 1, argv + argc))
      add(arguments, argument);
    std::ranges::reverse(arguments);  // CLI11 takes them from the end.
    app_.parse(std::move(arguments));
  }

  bool has(const std::string& option) const { return app_.count(option) > 0; }

  Value value(const Row& row) const {
    const std::string name = row.long_name();
    if (has(name)) {
      const std::string text = app_.get_option(name)->results().back();
      return text == missing ? Value{name, "", true} : Value{name, text};
    }
    const char* const text = std::getenv(row.variable().c_str());
    const bool is_overridden = name == "--log-level" && has("--verbose");
    // Kubernetes sets ECHO_SERVER_PORT=tcp://10.0.0.7:10000 for a Service named echo-server.
    if (text == nullptr || *text == '\0' || std::string_view(text).starts_with("tcp://") ||
        is_overridden)
      return {name, std::string(row.default_value)};
    return {row.variable(), text};
  }

  /// Throws for the first argument that belongs to no option.
  void check() const {
    if (!misuse_.empty())
      throw UsageError(misuse_);
    for (const std::string& argument : app_.remaining()) {
      if (argument == "--")
        continue;
      if (argument.size() > 1 && argument.starts_with('-'))
        throw UsageError("unknown option '" + argument + "'");
      const bool is_number = argument.find_first_not_of("0123456789") == argument.npos;
      throw UsageError(
          "unexpected argument '" + argument + "': " +
          (is_number && !argument.empty()
               ? "use --port " + argument
               : "use --host HOST and --port PORT; a value is one word, such as 100ms"));
    }
  }

 private:
  /// Adds an argument for CLI11, or notes a misuse that CLI11 would misunderstand.
  void add(std::vector<std::string>& arguments, const std::string& argument) {
    for (const Group& group : groups)
      for (const Row& row : group.rows) {
        const std::string name = row.long_name();
        if (argument == name + '=' && !row.placeholder.empty()) {
          // CLI11 would take the next argument as the value.
          arguments.insert(arguments.end(), {name, ""});
          return;
        }
        if (argument.starts_with(name + '=') && row.placeholder.empty())
          misuse_ = "'" + argument + "': " + name + " takes no value";
        // CLI11 would read -host as -h, which asks for help.
        else if (argument == name.substr(1) || argument.starts_with(name.substr(1) + '='))
          misuse_ = "'" + argument + "': use two dashes, as in -" + argument;
        else
          continue;
        return;
      }
    arguments.push_back(argument);
  }

  static const inline std::string missing{'\0'};  ///< No argument can contain this character.

  CLI::App app_;
  std::string misuse_;
};

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  const CommandLine line(argc, argv);
  Options options;
  if (line.has("--help") || line.has("--version")) {
    options.information = line.has("--help") ? help() : "echo-server " ECHO_SERVER_VERSION "\n";
    return options;
  }
  std::string limit;
  for (const Group& group : groups)
    for (const Row& row : group.rows) {
      if (row.set == nullptr)
        continue;
      const Value value = line.value(row);
      row.set(options, value);
      if (row.is_limit && !value.is("never")) {
        if (!limit.empty())
          throw UsageError(limit + " and " + value.shown() + " cannot be used together");
        limit = value.shown();
      }
      const std::string fault = row.fault != nullptr ? row.fault(options) : "";
      if (!fault.empty())
        options.faults += (options.faults.empty() ? "" : ", ") + row.long_name() + ' ' + fault;
    }
  if (line.has("--verbose"))
    options.log_level = "debug";
  line.check();
  return options;
}

}  // namespace echo
