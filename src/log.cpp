#include "echo/log.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "echo/unique_fd.hpp"

namespace echo {
namespace {

/// The name of a second logger, for lines that the level does not hold back.
constexpr const char* any_level = "any level";

bool wants_colour() {
  const auto variable = [](const char* name) -> std::string_view {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  return ::isatty(STDERR_FILENO) == 1 && !variable("TERM").empty() && variable("TERM") != "dumb" &&
         variable("NO_COLOR").empty();
}

/// A pipe or terminal opened once more, so that O_NONBLOCK is ours alone: others may share the
/// descriptor that we were given (open(2), "Open file descriptions"). Empty for anything else, or
/// where that is not allowed.
UniqueFd reopen_stderr() {
  struct stat status {};
  if (::fstat(STDERR_FILENO, &status) == -1 ||
      !(S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)))
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
  StderrSink() {
    // A burst of lines then need not be dropped because its reader is a little late (pipe(7)).
    ::fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 20);
    // Memory may be what is missing when there is something to say.
    pending_.reserve(most_kept + PIPE_BUF);
  }

  ~StderrSink() override {
    // A last chance for a reader who is slow but there.
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
    while (!pending_.empty() && std::chrono::steady_clock::now() < end) {
      is_ready(100);
      write_pending();
    }
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    write_pending();
    if (pending_.size() + line.size() > most_kept) {
      ++dropped_;
      return;
    }
    if (dropped_ > 0)
      pending_ += fmt::format("[{} lines dropped here: nobody read them]\n", dropped_);
    dropped_ = 0;
    append(line, message);
    write_pending();
  }

  void flush_() override {}

 private:
  void append(const spdlog::memory_buf_t& line, const spdlog::details::log_msg& message) {
    const std::string_view text(line.data(), line.size());
    if (!colour_) {
      pending_ += text;
      return;
    }
    constexpr std::array colours = {"\033[37m",   "\033[36m",   "\033[32m", "\033[33;1m",
                                    "\033[31;1m", "\033[31;1m", "\033[0m"};
    const std::size_t start = message.color_range_start;
    const std::size_t end = message.color_range_end;
    pending_ += text.substr(0, start);
    pending_ += colours.at(static_cast<std::size_t>(message.level));
    pending_ += text.substr(start, end - start);
    pending_ += "\033[0m";
    pending_ += text.substr(end);
  }

  bool is_ready(int milliseconds) const {
    pollfd stderr_ready{fd(), POLLOUT, 0};
    return ::poll(&stderr_ready, 1, milliseconds) == 1;
  }

  void write_pending() {
    // What could not be reopened is asked first: a pipe that is ready takes PIPE_BUF bytes.
    while (!pending_.empty() && (reopened_ || is_ready(0))) {
      // Whole lines, so that none is cut where the reader gives up.
      const std::size_t most = std::min<std::size_t>(pending_.size(), PIPE_BUF);
      const std::size_t end = pending_.rfind('\n', most - 1);
      const auto written = ::write(fd(), pending_.data(), end == pending_.npos ? most : end + 1);
      if (written >= 0)
        pending_.erase(0, static_cast<std::size_t>(written));
      else if (errno == EAGAIN)
        return;
      else if (errno != EINTR)
        pending_.clear();  // Closed, full disk: nobody will ever read it.
    }
  }

  int fd() const { return reopened_ ? reopened_.get() : STDERR_FILENO; }

  static constexpr std::size_t most_kept = 65'536;
  const UniqueFd reopened_ = reopen_stderr();
  const bool colour_ = wants_colour();
  std::string pending_;  ///< What stderr has not taken yet.
  std::size_t dropped_ = 0;
};

}  // namespace

void set_up_log(const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("", std::make_shared<StderrSink>());
  logger->set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%^%l%$] %v");
  logger->set_level(spdlog::level::from_str(level));
  auto status = logger->clone(any_level);
  if (status->level() != spdlog::level::off)
    status->set_level(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
  spdlog::register_logger(std::move(status));
}

void log_at_any_level(std::string_view line) {
  if (const auto logger = spdlog::get(any_level))
    logger->info(line);
}

}  // namespace echo
