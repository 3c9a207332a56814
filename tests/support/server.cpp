#include "server.hpp"

#include <sys/resource.h>
#include <time.h>

#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "echo/system_call.hpp"

namespace test {
namespace {

Words command_of(const Words& more) {
  Words command = {ECHO_SERVER_BINARY, "--host", "127.0.0.1", "--port", "0"};
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

}  // namespace

Server::Server(const Words& more, const Setup& setup, Place place)
    : Process(command_of(more), setup) {
  std::string address;
  if (!setup.out) {
    wait_for_out("\n", 1, place);
    address = out();
  } else if (!setup.err) {
    wait_for_log("; Ctrl+C stops\n", 1, place);
    address = log().substr(0, log().find(": chunk size "));
  } else {
    return;
  }
  port_ = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
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

std::chrono::nanoseconds Server::processor_time() const {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(pid(), &clock) != 0 || ::clock_gettime(clock, &time) != 0)
    throw std::runtime_error("no processor time");
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

bool Server::is_at_rest() const {
  const auto before = processor_time();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // The time that is measured.
  return processor_time() - before < std::chrono::milliseconds(100);
}

void Server::set_limit(int resource, rlim_t soft) const {
  rlimit limit{};
  const auto kind = static_cast<__rlimit_resource>(resource);
  echo::checked(::prlimit(pid(), kind, nullptr, &limit), "read a limit");
  limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
  echo::checked(::prlimit(pid(), kind, &limit, nullptr), "set a limit");
}

Finished run_server(const Words& arguments, const Setup& setup, Place place) {
  return run(ECHO_SERVER_BINARY, arguments, "", setup, deadline, place);
}

}  // namespace test
