#include "echo/session.hpp"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <system_error>
#include <thread>
#include <utility>

namespace echo {
namespace {

/// What a client costs as long as it sends little: with this and an address written without printf
/// an idle connection takes 9 KiB instead of 17.
constexpr std::size_t small_buffer = 256;
/// For a client who has more waiting than that; half of it costs bulk 3 %, 4 KiB costs 8 %.
constexpr std::size_t large_buffer = 65'536;
/// Between two looks whether a client has read the rest.
constexpr std::chrono::milliseconds longest_pause(64);

}  // namespace

Session::Session(Connection connection, const SessionLimits& limits)
    : socket_(std::move(connection.socket)),
      peer_(connection.peer.to_string()),
      limits_(limits),
      buffer_size_(std::max(limits.chunk_size, small_buffer)),
      // Not zero-filled: of a large buffer only the pages that are used cost memory.
      buffer_(new std::byte[buffer_size_]) {
  try {
    if (limits_.idle_timeout.count() > 0)
      socket_.set_idle_timeout(limits_.idle_timeout);
  } catch (const std::system_error& error) {
    spdlog::warn("cannot {} for {}", error.what(), peer_);
  }
}

void Session::run() {
  try {
    while (const std::size_t size = next_burst()) {
      send_all({buffer_.get(), size});
      const bool is_full = size >= limits_.chunk_size && size + limits_.chunk_size > buffer_size_;
      if (is_full && buffer_size_ < large_buffer)
        allow_large_bursts();
    }
    if (phase_ == Phase::serving)
      log_end("no more data from", "");
    else
      log_end("connection from", " closed by the stop");
  } catch (const std::system_error& error) {
    if (phase_ == Phase::cut)
      log_end("connection from", " closed by the stop");
    else if (error.code() == std::errc::operation_would_block)
      log_end("connection from", " closed for idling");
    else
      log_end("connection from", " failed, ", error.what());
  } catch (const std::bad_alloc&) {
    log_end("connection from", " failed, ", "out of memory");
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
std::size_t Session::next_burst() {
  // A client's end seen right behind its bytes is not asked for again: with short connections that
  // is 1 %. Where a stop shut the reading side, it may not be the client's end.
  if (at_end_ && phase_ == Phase::serving)
    return 0;
  std::size_t size = receive_burst();
  bool client_has_all = false;
  std::chrono::milliseconds pause(1);
  while (size == 0 && phase_ == Phase::finishing && !client_has_all) {
    // Asked before `recv`: the segment that acknowledges the last byte may bring new ones, which
    // the client's system held back while the window was closed.
    client_has_all = socket_.unacknowledged() == 0;
    if (!client_has_all) {
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, longest_pause);
    }
    size = receive_burst();
  }
  return size;
}

/// Waits for a chunk and takes with it those that are there already, so that they go back as one:
/// nothing waits for more input, yet a 16-byte chunk echoes in bulk at 35 MB/s instead of 2.6.
std::size_t Session::receive_burst() {
  const std::span<std::byte> buffer(buffer_.get(), buffer_size_);
  const std::size_t size = socket_.receive(buffer.first(limits_.chunk_size));
  log_chunk(buffer.first(size));
  if (size < limits_.chunk_size)
    return size;
  // Where eight chunks in a row came alone, only behind every eighth is looked for more: 3 % where
  // each message is as long as the chunk.
  const bool looks = lone_chunks_ < 8 || lone_chunks_ % 8 == 0;
  const std::size_t waiting = looks ? receive_waiting(buffer.subspan(size)) : 0;
  lone_chunks_ = waiting > 0 ? 0 : lone_chunks_ + 1;
  return size + waiting;
}

std::size_t Session::receive_waiting(std::span<std::byte> buffer) {
  std::size_t size = 0;
  std::array<std::size_t, Socket::most_chunks> sizes{};
  std::size_t most = 1;  // At first, since mostly nothing or the end of file is there.
  std::size_t last = limits_.chunk_size;
  while (last == limits_.chunk_size && size + limits_.chunk_size <= buffer.size()) {
    last = 0;
    for (const std::size_t count : socket_.try_receive(buffer.subspan(size), limits_.chunk_size,
                                                       std::span(sizes).first(most))) {
      log_chunk(buffer.subspan(size, count));
      size += count;
      last = count;
      at_end_ = count == 0;
    }
    most = sizes.size();
  }
  return size;
}

void Session::allow_large_bursts() {
  // Without the memory the small buffer does, too.
  if (auto* const large = new (std::nothrow) std::byte[large_buffer]) {
    buffer_.reset(large);
    buffer_size_ = large_buffer;
  }
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

void Session::log_end(std::string_view before_peer, std::string_view after_peer,
                      std::string_view failure) const {
  const std::chrono::duration<double> connected = std::chrono::steady_clock::now() - start_;
  const PathInfo path = socket_.path_info();
  spdlog::log(failure.empty() ? spdlog::level::info : spdlog::level::warn,
              "{} {}{}{} ({} bytes echoed in {:.6f} s, round trip {:.3f} ms, {} retransmissions)",
              before_peer, peer_, after_peer, failure, bytes_echoed(), connected.count(),
              path.round_trip_time.count(), path.retransmissions);
}

}  // namespace echo
