#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client.hpp"
#include "echo/unique_fd.hpp"

namespace test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  #define ECHO_SANITIZED 1
#elif defined(__has_feature)
  #if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    #define ECHO_SANITIZED 1
  #endif
#endif
#ifdef ECHO_SANITIZED
constexpr bool sanitized = true;  // Memory and time are then not the program's own.
#else
constexpr bool sanitized = false;
#endif

/// Collects what comes out of a pipe until its end.
class Collector {
 public:
  ~Collector();

  /// The end to be given to a child; close it here once the child has it.
  echo::UniqueFd start();

  /// Waits until the text has `count` times `part` in it; false when the deadline or the end of the
  /// pipe comes first.
  bool wait_for(const std::string& part, std::size_t count = 1,
                std::chrono::milliseconds patience = deadline);
  void wait_for_end();
  std::string text();

 private:
  void collect();

  echo::UniqueFd pipe_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
  bool ended_ = false;
};

std::size_t count_of(const std::string& text, const std::string& part);

struct Setup {
  std::vector<std::string> arguments = {};
  std::vector<std::string> environment = {};  ///< NAME=VALUE, added to the test's own.
  std::vector<std::string> prefix = {};       ///< A command that runs the program: prlimit, strace.
  /// Descriptors to give it instead of collected pipes; -1 closes.
  std::optional<int> stdout_fd = std::nullopt;
  std::optional<int> stderr_fd = std::nullopt;
  std::string path = ECHO_SERVER_BINARY;
};

/// Another program, looked for in PATH.
Setup command(std::string path, std::vector<std::string> arguments);

/// echo-server on a free port of loopback.
Setup on_loopback(std::vector<std::string> more = {});

/// The same with strace's `tamper`, such as "accept4:error=ENFILE:when=1", for system calls.
Setup with_faults(const std::string& tamper, std::vector<std::string> more = {});

/// Whether a test has to be left out because strace cannot be used; says so.
bool skip_without_strace();

/// A network of its own (ip-netns(8)), with nothing but its loopback; gone with the object.
class Network {
 public:
  Network();
  ~Network();
  Network(const Network&) = delete;

  /// Whether a test has to be left out because there are no namespaces; says so.
  bool skip() const;

  /// Runs a command in it, as Setup::prefix.
  std::vector<std::string> prefix() const { return {"ip", "netns", "exec", name_}; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::string failure_;
};

/// A terminal whose other side nobody reads unless the test does.
struct Terminal {
  echo::UniqueFd ours;
  echo::UniqueFd theirs;
};
Terminal open_terminal();

/// A pipe whose reader reads nothing unless the test does.
struct Pipe {
  echo::UniqueFd read_end;
  echo::UniqueFd write_end;
};
Pipe open_pipe();

echo::UniqueFd open_full_disk();

/// A file for a log; gone with the object.
class LogFile {
 public:
  LogFile();
  ~LogFile();
  LogFile(const LogFile&) = delete;

  int fd() const { return fd_.get(); }
  std::string text() const;

 private:
  std::string path_;
  echo::UniqueFd fd_;
};

/// A child process, echo-server unless the setup names another; ended with the object if it is
/// still running, by SIGKILL if SIGTERM is not enough.
class Program {
 public:
  explicit Program(const Setup& setup);
  explicit Program(std::vector<std::string> arguments) : Program(Setup{std::move(arguments)}) {}
  ~Program();

  /// The port of the line on stdout, waited for.
  std::uint16_t port();

  void write(std::string_view input);
  void close_input() { input_ = {}; }
  void signal(int number) const;

  /// Waits for the end: its exit status, or minus the number of the signal that ended it.
  int wait(std::chrono::milliseconds patience = deadline);
  bool running();
  bool is_stopped() const;  ///< By SIGSTOP.

  Collector& out() { return out_; }
  Collector& log() { return log_; }

  /// The process that is echo-server where a prefix runs it as its child.
  pid_t server_pid() const;

  /// A number from /proc/PID/status: "VmRSS" in KiB, "Threads".
  std::size_t status_number(const std::string& name) const;
  std::size_t open_descriptors() const;

  /// Processor time used so far.
  std::chrono::milliseconds processor_time() const;

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
  echo::UniqueFd input_;
  Collector out_;
  Collector log_;
};

/// Runs a command to its end and returns what it printed on both streams, and its status.
struct Finished {
  int status;
  std::string out;
  std::string log;
};
Finished run(const Setup& setup, std::string_view input = "",
             std::chrono::milliseconds patience = deadline);

}  // namespace test
