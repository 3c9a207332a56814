// Other programs as child processes, what they print, and how they end.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client.hpp"
#include "echo/unique_fd.hpp"

namespace test {

using Words = std::vector<std::string>;

/// Where a test calls, for the text of a failed wait. It is a default argument.
struct Place {
  const char* file;
  int line;
  static Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

/// For Setup: gives the process no such descriptor.
constexpr int closed = -1;

/// What a child process gets besides its arguments. What is left out is stored for the test.
/// Name the members: `Server server({"-v"}, {.environment = {"TERM=dumb"}})`.
struct Setup {
  Words environment = {};  ///< NAME=VALUE, added to the test's own, which has no ECHO_SERVER_ here.
  Words prefix = {};       ///< A command that runs the program: {"setsid", "--ctty"}.
  std::optional<int> in = std::nullopt;   ///< A descriptor for stdin, or `closed`.
  std::optional<int> out = std::nullopt;  ///< The same for stdout.
  std::optional<int> err = std::nullopt;  ///< The same for stderr.
  std::string strace_output = {};         ///< Set by with_faults: where the faults must show.
};

/// A file for what a process prints, so that nothing waits for a reader and no line is dropped.
class Output {
 public:
  int fd() const { return file_.get(); }
  /// All that was printed so far.
  const std::string& text();

 private:
  const echo::UniqueFd file_{::memfd_create("output", MFD_CLOEXEC)};
  std::string text_;
};

struct Pipe {
  Pipe();
  echo::UniqueFd read_end;
  echo::UniqueFd write_end;
};

/// A child process; ended with the object if it is still running, by SIGKILL if SIGTERM is not
/// enough. Beside a check that fails in the same test, its command, its end and all that it printed
/// are shown.
class Process {
 public:
  explicit Process(Words command, const Setup& setup = {});
  ~Process();
  Process(const Process&) = delete;

  void write(std::string_view input);
  void close_input() { input_.write_end = {}; }
  void signal(int number) const;

  /// Waits for the end: its exit status, or minus the number of the signal that ended it.
  int wait(std::chrono::milliseconds patience = deadline, Place place = Place::here());
  bool is_running();

  /// What it has printed so far; empty where a descriptor was given to it.
  std::string out() { return out_.text(); }
  std::string err() { return err_.text(); }

  /// Wait until `part` was printed `count` times. Throw where it does not come: the test has failed
  /// and shows the whole output.
  void wait_for_out(std::string_view part, std::size_t count = 1, Place place = Place::here()) {
    wait_for(out_, part, count, place);
  }
  void wait_for_err(std::string_view part, std::size_t count = 1, Place place = Place::here()) {
    wait_for(err_, part, count, place);
  }

  /// Its id, or that of the child that it runs if there is a prefix.
  pid_t pid() const;

  /// The command, the end and the output, for the reader of a failed test.
  std::string story();

 private:
  void wait_for(Output& output, std::string_view part, std::size_t count, Place place);
  void check_faults() const;

  Words command_;
  Output out_;
  Output err_;
  std::string strace_output_;
  pid_t pid_ = -1;
  std::optional<int> status_;
  Pipe input_;
};

/// The stories of this test's processes: the last three that have ended, and those that still run.
Words stories();
/// Called at the beginning of a test.
void forget_stories();

/// A command that has ended.
struct Finished {
  int status;  ///< As Process::wait gives it.
  std::string out;
  std::string err;
};

/// Runs a command, found in PATH, with `input` on its stdin, and waits for its end.
Finished run(const std::string& program, const Words& arguments, std::string_view input = "",
             const Setup& setup = {}, std::chrono::milliseconds patience = deadline,
             Place place = Place::here());

/// Whether a program of this name is in PATH.
bool is_installed(const std::string& program);

/// All of a file. Throws if there is none.
std::string read_file(const std::string& path);
/// A file of the project, by its path from the top.
std::string contents_of(const std::string& file);

}  // namespace test
