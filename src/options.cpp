#include "echo/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <optional>
#include <span>

namespace echo {
namespace {

using Unit = std::pair<std::string_view, std::uint64_t>;
constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M, T = 1024 * G;
constexpr Unit size_units[] = {{"", 1},   {"k", K},   {"kb", K}, {"kib", K}, {"m", M},
                               {"mb", M}, {"mib", M}, {"g", G},  {"gb", G},  {"gib", G},
                               {"t", T},  {"tb", T},  {"tib", T}};
constexpr Unit time_units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
constexpr Unit no_units[] = {{"", 1}};

/// Returns a function that reads plain decimal digits and a unit, and gives nothing for a wrong
/// value. CLI11 alone would take 010 for 8.
auto number(std::uint64_t min, std::uint64_t max, std::span<const Unit> units = no_units,
            bool or_never = false) {
  return [=](const std::string& text) -> std::optional<std::uint64_t> {
    if (or_never && CLI::detail::to_lower(text) == "never")
      return UINT64_MAX;
    std::uint64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    const auto unit = std::ranges::find(units, CLI::detail::to_lower({rest, end}), &Unit::first);
    if (error != std::errc() || unit == units.end() || number > max / unit->second ||
        number * unit->second < min)
      return std::nullopt;
    return number * unit->second;
  };
}

std::optional<std::string> level(const std::string& text) {
  const std::string level = CLI::detail::to_lower(text);
  const auto levels = {"trace", "debug", "info", "warn", "error", "off"};
  return std::ranges::count(levels, level) > 0 ? std::optional(level) : std::nullopt;
}

/// The flag or variable that an option's value came from, and the value.
std::string source(const CLI::App& app, const CLI::Option* option) {
  const bool is_typed = std::ranges::count(app.parse_order(), option) > 0;
  return (is_typed ? option->get_name() : option->get_envname()) + " '" + option->results().back() +
         "'";
}

/// Adds an option whose environment variable is ECHO_SERVER_ and its long name.
template <typename Field, typename Read>
CLI::Option* add(CLI::App& app, const std::string& names, Field& field, const char* placeholder,
                 const char* default_value, const Read& read, const std::string& accepts,
                 const std::string& description) {
  const std::string name = names.substr(names.find("--"));
  std::string variable = "ECHO_SERVER" + name.substr(1);
  std::ranges::transform(variable, variable.begin(), [](char c) {
    return c == '-' ? '_' : static_cast<char>(std::toupper(c));
  });
  const auto set = [&app, &field, name, read, accepts](const std::string& text) {
    const std::optional value = read(text);
    if (!value || text.empty())
      throw UsageError(source(app, app.get_option(name)) + ": must be " + accepts);
    field = static_cast<Field>(*value);
  };
  return app.add_option_function<std::string>(names, set, description + " (" + accepts + ")")
      ->type_name(placeholder)
      ->envname(variable)
      ->run_callback_for_default()
      ->default_val(default_value);
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  CLI::App app("Sends back to each TCP client every byte that it sends. Ctrl+C stops it.",
               "echo-server");
  app.option_defaults()->take_last();
  const auto time = number(0, 3'600'000'000'000, time_units);  // At most a million hours.
  const std::string times = "a time such as 500ms, 30s, 5m or 1h, or a whole number of seconds";
  add(app, "--host", options.host, "HOST", "0.0.0.0", std::identity(),
      "an IPv4 or IPv6 address, or a name", "Listen on this address; :: serves IPv6 and IPv4");
  add(app, "-p,--port", options.port, "PORT", "10000", number(0, 65535), "0 to 65535",
      "Listen on this port; 0 lets the system pick a free one");
  add(app, "-c,--chunk-size", options.chunk_size, "SIZE", "16", number(1, 16 * M, size_units),
      "1 to 16M, such as 64k or 64KiB", "Take at most SIZE bytes by one recv");
  add(app, "--max-connections", options.max_connections, "N", "1024", number(1, INT64_MAX),
      "1 or more", "Serve at most N at once; further clients wait");
  add(app, "--idle-timeout", options.idle_timeout, "TIME", "0", time, times,
      "Close a connection whose client sends nothing, or takes\nnothing, for TIME; 0 is never");
  add(app, "--drain-timeout", options.drain_timeout, "TIME", "5s", time, times,
      "Give open connections TIME to finish after a stop signal;\n0 cuts them at once");
  add(app, "--delay", options.delay, "TIME", "0", time, times,
      "Wait for TIME before each chunk goes back");
  const std::string sizes = "0 to 1T, such as 100 or 64k, or never";
  const auto bytes = number(0, T, size_units, true);
  const auto* const close = add(app, "--close-after", options.close_after, "SIZE", "never", bytes,
                                sizes, "Send end of file once SIZE bytes have gone back");
  const auto* const reset = add(app, "--reset-after", options.reset_after, "SIZE", "never", bytes,
                                sizes, "Reset the connection once SIZE bytes have gone back");
  add(app, "--exit-after", options.exit_after, "N", "never", number(1, INT64_MAX, no_units, true),
      "1 or more, or never", "Serve N clients, then exit with 0, or with 3 if one failed");
  add(app, "--log-level", options.log_level, "LEVEL", "info", level,
      "trace, debug, info, warn, error or off", "Log from this level on");
  // A flag beats a variable, even a wrong one.
  const auto forget_variable = [&app] { app.get_option("--log-level")->envname(""); };
  const auto* const verbose = app.add_flag_callback("-v,--verbose", forget_variable)
                                  ->trigger_on_parse()
                                  ->disable_flag_override()
                                  ->description("The same as --log-level debug, and stronger");
  const auto* const version = app.set_version_flag("--version", "", "Print the version and exit");
  const auto* const help = app.set_help_flag("-h,--help", "Print this help and exit");

  // Also in the place of another flag's value.
  const auto is_asked = [&](const CLI::Option* flag) {
    return flag->count() > 0 ||
           std::any_of(argv, argv + argc, std::bind_front(&CLI::Option::check_name, flag));
  };
  try {
    app.parse(argc, argv);
    if (std::max(options.close_after, options.reset_after) != UINT64_MAX)
      throw UsageError(source(app, close) + " and " + source(app, reset) +
                       ": only one of them can be used");
  } catch (const std::runtime_error& error) {
    if (is_asked(help))
      options.information = app.help();
    else if (is_asked(version))
      options.information = "echo-server " ECHO_SERVER_VERSION "\n";
    else
      throw UsageError(error.what());
  }
  if (verbose->count() > 0)
    options.log_level = "debug";
  return options;
}

}  // namespace echo
