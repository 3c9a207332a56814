#include "echo/session.hpp"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

namespace echo {

Session::Session(Connection connection, const SessionLimits& limits)
    : socket_(std::move(connection.socket)), peer_(connection.peer.to_string()), limits_(limits) {
  try {
    socket_.set_no_delay();
    if (limits_.idle_timeout.count() > 0)
      socket_.set_idle_timeout(limits_.idle_timeout);
  } catch (const std::system_error& error) {
    spdlog::warn("cannot {} for {}", error.what(), peer_);
  }
}

void Session::run(std::span<std::byte> buffer) {
  try {
    while (const std::size_t size = receive_until_finished(buffer))
      send_all(buffer.first(size));
    if (phase_ == Phase::serving)
      log_end(spdlog::level::info, "no more data from", "");
    else
      log_end(spdlog::level::info, "connection from", " closed by the stop");
  } catch (const std::system_error& error) {
    if (phase_ == Phase::cut)
      log_end(spdlog::level::info, "connection from", " closed by the stop");
    else if (error.code() == std::errc::operation_would_block)
      log_end(spdlog::level::info, "connection from", " closed for idling");
    else
      log_end(spdlog::level::warn, "connection from", " failed, ", error.what());
  }
}

void Session::finish() noexcept {
  phase_ = Phase::finishing;
  socket_.shutdown(SHUT_RD);
}

void Session::cut() noexcept {
  phase_ = Phase::cut;
  socket_.shutdown(SHUT_RDWR);
}

/// Closing is safe only when the client has all of its bytes: a byte that arrives after the close
/// is answered with a reset (RFC 9293, 3.6.1), which would destroy what is still on its way. Until
/// then whatever arrives is echoed as ever; Linux delivers it in spite of SHUT_RD.
std::size_t Session::receive_until_finished(std::span<std::byte> buffer) {
  std::size_t size = receive_burst(buffer);
  while (size == 0 && phase_ == Phase::finishing && socket_.unacknowledged() > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    size = receive_burst(buffer);
  }
  return size;
}

/// Waits for a chunk and takes with it those that are there already, so that they go back as one:
/// nothing waits for more input, yet a 16-byte chunk echoes in bulk at 24 MB/s instead of 2.6.
std::size_t Session::receive_burst(std::span<std::byte> buffer) {
  std::size_t count = socket_.receive(buffer.first(limits_.chunk_size));
  std::size_t size = count;
  log_chunk(buffer.first(count));
  while (count == limits_.chunk_size && size + limits_.chunk_size <= buffer.size()) {
    count = socket_.receive_waiting(buffer.subspan(size, limits_.chunk_size));
    log_chunk(buffer.subspan(size, count));
    size += count;
  }
  return size;
}

void Session::send_all(std::span<const std::byte> data) {
  spdlog::debug("sending data back to {}: {} bytes", peer_, data.size());
  while (!data.empty()) {
    const std::size_t sent = socket_.send(data);
    echoed_.fetch_add(sent, std::memory_order_relaxed);
    data = data.subspan(sent);
  }
}

void Session::log_chunk(std::span<const std::byte> chunk) const {
  if (chunk.empty() || !spdlog::should_log(spdlog::level::debug))
    return;
  constexpr std::size_t most_shown = 1024;
  const std::string_view shown(reinterpret_cast<const char*>(chunk.data()),
                               std::min(chunk.size(), most_shown));
  // {:?} escapes whatever could forge a line of the log or steer the terminal.
  spdlog::debug("received {} bytes from {}: {:?}{}", chunk.size(), peer_, shown,
                chunk.size() > most_shown ? "..." : "");
}

void Session::log_end(int level, std::string_view before_peer, std::string_view after_peer,
                      std::string_view detail) const {
  const std::chrono::duration<double> connected = std::chrono::steady_clock::now() - start_;
  const PathInfo path = socket_.path_info();
  spdlog::log(static_cast<spdlog::level::level_enum>(level),
              "{} {}{}{} ({} bytes echoed in {:.6f} s, round trip {:.3f} ms, {} retransmissions)",
              before_peer, peer_, after_peer, detail, bytes_echoed(), connected.count(),
              path.round_trip_time.count(), path.retransmissions);
}

}  // namespace echo
