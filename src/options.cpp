#include "echo/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace echo {
namespace {

using Unit = std::pair<std::string_view, std::uint64_t>;
constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M, T = 1024 * G;
constexpr Unit counts[] = {{"", 1}};
constexpr Unit sizes[] = {{"", 1},   {"k", K},   {"kb", K}, {"kib", K}, {"m", M},
                          {"mb", M}, {"mib", M}, {"g", G},  {"gb", G},  {"gib", G},
                          {"t", T},  {"tb", T},  {"tib", T}};
constexpr Unit times[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

/// What an option is set to, and the flag or variable that says so.
struct Value {
  std::string source, text;

  std::string shown() const { return source + " '" + text + "'"; }
  [[noreturn]] void reject(const std::string& accepts) const {
    throw UsageError(shown() + ": must be " + accepts);
  }
};

/// The command line as CLI11 splits it, and the environment.
class Input {
 public:
  Input(int argc, const char* const* argv) : arguments_(argv + 1, argv + argc) {
    app_.set_help_flag();
    app_.allow_extras();
    app_.option_defaults()->take_last();
    for (const char* const names : {"--host", "-p,--port", "-c,--chunk-size", "--max-connections",
                                    "--idle-timeout", "--drain-timeout", "--delay", "--close-after",
                                    "--reset-after", "--only-first", "--exit-after", "--log-level"})
      app_.add_option(names)->expected(0, 1);  // Without a value it is an empty value.
    for (const char* const names : {"-v,--verbose", "--version", "-h,--help"})
      app_.add_flag(names);
    app_.parse(argc, argv);
  }

  bool has(const char* flag) const { return app_.count(flag) > 0; }

  Value value(const std::string& name, const char* default_value) const {
    // CLI11 would take the next argument for the value of --host=.
    if (std::ranges::count(arguments_, name + '=') > 0)
      return {name, ""};
    if (has(name.c_str()))
      return {name, app_.get_option(name)->results().back()};
    std::string variable = "ECHO_SERVER" + name.substr(1);
    for (char& c : variable)
      c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
    const char* const text = std::getenv(variable.c_str());
    // Kubernetes sets ECHO_SERVER_PORT=tcp://10.0.0.7:10000 for a service called echo-server.
    if (text == nullptr || *text == '\0' || std::string_view(text).starts_with("tcp://"))
      return {name, default_value};
    return {variable, text};
  }

  /// Throws for what belongs to no option.
  void check() const {
    for (const std::string_view argument : arguments_)
      if (argument.starts_with("--verbose="))
        throw UsageError("'" + std::string(argument) + "': --verbose takes no value");
    for (const std::string& rest : app_.remaining())
      if (rest != "--")
        throw UsageError("unexpected '" + rest + "': use --host ADDRESS, --port PORT");
  }

 private:
  CLI::App app_;
  std::span<const char* const> arguments_;
};

/// Plain decimal digits and a unit. CLI11 alone would take 010 for 8.
template <typename Number = std::uint64_t>
Number parse_number(const Value& value, std::uint64_t min, std::uint64_t max,
                    const std::string& accepts, std::span<const Unit> units = counts) {
  std::uint64_t digits = 0;
  const char* const end = value.text.data() + value.text.size();
  const auto [rest, error] = std::from_chars(value.text.data(), end, digits);
  const auto unit = std::ranges::find(units, lower({rest, end}), &Unit::first);
  if (error != std::errc() || unit == units.end() || digits > max / unit->second ||
      digits * unit->second < min)
    value.reject(accepts);
  return static_cast<Number>(digits * unit->second);
}

std::chrono::milliseconds parse_time(const Value& value, const std::string& or_never = "") {
  const std::string accepts = "a time such as 500ms, 30s, 5m or 1h, or whole seconds" + or_never;
  return std::chrono::milliseconds(
      parse_number(value, 0, 100'000 * 3'600'000ULL, accepts, times));  // 100,000 h.
}

std::uint64_t parse_limit(const Value& value) {
  return lower(value.text) == "never" ? Options::never
                                      : parse_number(value, 0, T, "0 to 1T, or never", sizes);
}

std::uint64_t parse_clients(const Value& value, const std::string& word) {
  return lower(value.text) == word ? Options::never
                                   : parse_number(value, 1, INT64_MAX, "1 or more, or " + word);
}

std::string parse_host(const Value& value) {
  std::string host = value.text;
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  // A single colon, or one after a bracket, stands before a port; a slash is part of a URL.
  if (host.empty() || std::ranges::count(host, ':') == 1 || host.find_first_of("/]") != host.npos)
    value.reject("an IPv4 or IPv6 address, or a name; the port is given by --port");
  return host;
}

std::string parse_level(const Value& value) {
  const auto levels = {"trace", "debug", "info", "warn", "error", "off"};
  std::string level = lower(value.text) == "warning" ? "warn" : lower(value.text);
  if (std::ranges::count(levels, level) == 0)
    value.reject("trace, debug, info, warn, error or off");
  return level;
}

constexpr const char* help =
#include "help.txt"
    ;

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  const Input input(argc, argv);
  Options options;
  if (input.has("--help") || input.has("--version")) {
    options.information = input.has("--help") ? help : "echo-server " ECHO_SERVER_VERSION "\n";
    return options;
  }
  options.host = parse_host(input.value("--host", "0.0.0.0"));
  options.port =
      parse_number<std::uint16_t>(input.value("--port", "10000"), 0, 65535, "0 to 65535");
  options.chunk_size = parse_number<std::size_t>(input.value("--chunk-size", "16"), 1, 16 * M,
                                                 "1 to 16M, such as 64k", sizes);
  options.max_connections = parse_number<std::size_t>(input.value("--max-connections", "1024"), 1,
                                                      INT32_MAX, "1 to 2147483647");
  if (const Value idle = input.value("--idle-timeout", "never"); lower(idle.text) != "never")
    options.idle_timeout = parse_time(idle, ", or never");
  options.drain_timeout = parse_time(input.value("--drain-timeout", "5s"));
  options.delay = parse_time(input.value("--delay", "0"));
  const Value close = input.value("--close-after", "never");
  const Value reset = input.value("--reset-after", "never");
  options.close_after = parse_limit(close);
  options.reset_after = parse_limit(reset);
  if (options.close_after != Options::never && options.reset_after != Options::never)
    throw UsageError(close.shown() + " and " + reset.shown() + ": only one of them can be used");
  options.only_first = parse_clients(input.value("--only-first", "all"), "all");
  options.exit_after = parse_clients(input.value("--exit-after", "never"), "never");
  // --verbose beats the variable, even a wrong one.
  if (!input.has("--verbose") || input.has("--log-level"))
    options.log_level = parse_level(input.value("--log-level", "info"));
  if (input.has("--verbose"))
    options.log_level = "debug";
  input.check();
  return options;
}

}  // namespace echo
