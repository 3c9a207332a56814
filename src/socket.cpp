#include "echo/socket.hpp"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <system_error>

namespace echo {
namespace {

[[noreturn]] void throw_errno(const char* action, const char* object = "") {
  const int error = errno;  // What is allocated for the exception may change it.
  throw std::system_error(error, std::system_category(), std::string(action) + object);
}

/// Calls again as long as a signal interrupted the call (signal(7)).
template <typename Call>
auto retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR)
    result = call();
  return result;
}

template <typename Value>
void set_option(const UniqueFd& fd, int level, int option, const Value& value, const char* name) {
  if (::setsockopt(fd.get(), level, option, &value, sizeof(value)) == -1)
    throw_errno("set ", name);
}

void try_option(const UniqueFd& fd, int level, int option, int value, const char* name) {
  try {
    set_option(fd, level, option, value, name);
  } catch (const std::system_error& error) {
    spdlog::warn("cannot {}", error.what());
  }
}

/// accept(2) reports what befell a client in the queue, or the network under it; the next client
/// has nothing to do with it.
bool concerns_one_client(int error) {
  constexpr std::array errors = {ECONNABORTED, EPROTO,     ENETDOWN,     ENOPROTOOPT, EHOSTDOWN,
                                 ENONET,       EOPNOTSUPP, EHOSTUNREACH, ENETUNREACH};
  return std::ranges::find(errors, error) != errors.end();
}

}  // namespace

std::size_t Socket::receive(std::span<std::byte> buffer) {
  const auto count = retry([&] { return ::recv(fd_.get(), buffer.data(), buffer.size(), 0); });
  if (count == -1)
    throw_errno("receive");
  return static_cast<std::size_t>(count);
}

std::span<std::size_t> Socket::try_receive(std::span<std::byte> buffer, std::size_t chunk_size,
                                           std::span<std::size_t> sizes) {
  std::array<iovec, most_chunks> chunks{};
  std::array<mmsghdr, most_chunks> messages{};
  const auto most =
      static_cast<unsigned>(std::min({most_chunks, sizes.size(), buffer.size() / chunk_size}));
  for (std::size_t i = 0; i < most; ++i) {
    chunks[i] = {&buffer[i * chunk_size], chunk_size};
    messages[i].msg_hdr.msg_iov = &chunks[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  const int result =
      retry([&] { return ::recvmmsg(fd_.get(), messages.data(), most, MSG_DONTWAIT, nullptr); });
  if (result == -1 && errno != EAGAIN)
    throw_errno("receive");

  const auto count = static_cast<std::size_t>(std::max(result, 0));
  std::size_t end = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sizes[i] = messages[i].msg_len;
    // More may have arrived behind a short chunk.
    if (end < i * chunk_size)
      std::ranges::copy(buffer.subspan(i * chunk_size, sizes[i]), buffer.subspan(end).begin());
    end += sizes[i];
  }
  return sizes.first(count);
}

std::size_t Socket::send(std::span<const std::byte> data) {
  const auto send_at_most = [&](std::size_t size, int flags) {
    return retry([&] { return ::send(fd_.get(), data.data(), size, MSG_NOSIGNAL | flags); });
  };
  auto count = send_at_most(data.size(), MSG_DONTWAIT);
  if (count == -1 && errno == EAGAIN)
    count = send_at_most(std::min(data.size(), most_awaited_), 0);
  // Waiting ends when a third of the buffer is free; less may have become free in the time.
  if (count == -1 && errno == EAGAIN)
    count = send_at_most(data.size(), MSG_DONTWAIT);
  if (count == -1)
    throw_errno("send");
  return static_cast<std::size_t>(count);
}

std::size_t Socket::unacknowledged() const {
  // Of a connection that was reset behind the client's end of file, recv still says 0, and
  // SIOCOUTQ what it said last.
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0)
    throw std::system_error(error, std::system_category(), "send");
  int count = 0;
  if (::ioctl(fd_.get(), SIOCOUTQ, &count) == -1)
    throw_errno("count unacknowledged bytes");
  return static_cast<std::size_t>(count);
}

void Socket::shutdown(int how) noexcept {
  ::shutdown(fd_.get(), how);
}

void Socket::set_idle_timeout(std::chrono::milliseconds timeout) {
  const timeval limit{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  set_option(fd_, SOL_SOCKET, SO_RCVTIMEO, limit, "SO_RCVTIMEO");
  set_option(fd_, SOL_SOCKET, SO_SNDTIMEO, limit, "SO_SNDTIMEO");
  // A send that waits after a part of the data went returns that part when the time is over, and
  // only the next one fails. This much goes whole: a socket is writable again when a third of its
  // buffer, of 16 KiB or more, is free (tcp_wmem in tcp(7)). Not without a timeout: it costs 4 %.
  most_awaited_ = 4096;
}

PathInfo Socket::path_info() const noexcept {
  tcp_info info{};
  socklen_t size = sizeof(info);
  ::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size);
  return {std::chrono::microseconds(info.tcpi_rtt), info.tcpi_total_retrans};
}

Listener::Listener(const Endpoint& endpoint) {
  const std::string action = "listen on " + endpoint.to_string();
  fd_ = UniqueFd(::socket(endpoint.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd_)
    throw_errno(action.c_str());
  // A restart need not wait for connections of the last run in TIME_WAIT (SO_REUSEADDR, socket(7)).
  try_option(fd_, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
  if (endpoint.family() == AF_INET6)
    try_option(fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY");
  // Accepted sockets inherit these; to set TCP_NODELAY on each cost short connections 1 %.
  try_option(fd_, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  try_option(fd_, SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE");
  if (::bind(fd_.get(), endpoint.address(), endpoint.length()) == -1 ||
      ::listen(fd_.get(), SOMAXCONN) == -1)
    throw_errno(action.c_str());
}

Endpoint Listener::local_endpoint() const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length) == -1)
    throw_errno("ask for the address bound");
  return {reinterpret_cast<const sockaddr*>(&address), length};
}

std::optional<Connection> Listener::accept() {
  for (;;) {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    UniqueFd client(retry([&] {
      return ::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length, SOCK_CLOEXEC);
    }));
    if (client)
      return Connection{Socket(std::move(client)),
                        Endpoint(reinterpret_cast<const sockaddr*>(&address), length)};
    if (errno == EINVAL)  // No longer listening.
      return std::nullopt;
    if (!concerns_one_client(errno))
      throw_errno("accept");
  }
}

void Listener::shutdown() noexcept {
  ::shutdown(fd_.get(), SHUT_RDWR);
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
