#include "sandbox.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

#include "client.hpp"
#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "server.hpp"

namespace test {
namespace {

using echo::checked;

/// A name that no other test has.
std::string unique_name(const std::string& kind) {
  static int number = 0;
  return kind + '-' + std::to_string(::getpid()) + '-' + std::to_string(++number);
}

}  // namespace

/// By its ELF header (elf(5)).
bool is_for_32_bits() {
  return read_file(server_binary()).at(4) == 1;
}

void need_program(const std::string& program) {
  if (!is_installed(program))
    skip(program + " is not installed");
}

Setup with_faults(const std::string& tamper) {
  need_program("strace");
  static const Finished tried = run("strace", {"-f", "-q", "-o", "/dev/null", "true"});
  if (tried.status != 0)
    skip("strace cannot be used here: " + tried.err);
  const std::string calls = tamper.substr(0, tamper.find(':'));
  if (count_of(calls, "recvfrom") > 0 && is_for_32_bits())
    skip("a program for 32 bits receives by another call than recvfrom");
  const std::string output = unique_name("strace");
  return {// LeakSanitizer cannot work under another tracer.
          .environment = {"ASAN_OPTIONS=detect_leaks=0"},
          .prefix = {"strace", "-f", "-q", "-o", output, "-e", "trace=" + calls, "-e",
                     "inject=" + tamper},
          .strace_output = output};
}

Setup with_limit(const std::string& limit, Setup setup) {
  setup.prefix.insert(setup.prefix.begin(), {"prlimit", "--" + limit});
  return setup;
}

Setup with_file(const std::string& path, const std::string& contents, Setup setup) {
  const Words mount = {"unshare",
                       "--mount",
                       "sh",
                       "-c",
                       "mount -t tmpfs none /mnt && printf %s \"$0\" >/mnt/file && "
                       "mount --bind /mnt/file \"$1\" && shift && exec \"$@\"",
                       contents,
                       path};
  setup.prefix.insert(setup.prefix.end(), mount.begin(), mount.end());
  if (const Finished tried = run("true", {}, "", setup); tried.status != 0)
    skip("no mount namespaces here: " + tried.err);
  return setup;
}

// It reads the stdin that this process holds open, so it ends with this process at the latest.
Network::Network()
    : holder_({"unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"}) {
  if (!eventually([&] { return !holder_.out().empty() || !holder_.is_running(); }) ||
      holder_.out().empty())
    skip("no network namespaces here: " + holder_.err());
}

Setup Network::setup() const {
  return {.prefix = {"nsenter", "--net=/proc/" + std::to_string(pid()) + "/ns/net"}};
}

std::string Network::shell(const std::string& commands) const {
  const Finished finished = run("sh", {"-ec", commands}, "", setup());
  if (finished.status != 0)
    skip("no such network here: " + finished.err);
  return finished.out;
}

Terminal::Terminal() : ours(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
  std::array<char, 64> name{};
  if (!ours || ::grantpt(ours.get()) != 0 || ::unlockpt(ours.get()) != 0 ||
      ::ptsname_r(ours.get(), name.data(), name.size()) != 0)
    skip(std::string("no terminals here: ") + std::strerror(errno));
  theirs = echo::UniqueFd(checked(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC), name.data()));
}

std::string read_some(const echo::UniqueFd& fd) {
  pollfd readable{fd.get(), POLLIN, 0};
  if (::poll(&readable, 1, static_cast<int>(std::chrono::milliseconds(deadline).count())) != 1)
    throw std::runtime_error("nothing comes to be read");
  std::string text(65'536, '\0');
  text.resize(
      static_cast<std::size_t>(checked(::read(fd.get(), text.data(), text.size()), "read")));
  return text;
}

std::string Terminal::read_until(const std::string& part) const {
  std::string text;
  while (text.find(part) == text.npos)
    text += read_some(ours);
  return text;
}

}  // namespace test
