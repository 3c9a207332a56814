// TCP sockets as objects: a listener that accepts, a stream that receives and sends.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "echo/endpoint.hpp"
#include "echo/unique_fd.hpp"

namespace echo {

/// What TCP knows of the way to the peer (TCP_INFO in tcp(7)).
struct PathInfo {
  std::chrono::duration<double, std::milli> round_trip_time;
  std::uint32_t retransmissions;
};

/// A connected, blocking TCP stream. One thread receives and sends; any thread may call `shutdown`
/// as long as the socket lives. Errors are thrown as std::system_error named after the call.
class Socket {
 public:
  explicit Socket(UniqueFd fd) : fd_(std::move(fd)) {}

  /// Waits for bytes and takes what is there, at most buffer.size(); 0 is the end of file
  /// (recv(2)). Throws std::errc::operation_would_block once the idle timeout is over.
  std::size_t receive(std::span<std::byte> buffer);

  /// The most chunks that one `try_receive` takes; with 8 bulk is 6 % slower, with 32 3 % faster.
  static constexpr std::size_t most_chunks = 16;

  /// Takes chunks that are there already, each as by a `receive` of at most `chunk_size` bytes, but
  /// all by one system call (recvmmsg(2)): at most one for each of `sizes`, and as many as fit into
  /// `buffer`, where they lie one behind the other. Returns the sizes of those it took: none where
  /// nothing was there, 0 for the end of file.
  std::span<std::size_t> try_receive(std::span<std::byte> buffer, std::size_t chunk_size,
                                     std::span<std::size_t> sizes);

  /// Hands at least one byte of `data` to the system, waiting for room if there is none, and
  /// returns how many it took (send(2)). Throws std::errc::operation_would_block as `receive` does.
  std::size_t send(std::span<const std::byte> data);

  /// Bytes sent that the peer's system has not acknowledged yet (SIOCOUTQ in tcp(7)). Throws "send"
  /// if they cannot be delivered any more.
  std::size_t unacknowledged() const;

  /// SHUT_RD ends a blocked `receive` once it has taken what had arrived; SHUT_RDWR ends a blocked
  /// `send`, too (shutdown(2)). On a connection that is already gone it does nothing.
  void shutdown(int how) noexcept;

  /// The longest that `receive` and `send` wait (SO_RCVTIMEO, SO_SNDTIMEO in socket(7)); 0 is
  /// forever.
  void set_idle_timeout(std::chrono::milliseconds timeout);

  /// Zeros where the system does not tell.
  PathInfo path_info() const noexcept;

 private:
  UniqueFd fd_;
  std::size_t most_awaited_ = std::numeric_limits<std::size_t>::max();  ///< By one waiting send.
};

/// A client as `Listener::accept` hands it over.
struct Connection {
  Socket socket;
  Endpoint peer;
};

/// A listening TCP socket.
class Listener {
 public:
  /// Binds and listens, on IPv6 for IPv4 clients, too (IPV6_V6ONLY off, ipv6(7)). Port 0 lets the
  /// system choose. Throws std::system_error "listen on <endpoint>".
  explicit Listener(const Endpoint& endpoint);

  /// The address and port really bound.
  Endpoint local_endpoint() const;

  /// Blocks for the next client; nothing after `shutdown`. What the client is sent leaves at once,
  /// instead of waiting for an acknowledgement of what left before (TCP_NODELAY, tcp(7)); urgent
  /// data is received in its place (SO_OOBINLINE, RFC 6093). Any number of threads may wait here,
  /// each holding one descriptor for the client to come. A client that was gone before it could be
  /// accepted is passed over; any other error is thrown as std::system_error "accept" (accept(2)).
  std::optional<Connection> accept();

  /// Ends every `accept`, now and later, drops the clients in the queue and gives the port back.
  /// Any thread may call it.
  void shutdown() noexcept;

 private:
  UniqueFd fd_;
};

/// Listens on the first of `endpoints` that can be bound; throws as the last one did if none can.
Listener listen_on_first(const std::vector<Endpoint>& endpoints);

}  // namespace echo
