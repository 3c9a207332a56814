#include "echo/value.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace echo {
namespace {

constexpr Unit no_unit[] = {{"", 1}};
constexpr std::uint64_t k = 1024, m = 1024 * k, g = 1024 * m, t = 1024 * g;
constexpr Unit size_units[] = {{"", 1},   {"k", k},   {"kb", k}, {"kib", k}, {"m", m},
                               {"mb", m}, {"mib", m}, {"g", g},  {"gb", g},  {"gib", g},
                               {"t", t},  {"tb", t},  {"tib", t}};
constexpr std::uint64_t hour = 3'600'000;  // In milliseconds, as the following.
constexpr Unit time_units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", hour}};

}  // namespace

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool Value::is(std::string_view word) const {
  return lower(text) == word;
}

std::string Value::shown() const {
  return is_missing ? "missing value for " + source : source + " '" + text + "'";
}

void Value::reject(const std::string& accepted) const {
  throw UsageError(shown() + ": must be " + accepted);
}

std::uint64_t parse_number(const Value& value, std::uint64_t min, std::uint64_t max,
                           const std::string& accepted, std::span<const Unit> units) {
  if (units.empty())
    units = no_unit;
  std::uint64_t digits = 0;
  const char* const end = value.text.data() + value.text.size();
  const auto [rest, error] = std::from_chars(value.text.data(), end, digits);
  const auto unit = std::ranges::find(units, lower(std::string(rest, end)), &Unit::first);
  if (error != std::errc() || unit == units.end() || digits > max / unit->second ||
      digits * unit->second < min)
    value.reject(accepted);
  return digits * unit->second;
}

std::uint64_t parse_size(const Value& value, std::uint64_t min, std::uint64_t max,
                         const std::string& accepted) {
  return parse_number(value, min, max, accepted, size_units);
}

std::chrono::milliseconds parse_time(const Value& value, const std::string& or_never) {
  const std::string accepted = "a time such as 500ms, 30s, 5m or 1h, a whole number of seconds" +
                               or_never + " (at most 100000h)";
  return std::chrono::milliseconds(parse_number(value, 0, 100'000 * hour, accepted, time_units));
}

std::string parse_host(const Value& value) {
  std::string host = value.text;
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  // A single colon, or one after a bracket, separates a port. A slash is part of a URL. A number
  // alone would be an IPv4 address to getaddrinfo, but is meant as a port, and * as all addresses.
  const bool is_number = host.find_first_not_of("0123456789") == host.npos;
  if (host.empty() || is_number || std::ranges::count(host, ':') == 1 ||
      host.find_first_of("/]*") != host.npos)
    value.reject(
        "an IPv4 or IPv6 address or a host name (:: or 0.0.0.0 for all addresses; "
        "give the port with --port)");
  return host;
}

std::string parse_text(const Value& value) {
  if (value.is_missing)
    value.reject("a text");
  return value.text;
}

std::string parse_level(const Value& value) {
  const auto levels = {"trace", "debug", "info", "warn", "error", "off"};
  std::string level = value.is("warning") ? "warn" : lower(value.text);
  if (std::ranges::count(levels, level) == 0)
    value.reject("trace, debug, info, warn, error or off");
  return level;
}

std::string in_words(std::chrono::milliseconds time) {
  if (time.count() == 0)
    return "";
  return time.count() % 1000 == 0 ? std::to_string(time.count() / 1000) + " s"
                                  : std::to_string(time.count()) + " ms";
}

std::string in_words(std::uint64_t number, const std::string& unit) {
  if (number == never)
    return "";
  return std::to_string(number) + ' ' + unit + (number == 1 ? "" : "s");
}

std::string replaced(std::string text, std::string_view placeholder, std::string_view value) {
  for (auto at = text.find(placeholder); at != text.npos;
       at = text.find(placeholder, at + value.size()))
    text.replace(at, placeholder.size(), value);
  return text;
}

}  // namespace echo
