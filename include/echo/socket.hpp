// TCP sockets as objects: a listener that accepts, and a connected stream that receives and sends.
#pragma once

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "echo/endpoint.hpp"
#include "echo/unique_fd.hpp"

namespace echo {

/// How long `Socket::send` waits for room before it returns, so that its caller can see that it is
/// to give up. (A shutdown of the sending side would wake it as well, but also send end of file.)
constexpr std::chrono::milliseconds send_patience{100};

/// A connected, blocking TCP stream. One thread receives and sends. Any thread may call `shutdown`
/// while the socket lives. A system call that fails is thrown as std::system_error, whose text is
/// the action and the reason: "receive: Connection reset by peer".
class Socket {
 public:
  Socket(UniqueFd fd, std::string peer) : fd_(std::move(fd)), peer_(std::move(peer)) {}

  /// The peer's address and port.
  const std::string& peer() const { return peer_; }

  /// The address and port of this end of the connection.
  Endpoint local_endpoint() const;

  /// Receives what has arrived, up to the size of `buffer`, and returns the number of bytes
  /// (recv(2)). Blocks until there is at least one byte; 0 means end of file. With MSG_DONTWAIT it
  /// never blocks, and 0 can also mean that nothing has arrived.
  std::size_t receive(std::span<std::byte> buffer, int flags = 0);

  /// Hands `data` to the kernel and returns how many bytes it took (send(2)). Blocks until it has
  /// taken all of them, but not for much longer than `send_patience` in a row: then the result is
  /// smaller, and may be 0.
  std::size_t send(std::span<const std::byte> data);

  /// How many of the bytes sent have not been acknowledged by the peer's kernel (SIOCOUTQ in
  /// tcp(7)). If the result is 0, they were delivered, even if the connection has broken since.
  std::size_t unacknowledged() const noexcept;

  /// Throws if the connection is broken.
  void throw_if_broken();

  /// SHUT_RD ends a blocked `receive` as soon as it has read what had already arrived. (Linux still
  /// accepts what arrives later, and `receive` returns it.) SHUT_WR sends end of file
  /// (shutdown(2)). Does nothing if the connection no longer exists.
  void shutdown(int how) noexcept { ::shutdown(fd_.get(), how); }

  /// Makes `close` reset the connection and discard what was not delivered (SO_LINGER in
  /// socket(7)).
  void reset_when_closed() noexcept;

  /// Closes the connection. The kernel still delivers what was sent.
  void close() noexcept { fd_ = UniqueFd(); }

  /// After this long without a byte, `receive` throws EAGAIN (SO_RCVTIMEO in socket(7)). After this
  /// long without an acknowledgement of what was sent, the kernel ends the connection with
  /// ETIMEDOUT (TCP_USER_TIMEOUT in tcp(7), at most 24 days).
  void set_idle_timeout(std::chrono::milliseconds timeout);

  /// What the kernel has measured on this connection (TCP_INFO in tcp(7)). All fields are zero,
  /// even the state, if a sandbox refuses the call.
  tcp_info info() const noexcept;

 private:
  UniqueFd fd_;
  std::string peer_;
};

/// A listening TCP socket. Any number of threads may use it at the same time.
class Listener {
 public:
  /// Binds and listens; an IPv6 socket accepts IPv4 clients as well (IPV6_V6ONLY off, ipv6(7)).
  /// With port 0, the kernel picks a free one. Throws std::system_error "listen on <endpoint>:
  /// <reason>", or std::runtime_error with a hint if the port needs a privilege.
  explicit Listener(Endpoint endpoint);

  /// The address and port that were really bound.
  Endpoint local_endpoint() const;

  /// Shortens the backlog to one connection and takes that place with a connection of its own. From
  /// then on, the kernel drops every SYN, and a client's `connect` gets no answer.
  void fill_backlog();

  /// Blocks until there is a client. Returns nothing if the socket no longer listens, for example
  /// after `shutdown`. A client that has gone before it could be accepted is skipped. Other errors
  /// are thrown as std::system_error "accept: <reason>" (accept(2)).
  std::optional<Socket> accept();

  /// Ends every `accept`, now and later, drops the connections in the backlog, and stops
  /// listening, so that another program can listen on the port.
  void shutdown() noexcept { ::shutdown(fd_.get(), SHUT_RDWR); }

 private:
  UniqueFd fd_;
  UniqueFd backlog_filler_;
};

/// Listens on the first of `endpoints` that can be bound, and throws as `Listener` does if there is
/// none. An endpoint that is already in use ends the search: its user would not expect a second
/// server beside the first one.
Listener listen_on_first(const std::vector<Endpoint>& endpoints);

}  // namespace echo
