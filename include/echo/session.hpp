// The echo of one client, from its first byte to its end, and how it ended.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string_view>
#include <utility>

#include "echo/options.hpp"
#include "echo/socket.hpp"

namespace echo {

/// The conversation with one client. One thread uses it. A stop and an abort may be requested by
/// any thread.
class Session {
 public:
  /// How a connection ended. This is decided once, when `run` returns: the log line, the server's
  /// totals and the way in which `close` closes the connection all follow from it.
  enum class End {
    no_more_data,  ///< The client closed its sending side, or reset before it sent a byte.
    stopped,       ///< The server was stopped, and has sent back everything that arrived.
    aborted,       ///< The server was stopped, and the drain timeout expired first.
    by_option,     ///< --close-after, --reset-after or --stall-after was reached and delivered.
    timed_out,     ///< The idle timeout expired.
    failed,        ///< The client reset the connection, the network failed, or memory ran out.
  };

  /// A request on `stop` ends the session as soon as everything that the client has sent is sent
  /// back; a request on `abort`, which follows a stop, ends it immediately, or as soon as a blocked
  /// send returns (see `send_patience`). The bytes sent back are added to `echoed_by_all` as well.
  /// The options must outlive the session.
  Session(Socket socket, const Options& options, const std::stop_token& stop,
          const std::stop_token& abort, std::atomic<std::uint64_t>& echoed_by_all)
      : socket_(std::move(socket)),
        options_(options),
        stop_(stop),
        abort_(abort),
        echoed_by_all_(echoed_by_all) {}

  /// Greets the client, echoes until one of the ends above, and logs it. The connection stays open
  /// until `close`.
  End run() noexcept;

  /// Closes the connection in the way that fits its end.
  void close(End end);

 private:
  End converse();
  void greet();
  bool echo();
  void finish(bool has_client_ended);
  void discard_until_closed();
  std::size_t receive(int flags);
  void send_back(std::size_t size);
  std::size_t send(std::span<const std::byte> data);
  void throw_if_aborted() const;
  bool is_at_limit() const;
  bool is_quiet() const;
  End end_by(int error) const;

  // In session_log.cpp:
  void log_chunk(std::span<const std::byte> chunk) const;
  std::string_view words_for(End end) const;
  End log_end(End end, std::string_view reason = "") const;

  Socket socket_;
  const Options& options_;
  const std::stop_token stop_;
  const std::stop_token abort_;
  std::atomic<std::uint64_t>& echoed_by_all_;  ///< Bytes sent back by all sessions of the server.
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::unique_ptr<std::byte[]> memory_;  ///< Owns what `buffer_` refers to.
  std::span<std::byte> buffer_;
  bool is_greeted_ = false;   ///< The kernel has been given the whole greeting, if there is one.
  std::uint64_t echoed_ = 0;  ///< Bytes sent back by this session.
  /// The client has sent a byte, or has ended the echo itself. `is_at_limit` and `end_by` ask for
  /// it.
  bool is_heard_ = false;
};

}  // namespace echo
