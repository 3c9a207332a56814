#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "echo/socket.hpp"

namespace echo {

struct SessionLimits {
  std::size_t chunk_size;                  ///< The most bytes one recv(2) takes, 1 or more.
  std::chrono::milliseconds idle_timeout;  ///< 0 is never.
};

/// The echo of one client, from its first byte to its end of file. One thread runs it; any thread
/// may finish or cut it or read its bytes meanwhile.
class Session {
 public:
  Session(Connection connection, const SessionLimits& limits);

  /// Sends back what the client sends until the end of file, the idle timeout or an error, and logs
  /// how it ended; throws nothing of the network's. `buffer` holds at least a chunk; it is the most
  /// that goes back in one send.
  void run(std::span<std::byte> buffer);

  /// Ends the session once all that the client's side has sent so far is echoed.
  void finish() noexcept;

  /// Ends the session now.
  void cut() noexcept;

  const std::string& peer() const { return peer_; }
  std::uint64_t bytes_echoed() const { return echoed_.load(std::memory_order_relaxed); }

 private:
  enum class Phase { serving, finishing, cut };

  std::size_t receive_until_finished(std::span<std::byte> buffer);
  std::size_t receive_burst(std::span<std::byte> buffer);
  void send_all(std::span<const std::byte> data);
  void log_chunk(std::span<const std::byte> chunk) const;
  void log_end(int level, std::string_view before_peer, std::string_view after_peer,
               std::string_view detail = "") const;

  Socket socket_;
  const std::string peer_;
  const SessionLimits limits_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> echoed_ = 0;
  std::atomic<Phase> phase_ = Phase::serving;
};

}  // namespace echo
