// The echo of one client, from its first byte to its end of file.
#pragma once

#include <atomic>
#include <stop_token>

#include "echo/socket.hpp"

namespace echo {

struct SessionLimits {
  std::size_t chunk_size;                  ///< The most bytes one recv takes, 1 or more.
  std::chrono::milliseconds idle_timeout;  ///< 0 is never.
};

/// How sessions are told to end.
struct Stops {
  std::stop_token finish;  ///< Once all that the client's side has sent so far is echoed.
  std::stop_token cut;     ///< Now.
};

/// Waits, and no longer than until `stop` is requested.
void wait_unless(const std::stop_token& stop, std::chrono::milliseconds time);

/// The echo of one client, from its first byte to its end of file. One thread uses it.
class Session {
 public:
  /// Adds each byte that was sent back to `total`, too.
  Session(Connection connection, const SessionLimits& limits, Stops stops,
          std::atomic<std::uint64_t>& total);

  /// Sends back what the client sends until the end of file, a stop, the idle timeout or an error,
  /// and logs how it ended. Returns false for idling and for an error. Throws nothing.
  bool run();

 private:
  void echo();
  std::size_t receive(std::span<std::byte> buffer);
  void send_all(std::span<const std::byte> data);
  void log_chunk(std::span<const std::byte> chunk) const;
  void log_end(std::string_view before_peer, std::string_view after_peer,
               std::string_view failure = "") const;

  Socket socket_;
  const std::string peer_;
  const SessionLimits limits_;
  const Stops stops_;
  std::atomic<std::uint64_t>& total_;
  std::uint64_t echoed_ = 0;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace echo
