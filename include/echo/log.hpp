// The log: spdlog, set up to write to stderr without ever waiting for a reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace echo {

/// Sends spdlog's default logger to stderr, from `level` up. On a terminal in colour, unless TERM
/// is empty or "dumb", or NO_COLOR is set and not empty. A line for which stderr has no room at
/// once is dropped and counted. Any thread may log. A line at spdlog's level "critical" is logged
/// whatever `level` is, unless "off", and is called "info".
void set_up_log(const std::string& level);

/// `text` on one line and harmless to a terminal: control characters, invalid UTF-8, quotes and
/// backslashes are written as escape sequences.
std::string escaped(std::string_view text);

/// What a noun ends with behind `count`: 1 byte, 2 bytes.
constexpr const char* plural(std::uint64_t count) {
  return count == 1 ? "" : "s";
}

}  // namespace echo
