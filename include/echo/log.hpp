// The log: spdlog, set up to write to stderr without ever waiting for a reader.
#pragma once

#include <string>
#include <string_view>

namespace echo {

/// Sends spdlog's default logger to stderr, from `level` up, in colour on a terminal that knows it
/// unless NO_COLOR is set and not empty. Logging never waits for a reader: what stderr does not
/// take is kept as far as a small buffer goes and dropped beyond. Any thread may log.
void set_up_log(const std::string& level);

/// Logs `line` whatever the level, unless it is off.
void log_at_any_level(std::string_view line);

}  // namespace echo
