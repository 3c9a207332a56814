// TCP sockets as objects: a listener that accepts, and a stream that receives and sends.
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

/// A connected, blocking TCP stream. One thread receives and sends; any thread may call `shutdown`
/// as long as the socket lives. Errors are thrown as std::system_error "<action>: <reason>".
class Socket {
 public:
  Socket(UniqueFd fd, std::string peer) : fd_(std::move(fd)), peer_(std::move(peer)) {}

  /// The peer's address and port.
  const std::string& peer() const { return peer_; }

  /// Takes what has arrived, at most as many bytes as `buffer` holds, and returns how many
  /// (recv(2)). Waits for the first byte; 0 is the end of file. With MSG_DONTWAIT it waits for
  /// nothing, and 0 can also mean that nothing has arrived.
  std::size_t receive(std::span<std::byte> buffer, int flags = 0);

  /// Waits until the system has taken `data`, and returns how many bytes it took; fewer than all if
  /// an error came in between (send(2)).
  std::size_t send(std::span<const std::byte> data);

  /// How many bytes of what was sent the peer's system has not acknowledged yet (SIOCOUTQ in
  /// tcp(7)). Throws "send" if the connection is broken, or its writing side shut down.
  std::size_t unacknowledged();

  /// SHUT_RD ends a blocked `receive` once it has taken what had arrived; SHUT_WR sends the end of
  /// file; SHUT_RDWR ends a blocked `send`, too (shutdown(2)). On a connection that is already gone
  /// it does nothing.
  void shutdown(int how) noexcept { ::shutdown(fd_.get(), how); }

  /// From now on `close` breaks the connection off by a reset (SO_LINGER in socket(7)).
  void reset_when_closed() noexcept;

  /// Closes the connection. The system still delivers what was sent.
  void close() noexcept { fd_ = UniqueFd(); }

  /// `receive` waits this long and then throws EAGAIN (SO_RCVTIMEO in socket(7)). A peer that takes
  /// nothing of what is sent for this long ends the connection with ETIMEDOUT (TCP_USER_TIMEOUT in
  /// tcp(7), at most 24 days).
  void set_idle_timeout(std::chrono::milliseconds timeout);

  /// What TCP knows of the way to the peer (TCP_INFO in tcp(7)); zeros where it does not tell.
  tcp_info info() const noexcept;

 private:
  UniqueFd fd_;
  std::string peer_;
};

/// A listening TCP socket. Any number of threads may use it at once.
class Listener {
 public:
  /// Binds and listens, on IPv6 for IPv4 clients, too (IPV6_V6ONLY off, ipv6(7)). Port 0 lets the
  /// system choose. Throws std::system_error "listen on <endpoint>" or "set <option>".
  explicit Listener(Endpoint endpoint);

  /// The address and port really bound. Throws std::system_error.
  Endpoint local_endpoint() const;

  /// Blocks for the next client. Returns nothing if the socket no longer listens, as after
  /// `shutdown`. A client that was gone before it could be accepted is passed over; any other error
  /// is thrown as std::system_error "accept" (accept(2)). A thread that waits here holds one
  /// descriptor for the client to come.
  std::optional<Socket> accept();

  /// Ends every `accept`, now and later, drops the clients in the queue and gives the port back.
  void shutdown() noexcept { ::shutdown(fd_.get(), SHUT_RDWR); }

 private:
  UniqueFd fd_;
};

/// Listens on the first of `endpoints` that can be bound; throws as the last one did if none can.
Listener listen_on_first(const std::vector<Endpoint>& endpoints);

}  // namespace echo
