#include "echo/recurring_error.hpp"

#include <spdlog/spdlog.h>

#include <new>
#include <system_error>
#include <utility>

namespace echo {
namespace {

constexpr std::chrono::seconds pause_between_reports(5);

/// Without the action, which what() of a system_error may begin with.
std::string_view reason_of(const std::exception& error, std::string_view action) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr)
    return "out of memory";
  std::string_view text = error.what();
  if (text.starts_with(action))
    text.remove_prefix(action.size() + 2);
  return text;
}

bool is_descriptor_limit(const std::exception& error) {
  const auto* const system_error = dynamic_cast<const std::system_error*>(&error);
  return system_error != nullptr && system_error->code() == std::errc::too_many_files_open;
}

}  // namespace

void RecurringError::report(std::string_view action, const std::exception& error,
                            std::string_view remedy) {
  const auto now = Clock::now();
  if (last_report_ && now - *last_report_ < pause_between_reports)
    return;
  spdlog::error(
      "cannot {}: {};{} {}", action, reason_of(error, action),
      is_descriptor_limit(error) ? " the limit of open files (ulimit -n) is reached;" : "", remedy);
  last_report_ = now;
  reported_ = true;
}

void RecurringError::end(std::string_view good_news) {
  if (std::exchange(reported_, false))
    spdlog::error(good_news);
}

}  // namespace echo
