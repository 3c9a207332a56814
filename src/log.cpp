#include "echo/log.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spdlog/common.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"

namespace echo {
namespace {

std::string_view variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

bool wants_colour() {
  const std::string_view terminal = variable("TERM");
  return is_terminal() && !terminal.empty() && terminal != "dumb" && variable("NO_COLOR").empty();
}

const char* pattern() {
  if (is_stderr_journal())
    return "%l %v";
  return is_terminal() ? "%H:%M:%S.%e %^%l%$ %v" : "%Y-%m-%d %H:%M:%S.%e %^%l%$ %v";
}

/// What the levels from trace to error look like: grey, cyan, green, yellow, red
/// (console_codes(4)), and their syslog priorities (sd-daemon(3)).
struct Appearance {
  std::string_view colour, priority;
};
constexpr std::array<Appearance, 5> appearances = {{{"\033[90m", "<7>"},
                                                    {"\033[36m", "<7>"},
                                                    {"\033[32m", "<6>"},
                                                    {"\033[33m", "<4>"},
                                                    {"\033[31m", "<3>"}}};

/// Opens a pipe or terminal once more, to set O_NONBLOCK without setting it for the other programs
/// that share the given descriptor (open(2), "Open file descriptions"). Returns nothing for a file,
/// which never blocks, and where the system does not permit it.
UniqueFd reopen_stderr() {
  if (::lseek(STDERR_FILENO, 0, SEEK_CUR) != -1)
    return UniqueFd();
  constexpr int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  UniqueFd reopened(::open("/proc/self/fd/2", flags));
  // If stderr is the controlling terminal, it has another name, under which it can be opened even
  // if it belongs to another user, as after su(1).
  if (!reopened && ::tcgetsid(STDERR_FILENO) == ::getsid(0))
    reopened = UniqueFd(::open("/dev/tty", flags));
  return reopened;
}

/// Writes to stderr as much as there is room for. spdlog's own sinks would wait for the reader of a
/// full pipe. So would its thread pool, which joins its writer at the end of the program.
class StderrSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  StderrSink() { unsent_.reserve(4096); }  // A line about missing memory should not need any.

 protected:
  /// Between two calls, unsent_ is empty, or it is the rest of a line that was begun.
  void sink_it_(const spdlog::details::log_msg& message) override {
    write_unsent();
    if (!unsent_.empty()) {  // There is still no room.
      ++dropped_;
      return;
    }
    if (dropped_ > 0)
      append_dropped();
    append(message);
    const std::size_t size = unsent_.size();
    write_unsent();
    const bool has_begun = unsent_.size() < size;
    if (has_begun) {
      dropped_ = 0;
    } else {
      unsent_.clear();
      ++dropped_;
    }
  }

  void flush_() override {}

 private:
  /// Not inlined: its buffer would then be on the stack at every line, and make each worker touch
  /// one more page of its stack.
  [[gnu::noinline]] void append_dropped() {
    fmt::memory_buffer text;
    fmt::format_to(std::back_inserter(text),
                   "{} line{} dropped here: the log was not read fast enough", dropped_,
                   plural(dropped_));
    const spdlog::string_view_t view(text.data(), text.size());
    append(spdlog::details::log_msg("", spdlog::level::warn, view));
  }

  void append(const spdlog::details::log_msg& message) {
    const Appearance& appearance = appearances.at(static_cast<std::size_t>(message.level));
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (is_journal_)
      unsent_ += appearance.priority;
    const std::size_t start = unsent_.size();
    unsent_.append(line.data(), line.size());
    if (is_coloured_) {
      unsent_.insert(start + message.color_range_end, "\033[0m");
      unsent_.insert(start + message.color_range_start, appearance.colour);
    }
  }

  /// Writes as much of `unsent_` as stderr has room for. A write that fails counts as no room.
  void write_unsent() {
    while (!unsent_.empty()) {
      pollfd writable{STDERR_FILENO, POLLOUT, 0};
      if (!reopened_ && retry([&] { return ::poll(&writable, 1, 0); }) != 1)
        return;
      const int fd = reopened_ ? reopened_.get() : STDERR_FILENO;
      const std::size_t size = std::min(unsent_.size(), max_write_);
      const auto written = retry([&] { return ::write(fd, unsent_.data(), size); });
      if (written <= 0)
        return;
      unsent_.erase(0, static_cast<std::size_t>(written));
    }
  }

  const UniqueFd reopened_ = reopen_stderr();
  /// A descriptor that is shared may block. What poll(2) promises then is room for PIPE_BUF bytes
  /// in a pipe, and for one byte in a terminal.
  const std::size_t max_write_ = reopened_ ? SIZE_MAX : is_terminal() ? 1 : PIPE_BUF;
  const bool is_coloured_ = wants_colour();
  const bool is_journal_ = is_stderr_journal();
  std::string unsent_;
  std::uint64_t dropped_ = 0;
};

std::shared_ptr<spdlog::logger> always_logger;

}  // namespace

void set_up_log(const std::string& level) {
  const auto sink = std::make_shared<StderrSink>();
  const auto make_logger = [&](const std::string& name, spdlog::level::level_enum from) {
    auto logger = std::make_shared<spdlog::logger>(name, sink);
    logger->set_level(from);
    logger->set_error_handler([](const std::string&) {});  // Without memory, a line is lost.
    return logger;
  };
  const spdlog::level::level_enum from = spdlog::level::from_str(level);
  sink->set_pattern(pattern());
  spdlog::set_default_logger(make_logger("", from));
  always_logger = make_logger("always", from == spdlog::level::off ? from : spdlog::level::trace);
}

void log_unless_off(std::string_view line) {
  always_logger->info("{}", line);
}

bool is_stderr_journal() {
  struct stat file {};
  return ::fstat(STDERR_FILENO, &file) == 0 &&
         variable("JOURNAL_STREAM") == fmt::format("{}:{}", file.st_dev, file.st_ino);
}

std::string escaped(std::string_view text) {
  const std::string quoted = fmt::format("{:?}", text);
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace echo
