#include "server.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "client.hpp"
#include "echo/system_call.hpp"
#include "matchers.hpp"  // IWYU pragma: keep (for the macros of Catch2)
#include "process.hpp"

namespace test {
namespace {

Words command_of(const Words& more) {
  Words command = {server_binary(), "--host", "127.0.0.1", "--port", "0"};
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

/// The processor time that the process has used so far.
std::chrono::nanoseconds processor_time(pid_t process) {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0)
    throw std::runtime_error("no processor time");
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

std::string server_binary() {
  const char* const given = std::getenv("ECHO_SERVER_BINARY");
  return given == nullptr ? ECHO_SERVER_BINARY : given;
}

Server::Server(const Words& more, const Setup& setup, Place place)
    : Process(command_of(more), setup) {
  std::string text;
  if (!setup.out) {
    wait_for_out("\n", 1, place);
    text = out();
  } else if (!setup.err) {
    wait_for_log("serving on ", 1, place);
    text = log();
  } else {
    return;
  }
  std::smatch port;
  if (!std::regex_search(text, port, std::regex(R"( on \S*:(\d+))")))
    throw std::runtime_error("no port in: " + text);
  port_ = static_cast<std::uint16_t>(std::stoi(port[1]));
}

int Server::stop(int number, Place place) {
  signal(number);
  return wait(deadline, place);
}

std::string Server::status(const std::string& name) const {
  const std::string text = read_file("/proc/" + std::to_string(pid()) + "/status");
  const auto at = text.find('\n' + name + ":\t");
  if (at == text.npos)
    throw std::runtime_error("no " + name);
  return text.substr(at + name.size() + 3);
}

std::size_t Server::open_descriptors() const {
  const std::filesystem::directory_iterator entries("/proc/" + std::to_string(pid()) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

bool Server::is_at_rest() const {
  const auto before = processor_time(pid());
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // The time that is measured.
  return processor_time(pid()) - before < std::chrono::milliseconds(100);
}

void Server::set_limit(int resource, rlim_t soft) const {
  rlimit limit{};
  const auto kind = static_cast<__rlimit_resource>(resource);
  echo::checked(::prlimit(pid(), kind, nullptr, &limit), "read a limit");
  limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
  echo::checked(::prlimit(pid(), kind, &limit, nullptr), "set a limit");
}

std::vector<Client> queued_clients(const Server& server, std::size_t count) {
  server.signal(SIGSTOP);
  REQUIRE(eventually([&] { return server.is_stopped(); }));
  std::vector<Client> clients;
  while (clients.size() < count)
    clients.emplace_back(server.port()).send("hello");
  return clients;
}

Finished run_server(const Words& arguments, const Setup& setup, Place place) {
  return run(server_binary(), arguments, "", setup, deadline, place);
}

}  // namespace test
