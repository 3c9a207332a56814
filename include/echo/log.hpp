#pragma once

#include <string>
#include <string_view>

namespace echo {

/// Makes sure that descriptors 0 to 2 are open, before the first other one is: otherwise a client's
/// socket could become "stderr", and the log be sent to it. A write to one that was closed fails.
void hold_standard_streams();

/// Sends spdlog's default logger to stderr, from `level` up, in colour on a terminal that knows it
/// unless NO_COLOR is set. Logging never waits for a reader: what stderr does not take is kept as
/// far as a small buffer goes and dropped beyond. Any thread may log.
void set_up_log(const std::string& level);

/// Logs `line` whatever the level, unless it is off.
void log_at_any_level(std::string_view line);

}  // namespace echo
