#include "echo/socket.hpp"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "echo/endpoint.hpp"
#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"

namespace echo {
namespace {

template <typename Value>
void set_option(const UniqueFd& fd, int level, int option, const Value& value, const char* action) {
  checked(::setsockopt(fd.get(), level, option, &value, sizeof(value)), action);
}

}  // namespace

std::size_t Socket::receive(std::span<std::byte> buffer, int flags) {
  const auto count = retry([&] { return ::recv(fd_.get(), buffer.data(), buffer.size(), flags); });
  if (count == -1 && errno == EAGAIN && flags == MSG_DONTWAIT)
    return 0;
  return static_cast<std::size_t>(checked(count, "receive"));
}

std::size_t Socket::send(std::span<const std::byte> data) {
  const auto count =
      retry([&] { return ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL); });
  return static_cast<std::size_t>(checked(count, "send"));
}

std::size_t Socket::unacknowledged() {
  // An empty send fails if the connection is broken; SIOCOUTQ alone does not tell. SO_ERROR would
  // also tell of errors that TCP survives (RFC 1122, 4.2.3.9).
  send({});
  int count = 0;
  ::ioctl(fd_.get(), SIOCOUTQ, &count);  // Where a sandbox refuses it, nothing is waited for.
  return static_cast<std::size_t>(count);
}

void Socket::reset_when_closed() noexcept {
  const linger discard{1, 0};  // Where a sandbox refuses it, an end of file comes instead.
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &discard, sizeof(discard));
}

void Socket::set_idle_timeout(std::chrono::milliseconds timeout) {
  const timeval limit{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  set_option(fd_, SOL_SOCKET, SO_RCVTIMEO, limit, "set SO_RCVTIMEO");
  constexpr std::chrono::milliseconds longest(INT_MAX);
  const auto count = static_cast<int>(std::min(timeout, longest).count());
  set_option(fd_, IPPROTO_TCP, TCP_USER_TIMEOUT, count, "set TCP_USER_TIMEOUT");
}

tcp_info Socket::info() const noexcept {
  tcp_info info{};
  socklen_t size = sizeof(info);
  ::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size);  // Only for the log.
  return info;
}

Listener::Listener(Endpoint endpoint) {
  const std::string action = "listen on " + endpoint.to_string();
  const int family = endpoint.storage.ss_family;
  fd_ = UniqueFd(checked(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), action.c_str()));
  // A restart need not wait for connections of the last run in TIME_WAIT (socket(7)).
  set_option(fd_, SOL_SOCKET, SO_REUSEADDR, 1, "set SO_REUSEADDR");
  if (family == AF_INET6)
    set_option(fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0, "set IPV6_V6ONLY");
  // Accepted sockets inherit these: what is sent leaves at once instead of waiting for an
  // acknowledgement; urgent data is received in its place (RFC 6093); a peer that vanished is
  // noticed in the end (tcp(7)).
  set_option(fd_, IPPROTO_TCP, TCP_NODELAY, 1, "set TCP_NODELAY");
  set_option(fd_, SOL_SOCKET, SO_OOBINLINE, 1, "set SO_OOBINLINE");
  set_option(fd_, SOL_SOCKET, SO_KEEPALIVE, 1, "set SO_KEEPALIVE");
  checked(::bind(fd_.get(), endpoint.address(), endpoint.length), action.c_str());
  checked(::listen(fd_.get(), SOMAXCONN), action.c_str());
}

Endpoint Listener::local_endpoint() const {
  Endpoint endpoint;
  checked(::getsockname(fd_.get(), endpoint.address(), &endpoint.length), "read the bound address");
  return endpoint;
}

std::optional<Socket> Listener::accept() {
  for (;;) {
    Endpoint peer;
    const int fd =
        retry([&] { return ::accept4(fd_.get(), peer.address(), &peer.length, SOCK_CLOEXEC); });
    if (fd == -1 && errno == EINVAL)
      return std::nullopt;
    if (fd == -1 && (errno == ECONNABORTED || errno == EPROTO))
      continue;
    UniqueFd client(checked(fd, "accept"));
    return Socket(std::move(client), peer.to_string());
  }
}

Listener listen_on_first(const std::vector<Endpoint>& endpoints) {
  for (std::size_t i = 0;; ++i) {
    try {
      return Listener(endpoints.at(i));
    } catch (const std::system_error&) {
      if (i + 1 == endpoints.size())
        throw;
    }
  }
}

}  // namespace echo
