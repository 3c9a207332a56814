// The log: spdlog, set up to write to stderr without ever waiting for a reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace echo {

/// Sends what spdlog logs at `level` or above to stderr; in colour on a terminal, unless TERM is
/// empty or "dumb", or NO_COLOR is set and not empty. A line for which stderr has no room at once
/// is dropped and counted. Any thread may log. The level "critical" is for what is logged at every
/// level but "off"; it is shown as "info" (SPDLOG_LEVEL_NAMES in CMakeLists.txt).
void set_up_log(const std::string& level);

/// `text` on one line and harmless to a terminal: control characters, invalid UTF-8, quotes and
/// backslashes are written as escape sequences.
std::string escaped(std::string_view text);

/// What a noun ends with after `count`: 1 byte, 2 bytes.
constexpr const char* plural(std::uint64_t count) {
  return count == 1 ? "" : "s";
}

}  // namespace echo
