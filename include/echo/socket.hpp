// TCP sockets as objects: a listener that accepts, a stream that receives and sends.
#pragma once

#include <netinet/tcp.h>

#include <chrono>
#include <climits>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>

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

  using ChunkSeen = std::function<void(std::span<const std::byte>)>;

  /// Waits for a chunk of at most `chunk_size` bytes (recv(2)). If it is full, also takes the
  /// chunks that are already there, as many as `buffer` has room for (recvmmsg(2)). They lie one
  /// behind the other in `buffer`; `seen` is told each. Returns how many bytes they have together;
  /// 0 is the end of file.
  std::size_t receive(std::span<std::byte> buffer, std::size_t chunk_size, const ChunkSeen& seen);

  /// Waits until the system has taken `data`, and returns how many bytes it took; fewer than all if
  /// an error came in between (send(2)).
  std::size_t send(std::span<const std::byte> data);

  /// Bytes sent that the peer's system has not acknowledged yet (SIOCOUTQ in tcp(7)). Throws "send"
  /// if the connection is broken, or its writing side shut down.
  std::size_t unacknowledged();

  /// Takes what has arrived and throws it away; waits for nothing (MSG_TRUNC in tcp(7)).
  void discard() noexcept { ::recv(fd_.get(), nullptr, INT_MAX, MSG_DONTWAIT | MSG_TRUNC); }

  /// SHUT_RD ends a blocked `receive` once it has taken what had arrived; SHUT_RDWR ends a blocked
  /// `send`, too (shutdown(2)). On a connection that is already gone it does nothing.
  void shutdown(int how) noexcept { ::shutdown(fd_.get(), how); }

  /// The end of the socket breaks the connection off by a reset (SO_LINGER in socket(7)).
  void reset_when_closed();

  /// `receive` waits so long and then throws EAGAIN (SO_RCVTIMEO in socket(7)). A peer that takes
  /// nothing of what is sent for so long ends the connection with ETIMEDOUT (TCP_USER_TIMEOUT in
  /// tcp(7)).
  void set_idle_timeout(std::chrono::milliseconds timeout);

  /// What TCP knows of the way to the peer (TCP_INFO in tcp(7)); zeros where it does not tell.
  tcp_info info() const noexcept;

 private:
  std::size_t receive_chunks(std::span<std::byte> buffer, std::size_t chunk_size,
                             const ChunkSeen& seen);

  UniqueFd fd_;
  std::string peer_;
};

/// A listening TCP socket.
class Listener {
 public:
  /// Binds and listens, on IPv6 for IPv4 clients, too (IPV6_V6ONLY off, ipv6(7)). Port 0 lets the
  /// system choose. Throws std::system_error "listen on <endpoint>" or "set <option>".
  explicit Listener(Endpoint endpoint);

  /// The address and port really bound.
  Endpoint local_endpoint() const;

  /// Blocks for the next client; returns nothing after `shutdown`. Any number of threads may wait
  /// here, each holding one descriptor for the client to come. A client that was gone before it
  /// could be accepted is passed over; any other error is thrown as std::system_error "accept"
  /// (accept(2)).
  std::optional<Socket> accept();

  /// Ends every `accept`, now and later, drops the clients in the queue and gives the port back.
  /// Any thread may call it.
  void shutdown() noexcept { ::shutdown(fd_.get(), SHUT_RDWR); }

 private:
  UniqueFd fd_;
};

/// Listens on the first of `endpoints` that can be bound; throws as the last one did if none can.
Listener listen_on_first(const std::vector<Endpoint>& endpoints);

}  // namespace echo
