// Worlds for a server to run in: refused calls, networks, terminals, pipes that nobody reads. Where
// this machine has no such thing, the test is skipped and says why.
#pragma once

#include <string>

#include "echo/unique_fd.hpp"
#include "process.hpp"

namespace test {

/// strace's `tamper`, such as "accept4:error=ENFILE:when=1", for system calls of the program. If no
/// call was tampered with when the program has ended, the test fails; on 32-bit machines, where
/// some calls have other names, it is skipped.
Setup with_faults(const std::string& tamper);

/// A limit of prlimit(1), such as "nofile=64:100", beside those of `setup`.
Setup with_limit(const std::string& limit, Setup setup = {});

/// A network of its own (ip-netns(8)), with nothing but its loopback; gone with the object.
class Network {
 public:
  Network();
  ~Network();
  Network(const Network&) = delete;

  /// To run a program in it.
  Setup setup() const { return {.prefix = {"ip", "netns", "exec", name_}}; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
};

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

/// A file of the test, gone with the object.
class TemporaryFile {
 public:
  TemporaryFile();
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  std::string text() const { return read_file(path_); }

 private:
  std::string path_;
  echo::UniqueFd fd_;
};

/// Skips the test where the program is not installed.
void need_program(const std::string& program);

}  // namespace test
