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

/// One thread uses it; a stop and a cut may come from any.
class Session {
 public:
  /// How a connection ended (`log_end` knows the order): the client had no more data; the server
  /// stopped; a limit was reached; nothing came or went for too long; an error.
  enum class End { no_more_data, stopped, on_purpose, idle, failed };

  /// `stop`: echo what the client has sent, then end. `cut`: end at once. Counts the bytes that
  /// were sent back in `total`, too. The options outlive the session.
  Session(Socket socket, const Options& options, const std::stop_token& stop,
          const std::stop_token& cut, std::atomic<std::uint64_t>& total)
      : socket_(std::move(socket)), options_(options), stop_(stop), cut_(cut), total_(total) {}

  /// Sends back what the client sends until its end of file, a limit, a stop, the idle timeout or
  /// an error, and logs how it ended. The connection stays open until `close`. Throws nothing.
  End run();

  /// Closes the connection: the client sees its end.
  void close();

 private:
  End converse();
  void echo();
  void wait_until_delivered();
  void end_on_purpose();
  std::size_t receive(int flags);
  void send_back(std::size_t size);
  void log_chunk(std::span<const std::byte> chunk) const;
  bool is_at_limit() const { return echoed_ == options_.limit(); }
  End end_by(int error) const;
  End log_end(End end, std::string_view reason = "") const;

  Socket socket_;
  const Options& options_;
  const std::stop_token stop_;
  const std::stop_token cut_;
  std::atomic<std::uint64_t>& total_;  ///< Bytes echoed by all sessions.
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::unique_ptr<std::byte[]> memory_;
  std::span<std::byte> buffer_;
  std::uint64_t echoed_ = 0;  ///< Bytes, by this session.
};

}  // namespace echo
