#include "process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "client.hpp"
#include "echo/log.hpp"
#include "echo/system_call.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"

namespace test {
namespace {

std::vector<Process*> processes;  ///< Those of this test that still exist.
Words ended_stories;              ///< The stories of the others.

std::vector<char*> pointers(Words& words) {
  std::vector<char*> result;
  for (std::string& word : words)
    result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

/// Indents each line, and replaces what could control a terminal by "?".
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
  Words result = ended_stories;
  for (Process* process : processes)
    result.push_back(process->story());
  return result;
}

void forget_stories() {
  ended_stories.clear();
}

Pipe::Pipe() {
  std::array<int, 2> ends{};
  echo::checked(::pipe2(ends.data(), O_CLOEXEC), "open a pipe");
  read_end = echo::UniqueFd(ends[0]);
  write_end = echo::UniqueFd(ends[1]);
}

const std::string& Output::text() {
  std::array<char, 65'536> part{};
  for (;;) {
    const auto size = static_cast<off_t>(text_.size());
    const auto count = ::pread(file_.get(), part.data(), part.size(), size);
    if (count <= 0)
      return text_;
    text_.append(part.data(), static_cast<std::size_t>(count));
  }
}

Process::Process(Words command, const Setup& setup)
    : command_(std::move(command)), strace_output_(setup.strace_output) {
  command_.insert(command_.begin(), setup.prefix.begin(), setup.prefix.end());
  Words environment = setup.environment;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!std::string_view(*entry).starts_with("ECHO_SERVER_"))
      environment.emplace_back(*entry);

  const std::array streams = {setup.in.value_or(input_.read_end.get()),
                              setup.out.value_or(out_.fd()), setup.err.value_or(err_.fd())};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (std::size_t i = 0; i < streams.size(); ++i)
    if (streams.at(i) == closed)
      ::posix_spawn_file_actions_addclose(&actions, static_cast<int>(i));
    else
      ::posix_spawn_file_actions_adddup2(&actions, streams.at(i), static_cast<int>(i));

  Words words = command_;
  const int error = ::posix_spawnp(&pid_, words.front().c_str(), &actions, nullptr,
                                   pointers(words).data(), pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  input_.read_end = {};
  if (error != 0)
    throw std::system_error(error, std::system_category(), "run " + joined(command_));
  command_.insert(command_.begin(), setup.environment.begin(), setup.environment.end());
  processes.push_back(this);
}

Process::~Process() {
  std::erase(processes, this);
  ended_stories.push_back(story());
  if (ended_stories.size() > 3)
    ended_stories.erase(ended_stories.begin());
  if (is_running()) {
    // First as a user would, so that gcov and the like still write their results.
    signal(SIGTERM);
    if (!eventually([&] { return !is_running(); }, std::chrono::seconds(1))) {
      ::kill(pid(), SIGKILL);  // This may be the child of a prefix command.
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  if (!strace_output_.empty())
    check_faults();
}

void Process::check_faults() const {
  const std::string calls = read_file(strace_output_);
  std::filesystem::remove(strace_output_);
  const bool happened =
      calls.find("(INJECTED") != calls.npos || calls.find("(DELAYED") != calls.npos;
  if (happened || std::uncaught_exceptions() > 0)
    return;
  if (is_for_32_bits())
    note_skip("the program makes no such call here: " + joined(command_));
  else
    FAIL_CHECK("no call was tampered with: " << joined(command_));
}

void Process::write(std::string_view input) {
  echo::checked(::write(input_.write_end.get(), input.data(), input.size()), "write");
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
  return *status_;
}

void Process::wait_for(Output& output, std::string_view part, std::size_t count, Place place) {
  bool has_ended = false;
  std::size_t seen = 0;
  eventually([&] {
    has_ended = !is_running();  // Asked first, so that what was printed last is seen, too.
    seen = count_of(output.text(), part);
    return seen >= count || has_ended;
  });
  if (seen >= count)
    return;
  std::ostringstream text;
  text << place.file << ':' << place.line << ": \"" << echo::escaped(part) << "\" is " << seen
       << " times instead of " << count << " times on " << (&output == &out_ ? "stdout" : "stderr")
       << " of: " << joined(command_);
  throw std::runtime_error(text.str());
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
  return std::system(("command -v " + program + " >/dev/null").c_str()) == 0;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  if (!in)
    throw std::runtime_error("there is no " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string contents_of(const std::string& file) {
  return read_file(ECHO_SOURCE_DIR "/" + file);
}

}  // namespace test
