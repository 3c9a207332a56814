#include "client.hpp"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "echo/endpoint.hpp"
#include "echo/socket.hpp"

namespace test {
namespace {

void check(bool good, const char* action) {
  if (!good)
    throw std::system_error(errno, std::system_category(), action);
}

std::size_t entries_of(const char* directory) {
  const std::filesystem::directory_iterator entries(directory);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

}  // namespace

std::string pattern(std::size_t size, unsigned seed) {
  std::string data(size, '\0');
  std::uint32_t state = seed * 2654435761U + 1;
  for (char& byte : data) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<char>(state >> 24);
  }
  return data;
}

std::size_t open_descriptors() {
  return entries_of("/proc/self/fd");
}

std::size_t threads() {
  return entries_of("/proc/self/task");
}

Client::Client(std::uint16_t port, const std::string& host) {
  echo::Endpoint server = echo::resolve(host, port).front();
  fd_ = echo::UniqueFd(::socket(server.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check(static_cast<bool>(fd_), "socket");
  const timeval limit{deadline.count(), 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  check(::connect(fd_.get(), server.address(), server.length) == 0, "connect");
}

void Client::send(std::string_view data) {
  while (!data.empty()) {
    const auto sent = ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL);
    check(sent > 0, "send");
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
}

void Client::send_urgent(std::string_view data) {
  const auto sent = ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL | MSG_OOB);
  check(sent == static_cast<ssize_t>(data.size()), "send");
}

std::size_t Client::send_until_blocked(std::string_view data) {
  std::size_t total = 0;
  timeval brief{0, 300'000};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof(brief));
  for (;;) {
    const auto sent = ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL);
    if (sent == -1)
      break;
    total += static_cast<std::size_t>(sent);
    data.remove_prefix(static_cast<std::size_t>(sent));
    if (data.empty())
      throw std::logic_error("all of it fitted");
  }
  pollfd echo{fd_.get(), POLLIN, 0};
  check(::poll(&echo, 1, static_cast<int>(std::chrono::milliseconds(deadline).count())) == 1,
        "wait for an echo");
  const timeval limit{deadline.count(), 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  return total;
}

std::string Client::receive_some(std::size_t most) {
  std::string data(std::min<std::size_t>(most, 65'536), '\0');
  const auto count = ::recv(fd_.get(), data.data(), data.size(), 0);
  check(count >= 0, "receive");
  data.resize(static_cast<std::size_t>(count));
  return data;
}

std::string Client::receive(std::size_t size) {
  std::string data;
  while (data.size() < size) {
    const std::string part = receive_some(size - data.size());
    if (part.empty())
      break;
    data += part;
  }
  return data;
}

std::string Client::receive_all() {
  std::string data;
  for (;;) {
    const std::string part = receive(65'536);
    data += part;
    if (part.size() < 65'536)
      return data;
  }
}

std::string Client::exchange(std::string_view data) {
  std::exception_ptr failure;
  std::thread sender([&] {
    try {
      send(data);
    } catch (...) {
      failure = std::current_exception();
    }
  });
  std::string received;
  try {
    received = receive(data.size());
  } catch (...) {
    ::shutdown(fd_.get(), SHUT_RDWR);
    sender.join();
    throw;
  }
  sender.join();
  if (failure)
    std::rethrow_exception(failure);
  return received;
}

bool Client::is_acknowledged() const {
  return eventually([this] {
    int on_its_way = 0;
    check(::ioctl(fd_.get(), SIOCOUTQ, &on_its_way) == 0, "ioctl");
    return on_its_way == 0;
  });
}

void Client::half_close() {
  check(::shutdown(fd_.get(), SHUT_WR) == 0, "shutdown");
}

void Client::reset() {
  const linger abort{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
  close();
}

std::string Client::address() const {
  echo::Endpoint endpoint;
  check(::getsockname(fd_.get(), endpoint.address(), &endpoint.length) == 0, "getsockname");
  return endpoint.to_string();
}

Pair connected_pair() {
  echo::Listener listener(echo::resolve("127.0.0.1", 0).front());
  Client client(port_of(listener.local_endpoint()));
  return {listener.accept().value(), std::move(client)};
}

std::uint16_t port_of(const echo::Endpoint& endpoint) {
  const std::string text = endpoint.to_string();
  return static_cast<std::uint16_t>(std::stoi(text.substr(text.rfind(':') + 1)));
}

}  // namespace test
