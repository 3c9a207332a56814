// The log: spdlog, set up to write to stderr without ever waiting for a reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace echo {

/// Sends what spdlog logs at `level` or above to stderr. Any thread may log. A line is dropped and
/// counted if stderr has no room for it. Lines start with the time of day on a terminal, with their
/// syslog priority in the systemd journal (sd-daemon(3)), and with date and time elsewhere. Levels
/// are coloured on a terminal, unless TERM is empty or "dumb" or NO_COLOR is set and not empty.
void set_up_log(const std::string& level);

/// Logs `line` as "info", at every level except "off".
void log_unless_off(std::string_view line);

/// Whether stderr is connected to the systemd journal: JOURNAL_STREAM then names its device and
/// inode (systemd.exec(5)).
bool is_stderr_journal();

/// `text` on one line and harmless to a terminal: control characters, invalid UTF-8, quotes and
/// backslashes are written as escape sequences.
std::string escaped(std::string_view text);

/// The ending of a noun after `count`: 1 byte, 2 bytes.
constexpr const char* plural(std::uint64_t count) {
  return count == 1 ? "" : "s";
}

}  // namespace echo
