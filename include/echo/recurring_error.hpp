// An error that comes back until its cause is gone, and how often the log is told.
#pragma once

#include <chrono>
#include <exception>
#include <optional>
#include <string_view>

namespace echo {

/// An error that comes back until its cause is gone: the log is told at once, then at most every
/// five seconds, and when it is over. Not for several threads at a time.
class RecurringError {
 public:
  /// Logs "cannot <action>: <reason>; <remedy>". Allocates nothing: memory may be what is missing.
  void report(std::string_view action, const std::exception& error, std::string_view remedy);

  /// Logs `good_news` if an error was reported since the last time.
  void end(std::string_view good_news);

 private:
  using Clock = std::chrono::steady_clock;

  bool reported_ = false;
  std::optional<Clock::time_point> last_report_;
};

}  // namespace echo
