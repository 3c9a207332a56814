// The echo of one client, from its first byte to its end of file.
#pragma once

#include <atomic>
#include <stop_token>

#include "echo/socket.hpp"

namespace echo {

struct SessionLimits {
  std::size_t chunk_size;                  ///< The most bytes one recv takes, 1 or more.
  std::chrono::milliseconds idle_timeout;  ///< 0 is never.
  std::chrono::milliseconds delay{};       ///< Before each chunk goes back.
  std::uint64_t close_after = UINT64_MAX;  ///< Bytes that go back before the end of file.
  std::uint64_t reset_after = UINT64_MAX;  ///< Bytes that go back before a reset.
};

/// The echo of one client, from its first byte to its end of file. One thread uses it.
class Session {
 public:
  /// `finish` ends the session once all that the client's side has sent so far is echoed, `cut`
  /// ends it now. Adds each byte that was sent back to `total`, too.
  Session(Socket socket, const SessionLimits& limits, std::stop_token finish, std::stop_token cut,
          std::atomic<std::uint64_t>& total);

  /// Closes the connection. At a stop the end of file goes first: where bytes are unread, a close
  /// alone would send a reset in its place.
  ~Session() {
    if (finish_.stop_requested() && !on_purpose_)
      socket_.shutdown(SHUT_WR);
  }

  /// Sends back what the client sends until the end of file, a limit, a stop, the idle timeout or
  /// an error, and logs how it ended. Returns false if it idled or an error came, unless
  /// close_after or reset_after was reached or the session cut. Throws nothing.
  bool run();

 private:
  void echo();
  void end_on_purpose(std::span<std::byte> buffer);
  std::size_t receive(std::span<std::byte> buffer);
  void wait_until_acknowledged(const std::function<bool()>& take);
  void send_all(std::span<const std::byte> data);
  void log_chunk(std::span<const std::byte> chunk) const;
  void log_end(std::string_view before_peer, std::string_view after_peer,
               std::string_view failure = "") const;

  Socket socket_;
  const SessionLimits limits_;
  const std::stop_token finish_;
  const std::stop_token cut_;
  std::atomic<std::uint64_t>& total_;
  std::uint64_t echoed_ = 0;
  bool on_purpose_ = false;  ///< Whether close_after or reset_after is reached.
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace echo
