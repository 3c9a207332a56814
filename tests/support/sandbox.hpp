// Surroundings for a server: refused calls, networks, terminals, pipes that nobody reads. If this
// machine cannot provide them, the test is skipped and says why.
#pragma once

#include <sys/types.h>

#include <string>

#include "echo/unique_fd.hpp"
#include "process.hpp"

namespace test {

/// Whether the program is for 32 bits, which the tests themselves need not be.
bool is_for_32_bits();

/// strace's `tamper`, such as "accept4:error=ENFILE:when=1", for system calls of the program. If no
/// call was tampered with when the program has ended, the test fails; if the program is for 32
/// bits, where some calls have other names, it is skipped.
Setup with_faults(const std::string& tamper);

/// A limit of prlimit(1), such as "nofile=64:100", beside those of `setup`.
Setup with_limit(const std::string& limit, Setup setup = {});

/// A network of its own (network_namespaces(7)) with nothing but a loopback. It ends with the
/// object and leaves no name in the file system.
class Network {
 public:
  Network();

  /// Runs a program in it.
  Setup setup() const;
  /// Runs commands of a shell in it, and skips the test if they fail.
  std::string shell(const std::string& commands) const;
  /// The id of a process in it.
  pid_t pid() const { return holder_.pid(); }

 private:
  Process holder_;  ///< The network lives as long as a process in it.
};

/// Shows the program `contents` in the place of a file of the system, such as /etc/hosts.
Setup with_file(const std::string& path, const std::string& contents, Setup setup = {});

/// A terminal whose other side nobody reads unless the test does.
struct Terminal {
  Terminal();

  /// What a reader sees until `part` comes.
  std::string read_until(const std::string& part) const;

  echo::UniqueFd ours;
  echo::UniqueFd theirs;
};

/// What can be read now, or as soon as something comes; empty at the end. Throws at the deadline.
std::string read_some(const echo::UniqueFd& fd);

/// Skips the test if the program is not installed.
void need_program(const std::string& program);

}  // namespace test
