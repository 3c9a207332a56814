#include "echo/log.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"

namespace echo {
namespace {

std::string_view variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool wants_colour() {
  const std::string_view terminal = variable("TERM");
  return ::isatty(STDERR_FILENO) == 1 && !terminal.empty() && terminal != "dumb" &&
         variable("NO_COLOR").empty();
}

/// Grey, cyan, green, yellow, red, green (console_codes(4)), for the levels from trace on.
constexpr std::array colours = {"\033[90m", "\033[36m", "\033[32m",
                                "\033[33m", "\033[31m", "\033[32m"};

/// A pipe or terminal opened once more, so that O_NONBLOCK is ours alone: others may share the
/// descriptor that we were given (open(2), "Open file descriptions"). Empty for a file, which has
/// room at once, and where that is not allowed.
UniqueFd reopen_stderr() {
  if (::lseek(STDERR_FILENO, 0, SEEK_CUR) != -1)
    return UniqueFd();
  constexpr int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  UniqueFd reopened(::open("/proc/self/fd/2", flags));
  // Another user's terminal, as after su(1), can still be opened as that of the session.
  if (!reopened && ::tcgetsid(STDERR_FILENO) == ::getsid(0))
    reopened = UniqueFd(::open("/dev/tty", flags));
  return reopened;
}

/// Writes what stderr takes without waiting; spdlog's own sinks wait for the reader of a pipe.
class StderrSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  StderrSink() { rest_.reserve(4096); }  // Memory may be what is missing.

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    write_rest();
    if (!rest_.empty() || !write(message))
      ++dropped_;
  }

  void flush_() override {}

 private:
  /// Makes the line in `rest_`, where there is room without more memory. Returns whether stderr
  /// took the line, or its beginning.
  bool write(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (dropped_ > 0)
      fmt::format_to(std::back_inserter(rest_), "[{} line{} dropped here: nobody read them]\n",
                     dropped_, plural(dropped_));
    const std::size_t start = rest_.size();
    rest_.append(line.data(), line.size());
    if (colour_) {
      rest_.insert(start + message.color_range_end, "\033[0m");
      rest_.insert(start + message.color_range_start,
                   colours.at(static_cast<std::size_t>(message.level)));
    }
    const bool is_taken = write_rest();
    if (is_taken)
      dropped_ = 0;
    else
      rest_.clear();
    return is_taken;
  }

  /// Writes as much of `rest_` as stderr has room for. Returns whether it took anything; a write
  /// that fails counts as no room.
  bool write_rest() {
    // What could not be opened again is asked first. (A terminal may still take a part, and wait.)
    pollfd ready{STDERR_FILENO, POLLOUT, 0};
    if (rest_.empty() || (!reopened_ && retry([&] { return ::poll(&ready, 1, 0); }) != 1))
      return false;
    const int fd = reopened_ ? reopened_.get() : STDERR_FILENO;
    const auto written = retry([&] { return ::write(fd, rest_.data(), rest_.size()); });
    if (written > 0)
      rest_.erase(0, static_cast<std::size_t>(written));
    return written > 0;
  }

  const UniqueFd reopened_ = reopen_stderr();
  const bool colour_ = wants_colour();
  std::string rest_;  ///< What stderr has not yet taken of a line: a terminal may take a part.
  std::uint64_t dropped_ = 0;
};

}  // namespace

void set_up_log(const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("", std::make_shared<StderrSink>());
  logger->set_pattern(::isatty(STDERR_FILENO) == 1 ? "[%H:%M:%S.%e] [%^%l%$] %v"
                                                   : "[%Y-%m-%d %H:%M:%S.%e] [%^%l%$] %v");
  logger->set_error_handler([](const std::string&) {});  // Without memory a line is lost.
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(logger));
}

std::string escaped(std::string_view text) {
  const std::string quoted = fmt::format("{:?}", text);
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace echo
