#include "echo/socket.hpp"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>

namespace echo {
namespace {

/// The caller passes errno, which may change while the exception is allocated.
[[noreturn]] void throw_error(int error, const char* action) {
  throw std::system_error(error, std::system_category(), action);
}

template <typename Value>
void set_option(const UniqueFd& fd, int level, int option, const Value& value, const char* action) {
  if (::setsockopt(fd.get(), level, option, &value, sizeof(value)) == -1)
    throw_error(errno, action);
}

/// Errors of one client in the queue, or of its network, and not of the listener (accept(2)).
constexpr std::array errors_of_one_client = {ECONNABORTED, EPROTO,       ENETDOWN,
                                             ENOPROTOOPT,  EHOSTDOWN,    ENONET,
                                             EOPNOTSUPP,   EHOSTUNREACH, ENETUNREACH};

}  // namespace

std::size_t Socket::receive(std::span<std::byte> buffer, std::size_t chunk_size,
                            const ChunkSeen& seen) {
  const auto count = TEMP_FAILURE_RETRY(::recv(fd_.get(), buffer.data(), chunk_size, 0));
  if (count == -1)
    throw_error(errno, "receive");
  auto end = static_cast<std::size_t>(count);
  seen(buffer.first(end));
  int waiting = 0;
  if (end == chunk_size)
    ::ioctl(fd_.get(), SIOCINQ, &waiting);
  const std::size_t most = std::min(end + static_cast<std::size_t>(waiting), buffer.size());
  for (std::size_t taken = 1; taken > 0 && end < most; end += taken)
    taken = receive_chunks(buffer.subspan(end, most - end), chunk_size, seen);
  return end;
}

/// Takes at least one chunk, and at most as many as there is room for; they are there already.
std::size_t Socket::receive_chunks(std::span<std::byte> buffer, std::size_t chunk_size,
                                   const ChunkSeen& seen) {
  constexpr std::size_t most = 16;  // So many fit on the stack without another page of memory.
  std::array<iovec, most> places{};
  std::array<mmsghdr, most> messages{};
  unsigned wanted = 0;
  for (auto rest = buffer; !rest.empty() && wanted < most; ++wanted) {
    const auto chunk = rest.first(std::min(rest.size(), chunk_size));
    places[wanted] = {chunk.data(), chunk.size()};
    messages[wanted].msg_hdr.msg_iov = &places[wanted];
    messages[wanted].msg_hdr.msg_iovlen = 1;
    rest = rest.subspan(chunk.size());
  }
  const auto count =
      TEMP_FAILURE_RETRY(::recvmmsg(fd_.get(), messages.data(), wanted, MSG_DONTWAIT, nullptr));
  if (count == -1)
    throw_error(errno, "receive");
  std::size_t end = 0;
  for (const mmsghdr& message : std::span(messages).first(static_cast<std::size_t>(count))) {
    // A chunk that ends before urgent data is short and leaves a gap (tcp(7)).
    std::memmove(&buffer[end], message.msg_hdr.msg_iov->iov_base, message.msg_len);
    seen(buffer.subspan(end, message.msg_len));
    end += message.msg_len;
  }
  return end;
}

std::size_t Socket::send(std::span<const std::byte> data) {
  const auto count = TEMP_FAILURE_RETRY(::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL));
  if (count == -1)
    throw_error(errno, "send");
  return static_cast<std::size_t>(count);
}

std::size_t Socket::unacknowledged() {
  // After an end of file and then a reset, recv still returns 0 and SIOCOUTQ keeps its value, but
  // send fails. SO_ERROR would also tell of errors that TCP survives (RFC 1122, 4.2.3.9).
  send({});
  int count = 0;
  ::ioctl(fd_.get(), SIOCOUTQ, &count);
  return static_cast<std::size_t>(count);
}

void Socket::reset_when_closed() {
  set_option(fd_, SOL_SOCKET, SO_LINGER, linger{1, 0}, "set SO_LINGER");
}

void Socket::set_idle_timeout(std::chrono::milliseconds timeout) {
  const timeval limit{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  set_option(fd_, SOL_SOCKET, SO_RCVTIMEO, limit, "set SO_RCVTIMEO");
  const auto most = static_cast<int>(std::min<std::int64_t>(timeout.count(), INT_MAX));
  set_option(fd_, IPPROTO_TCP, TCP_USER_TIMEOUT, most, "set TCP_USER_TIMEOUT");
}

tcp_info Socket::info() const noexcept {
  tcp_info info{};
  socklen_t size = sizeof(info);
  ::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size);
  return info;
}

Listener::Listener(Endpoint endpoint)
    : fd_(::socket(endpoint.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const std::string action = "listen on " + endpoint.to_string();
  if (!fd_)
    throw_error(errno, action.c_str());
  // A restart need not wait for connections of the last run in TIME_WAIT (socket(7)).
  set_option(fd_, SOL_SOCKET, SO_REUSEADDR, 1, "set SO_REUSEADDR");
  if (endpoint.storage.ss_family == AF_INET6)
    set_option(fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0, "set IPV6_V6ONLY");
  // Accepted sockets inherit these: what is sent leaves at once instead of waiting for an
  // acknowledgement; urgent data is received in its place (RFC 6093); a peer that vanished is
  // noticed in the end (tcp(7)).
  set_option(fd_, IPPROTO_TCP, TCP_NODELAY, 1, "set TCP_NODELAY");
  set_option(fd_, SOL_SOCKET, SO_OOBINLINE, 1, "set SO_OOBINLINE");
  set_option(fd_, SOL_SOCKET, SO_KEEPALIVE, 1, "set SO_KEEPALIVE");
  if (::bind(fd_.get(), endpoint.address(), endpoint.length) == -1 ||
      ::listen(fd_.get(), SOMAXCONN) == -1)
    throw_error(errno, action.c_str());
}

Endpoint Listener::local_endpoint() const {
  Endpoint endpoint;
  ::getsockname(fd_.get(), endpoint.address(), &endpoint.length);
  return endpoint;
}

std::optional<Socket> Listener::accept() {
  for (;;) {
    Endpoint peer;
    UniqueFd client(static_cast<int>(
        TEMP_FAILURE_RETRY(::accept4(fd_.get(), peer.address(), &peer.length, SOCK_CLOEXEC))));
    if (client)
      return Socket(std::move(client), peer.to_string());
    if (errno == EINVAL)  // No longer listening.
      return std::nullopt;
    if (std::ranges::count(errors_of_one_client, errno) == 0)
      throw_error(errno, "accept");
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
