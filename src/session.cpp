#include "echo/session.hpp"

#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "echo/log.hpp"
#include "echo/options.hpp"
#include "echo/socket.hpp"
#include "echo/value.hpp"

namespace echo {
namespace {

using namespace std::chrono;

/// Chunks that have already arrived are gathered and sent back together: at most 64 of them, and at
/// most 64 KiB unless a single chunk is larger. More was not faster when it was measured.
constexpr std::size_t max_gathered_chunks = 64;
constexpr std::size_t max_gathered_bytes = 65'536;

/// While a session waits for acknowledgements, it looks again after 1 ms, 2 ms, and so on up to
/// this pause. With 10 ms, a thousand clients that do not read kept a core busy.
constexpr milliseconds max_pause = 64ms;

/// For how long nothing must have arrived until a client counts as quiet: see `is_quiet`.
constexpr milliseconds min_silence = 100ms;

/// With a delay, chunks are sent back one by one.
std::size_t buffer_size(const Options& options) {
  if (options.delay > 0ms)
    return options.chunk_size;
  return std::max(options.chunk_size,
                  std::min(max_gathered_bytes, max_gathered_chunks * options.chunk_size));
}

void sleep_or_stop(const std::stop_token& stop, milliseconds time) {
  std::mutex mutex;  // Protects nothing; the condition variable needs one.
  std::unique_lock lock(mutex);
  std::condition_variable_any never_notified;
  never_notified.wait_for(lock, stop, time, [] { return false; });
}

/// Thrown when the session is to end immediately.
struct Aborted {};

}  // namespace

Session::End Session::run() noexcept {
  // A stop wakes a blocked `receive`. The callback is removed when `run` returns, so that it cannot
  // touch a socket that is closed.
  const std::stop_callback wake(stop_, [this] { socket_.shutdown(SHUT_RD); });
  try {
    return log_end(converse());
  } catch (const Aborted&) {
    return log_end(End::aborted);
  } catch (const std::system_error& error) {
    return log_end(end_by(error.code().value()), error.what());
  } catch (const std::bad_alloc&) {
    return log_end(End::failed, "out of memory");
  }
}

Session::End Session::converse() {
  if (options_.idle_timeout > 0ms)
    socket_.set_idle_timeout(options_.idle_timeout);
  const std::size_t size = buffer_size(options_);
  // Not filled with zeros, because memory that is never touched costs nothing.
  memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
  buffer_ = {memory_.get(), size};

  greet();
  is_greeted_ = true;
  const bool has_client_ended = echo();
  const bool is_stopped = !has_client_ended && stop_.stop_requested();
  // After a close, the kernel still delivers the rest. But it does not tell whether it could, which
  // the exit status of exit_after depends on; the limits promise that it has been delivered; and
  // after a stop, the rest includes what the client is still sending.
  if (options_.exit_after != Options::never || is_at_limit() || is_stopped)
    finish(has_client_ended);
  // Asked again, because the limit can be reached by what arrives after a stop.
  if (is_at_limit()) {
    discard_until_closed();
    return End::by_option;
  }
  return is_stopped ? End::stopped : End::no_more_data;
}

void Session::greet() {
  if (options_.greeting.empty())
    return;
  std::string text = replaced(options_.greeting, "{client}", socket_.peer());
  text = replaced(std::move(text), "{server}", socket_.local_endpoint().to_string());
  spdlog::debug("sending the greeting to {}: {:?}", socket_.peer(), text);
  text += '\n';
  std::span<const std::byte> rest = std::as_bytes(std::span(text));
  while (!rest.empty())
    rest = rest.subspan(send(rest));
}

/// Echoes until the client closes its sending side, until the limit, or until a stop. Returns
/// whether it was the client that ended the echo.
bool Session::echo() {
  while (!is_at_limit() && !stop_.stop_requested()) {
    const std::size_t size = receive(0);
    if (size == 0) {
      if (stop_.stop_requested())  // After the SHUT_RD in `run`, this need not be end of file.
        return false;
      is_heard_ = true;
      return true;
    }
    if (options_.delay > 0ms)
      sleep_or_stop(stop_, options_.delay);
    send_back(size);
  }
  return false;
}

/// Waits until the client's kernel has acknowledged everything that was sent. If it was a stop that
/// ended the echo, also waits until the client is quiet. What arrives in the meantime is sent back
/// as far as the limit allows: a client may send everything before it starts to read. Throws if the
/// connection breaks or the session is aborted.
///
/// This must come before the server closes a connection, because a byte that arrives after the
/// close is answered with a reset (RFC 9293, 3.10.7.4), which destroys what is still on its way to
/// the client.
void Session::finish(bool has_client_ended) {
  milliseconds pause = 1ms;
  for (;;) {
    throw_if_aborted();
    const bool is_delivered = socket_.unacknowledged() == 0;
    if (is_delivered && (has_client_ended || is_at_limit()))
      return;
    const bool was_quiet = is_quiet();
    // Looks first, receives afterwards: what arrives between the two is then still received.
    const std::size_t arrived = receive(MSG_DONTWAIT);
    if (arrived > 0) {
      send_back(arrived);
      continue;
    }
    if (is_delivered && was_quiet)
      return;
    // `receive` does not notice a reset that follows the client's end of file: it returns 0.
    socket_.throw_if_broken();
    sleep_or_stop(abort_, pause);
    pause = std::min(2 * pause, max_pause);
  }
}

/// Whether nothing more is to be expected from the client: it has closed its sending side, or
/// nothing has arrived for a while. One look at an empty queue is not enough: the acknowledgement
/// of the last echo tells the client's kernel that there is room again, and what it held back
/// arrives a round trip later.
bool Session::is_quiet() const {
  const tcp_info tcp = socket_.info();
  if (tcp.tcpi_state != TCP_ESTABLISHED)  // This includes a sandbox that refuses TCP_INFO.
    return true;
  const milliseconds silence(tcp.tcpi_last_data_recv);
  return silence >= min_silence && silence >= 2 * microseconds(tcp.tcpi_rtt);
}

/// What comes after the limit. The option has done its work, so neither what the client does now
/// nor an error changes how the connection has ended. (The idle timeout is such an error.)
void Session::discard_until_closed() {
  if (options_.reset_after != Options::never)
    return;  // `close` sends the reset.
  if (options_.close_after != Options::never)
    socket_.shutdown(SHUT_WR);
  try {
    while (!stop_.stop_requested() && receive(0) > 0)
      continue;
  } catch (const std::system_error&) {  // Then the connection is closed as well.
  }
}

/// Receives a chunk with one recv(2), and waits for it unless `flags` are MSG_DONTWAIT. As long as
/// chunks are full and the buffer has room for another one, also receives those that have already
/// arrived, each with a recv(2) of its own, so that one send(2) can return all of them. Returns the
/// number of bytes at the start of `buffer_`: 0 at end of file, or if nothing has arrived.
std::size_t Session::receive(int flags) {
  for (std::size_t size = 0;;) {
    const auto chunk = buffer_.subspan(size, options_.chunk_size);
    const std::size_t received = socket_.receive(chunk, flags);
    log_chunk(chunk.first(received));
    is_heard_ = is_heard_ || received > 0;
    size += received;
    const bool has_room = buffer_.size() - size >= options_.chunk_size;
    if (received < chunk.size() || !has_room)
      return size;
    flags = MSG_DONTWAIT;
  }
}

/// Sends back the first `size` bytes of the buffer, as far as the limit allows.
void Session::send_back(std::size_t size) {
  const auto allowed = std::min<std::uint64_t>(size, options_.limit() - echoed_);
  std::span<const std::byte> rest = buffer_.first(static_cast<std::size_t>(allowed));
  if (!rest.empty())
    spdlog::debug("sending data back to {}: {} byte{}", socket_.peer(), rest.size(),
                  plural(rest.size()));
  while (!rest.empty()) {
    const std::size_t sent = send(rest);
    echoed_ += sent;
    echoed_by_all_ += sent;
    rest = rest.subspan(sent);
  }
}

/// Returns how many bytes the kernel took. Throws if the session is aborted: otherwise the
/// connection could be closed as if everything had been sent. Since Socket::send returns after
/// `send_patience` even if there is no room, an abort is noticed in time.
std::size_t Session::send(std::span<const std::byte> data) {
  throw_if_aborted();
  return socket_.send(data);
}

void Session::throw_if_aborted() const {
  if (abort_.stop_requested())
    throw Aborted();
}

bool Session::is_at_limit() const {
  // A reset right after `accept` would reach the client in `connect`, in `send` or in `recv`, by
  // chance. So --reset-after 0 waits until the client has been heard.
  const bool is_too_early = options_.reset_after == 0 && !is_heard_;
  return echoed_ == options_.limit() && !is_too_early;
}

/// The end that follows from an error of a system call.
Session::End Session::end_by(int error) const {
  if (options_.idle_timeout > 0ms && (error == EAGAIN || error == ETIMEDOUT))
    return End::timed_out;
  // Many health checks reset the connection before they send a byte. But a client that has not
  // received the whole greeting has failed.
  const bool is_reset = error == ECONNRESET || error == EPIPE;
  const bool has_all = is_greeted_ && socket_.unacknowledged() == 0;
  return is_reset && !is_heard_ && has_all ? End::no_more_data : End::failed;
}

void Session::close(End end) {
  switch (end) {
    case End::aborted:
      socket_.reset_when_closed();  // End of file would look like the end of the echo.
      break;
    case End::by_option:
      if (options_.reset_after != Options::never)
        socket_.reset_when_closed();
      break;
    case End::stopped:
      // The client then sees end of file even if a byte arrives right before the close, which turns
      // the close into a reset.
      socket_.shutdown(SHUT_WR);
      break;
    case End::no_more_data:
    case End::timed_out:
    case End::failed:  // Nearly always, there is no connection left.
      break;
  }
  socket_.close();
}

}  // namespace echo
