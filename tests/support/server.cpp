#include "server.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "echo/system_call.hpp"

namespace test {
namespace {

Words command_of(const Words& more) {
  Words command = {ECHO_SERVER_BINARY, "--host", "127.0.0.1", "--port", "0"};
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

std::ifstream file_of(const Server& server, const std::string& name) {
  return std::ifstream("/proc/" + std::to_string(server.pid()) + "/" + name);
}

}  // namespace

Server::Server(const Words& more, const Setup& setup, Place place)
    : Process(command_of(more), setup) {
  std::string address;
  if (out_.is_started()) {
    wait_for_out("\n", 1, place);
    address = out();
  } else if (err_.is_started()) {
    wait_for_log("; Ctrl+C stops\n", 1, place);
    address = log().substr(log().find("serving on "));
    address.resize(address.find(": chunk size "));
  } else {
    return;
  }
  port_ = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
}

int Server::stop(int number, Place place) {
  signal(number);
  return wait(deadline, place);
}

std::size_t Server::status_number(const std::string& name) const {
  std::ifstream status = file_of(*this, "status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":"))
      return std::stoul(line.substr(name.size() + 1));
  throw std::runtime_error("no " + name);
}

std::size_t Server::open_descriptors() const {
  const std::filesystem::directory_iterator entries("/proc/" + std::to_string(pid()) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

bool Server::is_stopped() const {
  std::ifstream status = file_of(*this, "status");
  const std::string text(std::istreambuf_iterator<char>(status), {});
  return text.find("State:\tT") != text.npos;
}

std::chrono::milliseconds Server::processor_time() const {
  std::ifstream stat = file_of(*this, "stat");
  std::string field;
  for (int i = 1; i < 14; ++i)
    stat >> field;
  long user = 0;
  long system = 0;
  stat >> user >> system;
  return std::chrono::milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

void Server::set_limit(int resource, rlim_t soft) const {
  rlimit limit{};
  const auto kind = static_cast<__rlimit_resource>(resource);
  echo::checked(::prlimit(pid(), kind, nullptr, &limit), "read a limit");
  limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
  echo::checked(::prlimit(pid(), kind, &limit, nullptr), "set a limit");
}

void Server::lift_limit(int resource) const {
  set_limit(resource, RLIM_INFINITY);
}

Finished run_server(const Words& arguments, const Setup& setup, std::chrono::milliseconds patience,
                    Place place) {
  return run(ECHO_SERVER_BINARY, arguments, "", setup, patience, place);
}

}  // namespace test
