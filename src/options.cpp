#include "echo/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <string_view>
#include <vector>

namespace echo {
namespace {

using std::chrono::milliseconds;
using Units = std::map<std::string, std::uint64_t>;

const Units no_units = {{"", 1}};
const Units size_units = {{"", 1},
                          {"k", 1024},
                          {"kb", 1024},
                          {"kib", 1024},
                          {"m", 1024 * 1024},
                          {"mb", 1024 * 1024},
                          {"mib", 1024 * 1024}};
const Units time_units = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};

struct BadValue {};

/// Plain decimal digits with one of `units` behind them. CLI11 would take 010 for 8, and +5 for 5.
std::uint64_t parse_number(const std::string& text, std::uint64_t min, std::uint64_t max,
                           const Units& units) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const auto unit = units.find(std::string(rest, end));
  if (error != std::errc() || unit == units.end() || number > max / unit->second ||
      number * unit->second < min)
    throw BadValue();
  return number * unit->second;
}

milliseconds parse_time(const std::string& text) {
  const std::uint64_t most = 1'000'000 * time_units.at("h");
  return milliseconds(parse_number(text, 0, most, time_units));
}

std::string to_lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

std::string parse_level(const std::string& text) {
  constexpr std::string_view levels[] = {"trace", "debug", "info", "warn", "error", "off"};
  std::string level = to_lower(text);
  if (std::find(std::begin(levels), std::end(levels), level) == std::end(levels))
    throw BadValue();
  return level;
}

/// One option: all that --help says of it, and where its value goes.
struct Setting {
  const char* flags;
  const char* placeholder;
  const char* variable;
  const char* default_value;
  const char* accepts;
  const char* description;
  std::function<void(const std::string&)> set;  ///< Throws BadValue.
  CLI::Option* option = nullptr;
};

std::vector<Setting> settings_of(Options& options) {
  return {
      {"--host", "HOST", "ECHO_SERVER_HOST", "0.0.0.0", "an IPv4 or IPv6 address, or a name",
       "listen on this address or name; :: serves IPv6 and IPv4",
       [&options](const std::string& text) {
         if (text.empty())
           throw BadValue();
         options.host = text;
       }},
      {"-p,--port", "PORT", "ECHO_SERVER_PORT", "10000", "0 to 65535",
       "listen on this port, 0 to 65535; 0 lets the system pick one",
       [&options](const std::string& text) {
         options.port = static_cast<std::uint16_t>(parse_number(text, 0, 65535, no_units));
       }},
      {"-c,--chunk-size", "SIZE", "ECHO_SERVER_CHUNK_SIZE", "16", "1 to 16M",
       "take at most so many bytes by one recv: 1 to 16M, 64k, 64KiB",
       [&options](const std::string& text) {
         options.chunk_size = parse_number(to_lower(text), 1, 16 * size_units.at("m"), size_units);
       }},
      {"--max-connections", "N", "ECHO_SERVER_MAX_CONNECTIONS", "1024", "1 or more",
       "serve so many at once, 1 or more; further clients wait",
       [&options](const std::string& text) {
         const std::uint64_t most = std::numeric_limits<std::int64_t>::max();
         options.max_connections = parse_number(text, 1, most, no_units);
       }},
      {"--idle-timeout", "TIME", "ECHO_SERVER_IDLE_TIMEOUT", "0",
       "a time: 500ms, 30s, 5m, 1h or a number of seconds",
       "close a connection on which nothing could be received, or\nsent, for so long; 500ms, 30s, "
       "5m, "
       "1h or a number of seconds;\n0 is never",
       [&options](const std::string& text) { options.idle_timeout = parse_time(text); }},
      {"--drain-timeout", "TIME", "ECHO_SERVER_DRAIN_TIMEOUT", "5s",
       "a time: 500ms, 30s, 5m, 1h or a number of seconds",
       "give open connections so long to finish after a stop signal;\n0 cuts them at once",
       [&options](const std::string& text) { options.drain_timeout = parse_time(text); }},
      {"--log-level", "LEVEL", "ECHO_SERVER_LOG_LEVEL", "info",
       "trace, debug, info, warn, error or off", "trace, debug, info, warn, error or off",
       [&options](const std::string& text) { options.log_level = parse_level(text); }},
  };
}

void set(const Setting& setting, const std::string& source, const std::string& value) {
  try {
    setting.set(value);
  } catch (const BadValue&) {
    throw UsageError(source + " '" + value + "': must be " + setting.accepts);
  }
}

/// --help and --version work whatever else is wrong, so they are looked for first, by a parser that
/// knows nothing else but -v, which can stand before them in one word.
Information find_request(int argc, const char* const* argv, const CLI::App& app) {
  CLI::App requests;
  requests.allow_extras();
  requests.set_help_flag();
  requests.add_flag("-v");
  const auto* const help = requests.add_flag("-h,--help")->disable_flag_override();
  const auto* const version = requests.add_flag("--version")->disable_flag_override();
  requests.parse(argc, argv);
  if (help->count() > 0)
    return app.help();
  return version->count() > 0 ? "echo-server " ECHO_SERVER_VERSION "\n" : "";
}

}  // namespace

std::variant<Options, Information> parse_options(int argc, const char* const* argv) {
  Options options;
  std::vector<Setting> settings = settings_of(options);

  CLI::App app("Sends back to each TCP client every byte that it sends. Ctrl+C stops it.",
               "echo-server");
  app.set_help_flag();
  for (Setting& setting : settings) {
    const std::string description = std::string(setting.description) + "\n(default " +
                                    setting.default_value + ", environment " + setting.variable +
                                    ")";
    setting.option = app.add_option(setting.flags, description)->type_name(setting.placeholder);
    setting.option->take_last();
  }
  const auto* const verbose = app.add_flag("-v,--verbose")
                                  ->disable_flag_override()
                                  ->description("the same as --log-level debug: show every chunk");
  app.add_flag("--version")->description("print the version and exit");
  app.add_flag("-h,--help")->description("print this help and exit");

  try {
    if (Information request = find_request(argc, argv, app); !request.empty())
      return request;
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }

  if (verbose->count() > 0) {
    CLI::Option* const log_level = settings.back().option;
    if (log_level->count() > 0)
      throw UsageError("--verbose and --log-level: only one of them can be given");
    log_level->add_result("debug");
  }
  for (const Setting& setting : settings) {
    const char* const variable = std::getenv(setting.variable);
    if (setting.option->count() > 0)
      set(setting, setting.option->get_name(), setting.option->results().back());
    else if (variable != nullptr && *variable != '\0')
      set(setting, setting.variable, variable);
    else
      set(setting, "default", setting.default_value);
  }
  return options;
}

}  // namespace echo
