// The echo of one client, from its first byte to its end of file.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
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
  /// Throws std::bad_alloc.
  Session(Connection connection, const SessionLimits& limits);

  /// Sends back what the client sends until the end of file, the idle timeout or an error, and logs
  /// how it ended. Throws nothing.
  void run();

  /// Ends the session once all that the client's side has sent so far is echoed.
  void finish() noexcept;

  /// Ends the session now.
  void cut() noexcept;

  const std::string& peer() const { return peer_; }
  std::uint64_t bytes_echoed() const { return echoed_.load(std::memory_order_relaxed); }

 private:
  enum class Phase { serving, finishing, cut };

  std::size_t next_burst();
  std::size_t receive_burst();
  std::size_t receive_waiting(std::span<std::byte> buffer);
  void allow_large_bursts();
  void send_all(std::span<const std::byte> data);
  void log_chunk(std::span<const std::byte> chunk) const;
  void log_end(std::string_view before_peer, std::string_view after_peer,
               std::string_view failure = "") const;

  Socket socket_;
  const std::string peer_;
  const SessionLimits limits_;
  std::size_t buffer_size_;
  std::unique_ptr<std::byte[]> buffer_;  ///< Holds at least a chunk; what goes back in one send.
  unsigned lone_chunks_ = 0;             ///< Full chunks in a row behind which nothing was seen.
  bool at_end_ = false;                  ///< The last bytes came with the end of file behind them.
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> echoed_ = 0;
  std::atomic<Phase> phase_ = Phase::serving;
};

}  // namespace echo
