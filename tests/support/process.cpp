#include "process.hpp"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "echo/log.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"

namespace test {
namespace {

std::mutex stories_mutex;
std::vector<Process*> processes;  ///< Those of this test that live.
Words ended_stories;              ///< Of the others.

std::vector<char*> pointers(Words& words) {
  std::vector<char*> result;
  for (std::string& word : words)
    result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

/// With a margin, and with "?" for what would steer a terminal.
std::string indented(const std::string& text) {
  constexpr std::size_t most = 65'536;
  std::istringstream lines(text.size() <= most ? text : "...\n" + text.substr(text.size() - most));
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    std::ranges::replace_if(
        line, [](unsigned char c) { return c < ' ' || c == 127; }, '?');
    result += "  | " + line + '\n';
  }
  return result.empty() ? "  | (nothing)\n" : result;
}

std::string joined(const Words& words) {
  std::string text;
  for (const std::string& word : words) {
    const bool is_plain = !word.empty() && word.find_first_of(" '\"\n$") == word.npos;
    text += (text.empty() ? "" : " ") + (is_plain ? word : '\'' + word + '\'');
  }
  return text;
}

}  // namespace

Words stories() {
  const std::lock_guard lock(stories_mutex);
  Words result = ended_stories;
  for (Process* process : processes)
    result.push_back(process->story());
  return result;
}

void forget_stories() {
  const std::lock_guard lock(stories_mutex);
  ended_stories.clear();
}

Output::~Output() {
  if (thread_.joinable())
    thread_.join();
}

echo::UniqueFd Output::start() {
  Pipe pipe;
  pipe_ = std::move(pipe.read_end);
  thread_ = std::thread(&Output::collect, this);
  return std::move(pipe.write_end);
}

void Output::collect() {
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

bool Output::wait_for(std::string_view part, std::size_t count,
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
  changed_.wait_for(lock, patience, [&] { return found() || ended_; });
  return seen >= count;
}

void Output::wait_for_end() {
  std::unique_lock lock(mutex_);
  if (is_started())
    changed_.wait_for(lock, deadline, [&] { return ended_; });
}

std::string Output::text() {
  const std::lock_guard lock(mutex_);
  return text_;
}

Process::Process(Words command, const Setup& setup)
    : command_(std::move(command)), strace_output_(setup.strace_output) {
  command_.insert(command_.begin(), setup.prefix.begin(), setup.prefix.end());
  Words environment = setup.environment;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!std::string_view(*entry).starts_with("ECHO_SERVER_"))
      environment.emplace_back(*entry);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  const auto give = [&](std::optional<int> fd, int number, auto make_pipe) {
    if (fd == closed) {
      ::posix_spawn_file_actions_addclose(&actions, number);
      return echo::UniqueFd();
    }
    echo::UniqueFd pipe = fd ? echo::UniqueFd() : make_pipe();
    ::posix_spawn_file_actions_adddup2(&actions, fd.value_or(pipe.get()), number);
    return pipe;
  };
  const echo::UniqueFd in = give(setup.in, STDIN_FILENO, [this] {
    Pipe pipe;
    input_ = std::move(pipe.write_end);
    return std::move(pipe.read_end);
  });
  const echo::UniqueFd out = give(setup.out, STDOUT_FILENO, [this] { return out_.start(); });
  const echo::UniqueFd err = give(setup.err, STDERR_FILENO, [this] { return err_.start(); });

  Words words = command_;
  const int error = ::posix_spawnp(&pid_, words.front().c_str(), &actions, nullptr,
                                   pointers(words).data(), pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    throw std::system_error(error, std::system_category(), "run " + joined(command_));
  command_.insert(command_.begin(), setup.environment.begin(), setup.environment.end());
  const std::lock_guard lock(stories_mutex);
  processes.push_back(this);
}

Process::~Process() {
  std::string told = story();
  {
    const std::lock_guard lock(stories_mutex);
    std::erase(processes, this);
    ended_stories.push_back(std::move(told));
    if (ended_stories.size() > 3)
      ended_stories.erase(ended_stories.begin());
  }
  if (is_running()) {
    // First as a user would, so that what watches a process at its end, such as gcov, sees it.
    signal(SIGTERM);
    if (!eventually([&] { return !is_running(); }, std::chrono::seconds(1))) {
      // Also the child of a prefix command, which would hold the pipes.
      ::kill(pid(), SIGKILL);
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  if (!strace_output_.empty())
    check_faults();
}

void Process::check_faults() const {
  std::ifstream in(strace_output_);
  const std::string calls(std::istreambuf_iterator<char>(in), {});
  std::filesystem::remove(strace_output_);
  const bool happened =
      calls.find("(INJECTED") != calls.npos || calls.find("(DELAYED") != calls.npos;
  if (happened || std::uncaught_exceptions() > 0)
    return;
  if (sizeof(void*) == 4)
    std::cout << "skipped: the program makes no such call here: " << joined(command_) << std::endl;
  else
    FAIL_CHECK("no call was tampered with: " << joined(command_));
}

void Process::write(std::string_view input) {
  while (!input.empty()) {
    const auto written = ::write(input_.get(), input.data(), input.size());
    if (written <= 0)
      throw std::system_error(errno, std::system_category(), "write");
    input.remove_prefix(static_cast<std::size_t>(written));
  }
}

void Process::signal(int number) const {
  ::kill(pid(), number);
}

bool Process::is_running() {
  if (status_)
    return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_)
    return true;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return false;
}

int Process::wait(std::chrono::milliseconds patience, Place place) {
  if (!eventually([&] { return !is_running(); }, patience))
    throw std::runtime_error(std::string(place.file) + ':' + std::to_string(place.line) +
                             ": still running: " + joined(command_));
  out_.wait_for_end();
  err_.wait_for_end();
  return *status_;
}

void Process::wait_for(Output& output, const char* name, std::string_view part, std::size_t count,
                       Place place) {
  if (output.wait_for(part, count))
    return;
  std::ostringstream text;
  text << place.file << ':' << place.line << ": \"" << echo::escaped(part) << "\" is ";
  if (count > 1)
    text << count_of(output.text(), part) << " times instead of " << count << " times on " << name;
  else
    text << "not on " << name;
  text << " of: " << joined(command_);
  throw std::runtime_error(text.str());
}

void Process::wait_for_out(std::string_view part, std::size_t count, Place place) {
  wait_for(out_, "stdout", part, count, place);
}

void Process::wait_for_err(std::string_view part, std::size_t count, Place place) {
  wait_for(err_, "stderr", part, count, place);
}

pid_t Process::pid() const {
  const std::string id = std::to_string(pid_);
  std::ifstream children("/proc/" + id + "/task/" + id + "/children");
  pid_t child = -1;
  return children >> child ? child : pid_;
}

std::string Process::story() {
  const std::string end = is_running()    ? "still running"
                          : *status_ >= 0 ? "exit status " + std::to_string(*status_)
                                          : "ended by signal " + std::to_string(-*status_);
  return "\n--- " + joined(command_) + "\n    " + end + "\n    stdout:\n" + indented(out()) +
         "    stderr:\n" + indented(err());
}

Finished run(const std::string& program, const Words& arguments, std::string_view input,
             const Setup& setup, std::chrono::milliseconds patience, Place place) {
  Words command = arguments;
  command.insert(command.begin(), program);
  Process process(std::move(command), setup);
  process.write(input);
  process.close_input();
  const int status = process.wait(patience, place);
  return {status, process.out(), process.err()};
}

bool is_installed(const std::string& program) {
  std::istringstream path(std::getenv("PATH"));
  for (std::string directory; std::getline(path, directory, ':');)
    if (::access((directory + '/' + program).c_str(), X_OK) == 0)
      return true;
  return false;
}

std::string contents_of(const std::string& file) {
  std::ifstream in(ECHO_SOURCE_DIR "/" + file);
  if (!in)
    throw std::runtime_error("there is no " + file);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace test
