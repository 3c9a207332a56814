#include "program.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <system_error>

namespace test {
namespace {

void check(bool good, const char* action) {
  if (!good)
    throw std::system_error(errno, std::system_category(), action);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings)
    result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Collector::~Collector() {
  if (thread_.joinable())
    thread_.join();
}

echo::UniqueFd Collector::start() {
  auto [read_end, write_end] = open_pipe();
  pipe_ = std::move(read_end);
  thread_ = std::thread(&Collector::collect, this);
  return std::move(write_end);
}

void Collector::collect() {
  std::array<char, 65'536> part{};
  for (;;) {
    const auto count = ::read(pipe_.get(), part.data(), part.size());
    const std::lock_guard lock(mutex_);
    if (count > 0)
      text_.append(part.data(), static_cast<std::size_t>(count));
    else
      ended_ = true;
    changed_.notify_all();
    if (ended_)
      return;
  }
}

bool Collector::wait_for(const std::string& part, std::size_t count,
                         std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  // What was searched once is not searched again: the reader must not wait for that.
  std::size_t searched = 0;
  std::size_t seen = 0;
  const auto found = [&] {
    for (auto at = text_.find(part, searched); at != text_.npos; at = text_.find(part, searched)) {
      ++seen;
      searched = at + part.size();
    }
    if (text_.size() >= part.size())
      searched = std::max(searched, text_.size() - part.size() + 1);
    return seen >= count;
  };
  changed_.wait_for(lock, patience, [&] { return ended_ || found(); });
  return found();
}

void Collector::wait_for_end() {
  std::unique_lock lock(mutex_);
  if (thread_.joinable())
    changed_.wait_for(lock, deadline, [&] { return ended_; });
}

std::string Collector::text() {
  const std::lock_guard lock(mutex_);
  return text_;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

Setup command(std::string path, std::vector<std::string> arguments) {
  Setup setup{std::move(arguments)};
  setup.path = std::move(path);
  return setup;
}

Setup on_loopback(std::vector<std::string> more) {
  more.insert(more.begin(), {"--host", "127.0.0.1", "--port", "0"});
  return {std::move(more)};
}

Setup with_faults(const std::string& tamper, std::vector<std::string> more) {
  Setup setup = on_loopback(std::move(more));
  const std::string call = tamper.substr(0, tamper.find(':'));
  setup.prefix = {"strace",          "-f", "-q", "-o", "/dev/null", "-e", "trace=" + call, "-e",
                  "inject=" + tamper};
  // LeakSanitizer cannot work under another tracer.
  setup.environment = {"ASAN_OPTIONS=detect_leaks=0"};
  return setup;
}

bool skip_without_strace() {
  try {
    if (run(command("strace", {"-f", "-q", "-o", "/dev/null", "true"})).status == 0)
      return false;
  } catch (const std::system_error&) {
  }
  std::cout << "skipped: strace cannot be used here" << std::endl;
  return true;
}

Network::Network() {
  static int number = 0;
  name_ = "echo-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
  const Finished made =
      run(command("sh", {"-c", "name=" + name_ +
                                   "; ip netns add $name || exit; ip -n $name link set lo up || "
                                   "{ ip netns delete $name; exit 1; }"}));
  if (made.status != 0)
    failure_ = made.log;
}

Network::~Network() {
  if (failure_.empty())
    run(command("ip", {"netns", "delete", name_}));
}

bool Network::skip() const {
  if (!failure_.empty())
    std::cout << "skipped: no network namespaces here: " << failure_ << std::endl;
  return !failure_.empty();
}

Terminal open_terminal() {
  Terminal terminal;
  terminal.ours = echo::UniqueFd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  std::array<char, 64> name{};
  check(::grantpt(terminal.ours.get()) == 0 && ::unlockpt(terminal.ours.get()) == 0 &&
            ::ptsname_r(terminal.ours.get(), name.data(), name.size()) == 0,
        "open a terminal");
  terminal.theirs = echo::UniqueFd(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  check(static_cast<bool>(terminal.theirs), "open a terminal");
  return terminal;
}

Pipe open_pipe() {
  std::array<int, 2> ends{};
  check(::pipe2(ends.data(), O_CLOEXEC) == 0, "open a pipe");
  return {echo::UniqueFd(ends[0]), echo::UniqueFd(ends[1])};
}

echo::UniqueFd open_full_disk() {
  return echo::UniqueFd(::open("/dev/full", O_WRONLY | O_CLOEXEC));
}

LogFile::LogFile() {
  static int number = 0;
  path_ = "log-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
  fd_ = echo::UniqueFd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  check(static_cast<bool>(fd_), "create a log file");
}

LogFile::~LogFile() {
  std::filesystem::remove(path_);
}

std::string LogFile::text() const {
  std::ifstream in(path_);
  return {std::istreambuf_iterator<char>(in), {}};
}

Program::Program(const Setup& setup) {
  std::vector<std::string> command = setup.prefix;
  command.push_back(setup.path);
  command.insert(command.end(), setup.arguments.begin(), setup.arguments.end());
  std::vector<std::string> environment = setup.environment;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (std::string_view(*entry).substr(0, 12) != "ECHO_SERVER_")
      environment.emplace_back(*entry);

  auto [input_read, input_write] = open_pipe();
  input_ = std::move(input_write);
  echo::UniqueFd out;
  echo::UniqueFd log;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input_read.get(), STDIN_FILENO);
  const auto give = [&](std::optional<int> fd, int number, Collector& collector,
                        echo::UniqueFd& pipe) {
    if (fd == -1) {
      ::posix_spawn_file_actions_addclose(&actions, number);
      return;
    }
    if (!fd)
      pipe = collector.start();
    ::posix_spawn_file_actions_adddup2(&actions, fd ? *fd : pipe.get(), number);
  };
  give(setup.stdout_fd, STDOUT_FILENO, out_, out);
  give(setup.stderr_fd, STDERR_FILENO, log_, log);

  const int error = ::posix_spawnp(&pid_, command.front().c_str(), &actions, nullptr,
                                   pointers(command).data(), pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    throw std::system_error(error, std::system_category(), "run " + command.front());
}

Program::~Program() {
  if (!running())
    return;
  // First as a user would, so that what watches a process at its end, such as gcov, sees it.
  signal(SIGTERM);
  if (!eventually([&] { return !running(); }, std::chrono::seconds(1))) {
    // Also the child of a prefix command, which would hold the pipes.
    if (const pid_t server = server_pid(); server > 0)
      ::kill(server, SIGKILL);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

std::uint16_t Program::port() {
  if (!out_.wait_for("\n"))
    throw std::runtime_error("no line on stdout; the log: " + log_.text());
  const std::string line = out_.text();
  return static_cast<std::uint16_t>(std::stoi(line.substr(line.rfind(':') + 1)));
}

void Program::write(std::string_view input) {
  while (!input.empty()) {
    const auto written = ::write(input_.get(), input.data(), input.size());
    if (written <= 0)
      throw std::system_error(errno, std::system_category(), "write");
    input.remove_prefix(static_cast<std::size_t>(written));
  }
}

void Program::signal(int number) const {
  ::kill(server_pid(), number);
}

bool Program::running() {
  if (status_)
    return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_)
    return true;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return false;
}

int Program::wait(std::chrono::milliseconds patience) {
  if (!eventually([&] { return !running(); }, patience))
    throw std::runtime_error("still running; the log: " + log_.text());
  out_.wait_for_end();
  log_.wait_for_end();
  return *status_;
}

pid_t Program::server_pid() const {
  const std::string process = "/proc/" + std::to_string(pid_);
  std::ifstream children(process + "/task/" + std::to_string(pid_) + "/children");
  pid_t child = -1;
  return children >> child ? child : pid_;
}

std::size_t Program::status_number(const std::string& name) const {
  std::ifstream status("/proc/" + std::to_string(server_pid()) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(name + ":", 0) == 0)
      return std::stoul(line.substr(name.size() + 1));
  throw std::runtime_error("no " + name);
}

std::size_t Program::open_descriptors() const {
  const std::filesystem::directory_iterator entries("/proc/" + std::to_string(server_pid()) +
                                                    "/fd");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

bool Program::is_stopped() const {
  std::ifstream status("/proc/" + std::to_string(server_pid()) + "/status");
  const std::string text(std::istreambuf_iterator<char>(status), {});
  return text.find("State:\tT") != text.npos;
}

std::chrono::milliseconds Program::processor_time() const {
  std::ifstream stat("/proc/" + std::to_string(server_pid()) + "/stat");
  std::string field;
  for (int i = 1; i < 14; ++i)
    stat >> field;
  long user = 0;
  long system = 0;
  stat >> user >> system;
  return std::chrono::milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

Finished run(const Setup& setup, std::string_view input, std::chrono::milliseconds patience) {
  Program program(setup);
  program.write(input);
  program.close_input();
  const int status = program.wait(patience);
  return {status, program.out().text(), program.log().text()};
}

}  // namespace test
