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
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "echo/endpoint.hpp"
#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"

namespace echo {
namespace {

using std::chrono::milliseconds;

template <typename Value>
void set_option(const UniqueFd& fd, int level, int option, const Value& value, const char* action) {
  checked(::setsockopt(fd.get(), level, option, &value, sizeof(value)), action);
}

timeval to_timeval(milliseconds time) {
  timeval value{};
  value.tv_sec = static_cast<decltype(value.tv_sec)>(time.count() / 1000);
  value.tv_usec = static_cast<decltype(value.tv_usec)>(time.count() % 1000 * 1000);
  return value;
}

Endpoint local_endpoint_of(const UniqueFd& fd) {
  Endpoint endpoint;
  checked(::getsockname(fd.get(), endpoint.address(), &endpoint.length), "read the local address");
  return endpoint;
}

}  // namespace

Endpoint Socket::local_endpoint() const {
  return local_endpoint_of(fd_);
}

std::size_t Socket::receive(std::span<std::byte> buffer, int flags) {
  const auto count = retry([&] { return ::recv(fd_.get(), buffer.data(), buffer.size(), flags); });
  if (count == -1 && errno == EAGAIN && flags == MSG_DONTWAIT)  // Else it is the idle timeout.
    return 0;
  return static_cast<std::size_t>(checked(count, "receive"));
}

std::size_t Socket::send(std::span<const std::byte> data) {
  const auto count =
      retry([&] { return ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL); });
  if (count == -1 && errno == EAGAIN)  // `send_patience` is over (SO_SNDTIMEO).
    return 0;
  return static_cast<std::size_t>(checked(count, "send"));
}

std::size_t Socket::unacknowledged() const noexcept {
  int count = 0;
  ::ioctl(fd_.get(), SIOCOUTQ, &count);  // If a sandbox refuses it, nothing is waited for.
  return static_cast<std::size_t>(count);
}

void Socket::throw_if_broken() {
  // An empty send sends nothing, but fails on a broken connection. SO_ERROR would not do: it also
  // reports errors that TCP survives (RFC 1122, 4.2.3.9).
  send({});
}

void Socket::reset_when_closed() noexcept {
  const linger discard{1, 0};  // If a sandbox refuses it, the client sees end of file instead.
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &discard, sizeof(discard));
}

void Socket::set_idle_timeout(milliseconds timeout) {
  set_option(fd_, SOL_SOCKET, SO_RCVTIMEO, to_timeval(timeout), "set SO_RCVTIMEO");
  const auto count = static_cast<int>(std::min(timeout, milliseconds(INT_MAX)).count());
  set_option(fd_, IPPROTO_TCP, TCP_USER_TIMEOUT, count, "set TCP_USER_TIMEOUT");
}

tcp_info Socket::info() const noexcept {
  tcp_info info{};
  socklen_t size = sizeof(info);
  ::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size);  // If it fails: all zeros.
  return info;
}

Listener::Listener(Endpoint endpoint) {
  const std::string action = "listen on " + endpoint.to_string();
  const int family = endpoint.storage.ss_family;
  fd_ = UniqueFd(checked(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), action.c_str()));
  // Connections of the previous run that are in TIME_WAIT do not prevent a restart (socket(7)).
  set_option(fd_, SOL_SOCKET, SO_REUSEADDR, 1, "set SO_REUSEADDR");
  if (family == AF_INET6)
    set_option(fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0, "set IPV6_V6ONLY");

  // Accepted sockets inherit the following options.
  // Data that is sent does not wait for the acknowledgement of earlier data (Nagle's algorithm).
  set_option(fd_, IPPROTO_TCP, TCP_NODELAY, 1, "set TCP_NODELAY");
  // Urgent data is received in its place in the stream, as RFC 6093 advises.
  set_option(fd_, SOL_SOCKET, SO_OOBINLINE, 1, "set SO_OOBINLINE");
  // A client that has vanished is noticed in the end (tcp(7)).
  set_option(fd_, SOL_SOCKET, SO_KEEPALIVE, 1, "set SO_KEEPALIVE");
  set_option(fd_, SOL_SOCKET, SO_SNDTIMEO, to_timeval(send_patience), "set SO_SNDTIMEO");

  const int bound = ::bind(fd_.get(), endpoint.address(), endpoint.length);
  if (bound == -1 && errno == EACCES && endpoint.port() > 0 && endpoint.port() < 1024)
    throw std::runtime_error(action + ": " + std::strerror(EACCES) +
                             " (ports below 1024 need root or CAP_NET_BIND_SERVICE)");
  checked(bound, action.c_str());
  // The kernel reduces this to net.core.somaxconn. SOMAXCONN is a constant of the C library, and
  // may be smaller than that.
  checked(::listen(fd_.get(), INT_MAX), action.c_str());
}

Endpoint Listener::local_endpoint() const {
  return local_endpoint_of(fd_);
}

void Listener::fill_backlog() {
  Endpoint own = local_endpoint();
  checked(::listen(fd_.get(), 0), "shorten the backlog");  // To one connection.
  const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  backlog_filler_ = UniqueFd(checked(::socket(own.storage.ss_family, type, 0), "fill the backlog"));
  // If another client has just taken the place, this connection gets no answer either. That is why
  // it must not be waited for.
  const int connected = ::connect(backlog_filler_.get(), own.address(), own.length);
  if (connected == -1 && errno != EINPROGRESS)
    checked(connected, "fill the backlog");
}

std::optional<Socket> Listener::accept() {
  for (;;) {
    Endpoint peer;
    const int fd =
        retry([&] { return ::accept4(fd_.get(), peer.address(), &peer.length, SOCK_CLOEXEC); });
    if (fd == -1 && errno == EINVAL)  // It was shut down.
      return std::nullopt;
    if (fd == -1 && (errno == ECONNABORTED || errno == EPROTO))
      continue;
    UniqueFd client(checked(fd, "accept"));
    return Socket(std::move(client), peer.to_string());
  }
}

Listener listen_on_first(const std::vector<Endpoint>& endpoints) {
  for (std::size_t i = 0;; ++i) {  // Ends by a return, or by the exception for the last endpoint.
    try {
      return Listener(endpoints.at(i));
    } catch (const std::runtime_error& error) {
      const auto* const failed_call = dynamic_cast<const std::system_error*>(&error);
      const bool is_in_use = failed_call != nullptr && failed_call->code().value() == EADDRINUSE;
      if (is_in_use || i + 1 == endpoints.size())
        throw;
    }
  }
}

}  // namespace echo
