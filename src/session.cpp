#include "echo/session.hpp"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string_view>
#include <system_error>

#include "echo/log.hpp"

namespace echo {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

/// The most that is gathered for one send, unless a single chunk is larger.
constexpr std::size_t max_chunks = 64;
constexpr std::size_t max_bytes = 65'536;
/// The longest pause between two looks at whether a client's system has everything.
constexpr milliseconds max_pause = 64ms;

/// Waits, but no longer than until `stop` is requested.
void wait_unless(const std::stop_token& stop, milliseconds time) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any never_notified;
  never_notified.wait_for(lock, stop, time, [] { return false; });
}

}  // namespace

Session::End Session::run() {
  // Both are removed before `run` returns, so that neither touches the socket after `close`.
  const std::stop_callback on_stop(stop_, [this] { socket_.shutdown(SHUT_RD); });
  const std::stop_callback on_cut(cut_, [this] { socket_.shutdown(SHUT_RDWR); });
  try {
    return log_end(converse());
  } catch (const std::system_error& error) {
    return log_end(end_by(error.code().value()), error.what());
  } catch (const std::bad_alloc&) {
    return log_end(end_by(ENOMEM), "out of memory");
  }
}

/// What kind of end an error is.
Session::End Session::end_by(int error) const {
  if (is_at_limit())
    return End::on_purpose;
  if (cut_.stop_requested())
    return End::stopped;
  const bool timed_out = error == EAGAIN || error == ETIMEDOUT;
  return timed_out && options_.idle_timeout.count() > 0 ? End::idle : End::failed;
}

Session::End Session::converse() {
  if (options_.idle_timeout.count() > 0)
    socket_.set_idle_timeout(options_.idle_timeout);
  std::size_t size = options_.chunk_size;
  if (options_.delay.count() == 0)  // With a delay each chunk goes back by itself.
    size = std::max(size, std::min(max_bytes, max_chunks * size));
  // Not filled with zeros: memory that is not touched costs nothing.
  memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
  buffer_ = {memory_.get(), size};

  echo();
  // With exit_after, the exit status is to say whether each client got everything.
  if (is_at_limit() || stop_.stop_requested() || options_.exit_after != Options::never)
    wait_until_delivered();
  if (is_at_limit()) {
    end_on_purpose();
    return End::on_purpose;
  }
  return stop_.stop_requested() ? End::stopped : End::no_more_data;
}

/// Returns at the end of file, after a stop or at the limit.
void Session::echo() {
  while (!is_at_limit()) {
    const std::size_t size = receive(0);
    if (size == 0)
      return;
    if (options_.delay.count() > 0)
      wait_unless(stop_, options_.delay);
    send_back(size);
  }
}

/// Waits until the client's system has everything that was sent, or until the cut. If the server
/// ended first, TCP could reset the connection (RFC 9293, 3.6.1) and lose bytes on their way.
/// Echoes meanwhile what arrives: a client may send everything before it reads, and Linux accepts
/// new bytes also after SHUT_RD.
void Session::wait_until_delivered() {
  milliseconds pause = 1ms;
  while (!cut_.stop_requested()) {
    const bool is_delivered = socket_.unacknowledged() == 0;
    const std::size_t arrived = receive(MSG_DONTWAIT);
    send_back(arrived);
    if (is_delivered && (arrived == 0 || is_at_limit()))
      return;
    if (arrived == 0) {
      wait_unless(cut_, pause);
      pause = std::min(2 * pause, max_pause);
    }
  }
}

/// Called after `wait_until_delivered`. A reset is then sent by `close`.
void Session::end_on_purpose() {
  if (options_.ends_by_reset()) {
    socket_.reset_when_closed();
    return;
  }
  socket_.shutdown(SHUT_WR);
  while (receive(0) > 0)  // Until the client closes, too, or a stop.
    continue;
}

/// Takes a chunk, waited for unless `flags` say MSG_DONTWAIT. If it is full, also takes the chunks
/// that are already there, as many as the buffer has room for. Returns how many bytes they have
/// together; 0 at the end of file, or if nothing has arrived.
std::size_t Session::receive(int flags) {
  std::size_t size = 0;
  std::size_t taken = options_.chunk_size;  // As if full, so that the first chunk is taken.
  while (taken == options_.chunk_size && size + options_.chunk_size <= buffer_.size()) {
    const auto chunk = buffer_.subspan(size, options_.chunk_size);
    taken = socket_.receive(chunk, size == 0 ? flags : MSG_DONTWAIT);
    log_chunk(chunk.first(taken));
    size += taken;
  }
  return size;
}

/// Sends back the first `size` bytes of the buffer, as far as the limit allows.
void Session::send_back(std::size_t size) {
  const auto allowed = std::min<std::uint64_t>(size, options_.limit() - echoed_);
  std::span<const std::byte> rest = buffer_.first(static_cast<std::size_t>(allowed));
  if (rest.empty())
    return;
  spdlog::debug("sending data back to {}: {} byte{}", socket_.peer(), rest.size(),
                plural(rest.size()));
  while (!rest.empty()) {
    const std::size_t sent = socket_.send(rest);
    echoed_ += sent;
    total_ += sent;
    rest = rest.subspan(sent);
  }
}

void Session::close() {
  // A client that still sent when it was cut gets a reset. After an end of file alone it could wait
  // for minutes: Linux does not tell it of new room after SHUT_RD.
  if (cut_.stop_requested() && milliseconds(socket_.info().tcpi_last_data_recv) < 3s)
    socket_.reset_when_closed();
  // Unread bytes turn a close into a reset. After a stop, SHUT_WR sends the end of file before it.
  // (At the limit, `end_on_purpose` has chosen the end.)
  if (stop_.stop_requested() && !is_at_limit())
    socket_.shutdown(SHUT_WR);
  socket_.close();
}

void Session::log_chunk(std::span<const std::byte> chunk) const {
  if (chunk.empty() || !spdlog::should_log(spdlog::level::debug))
    return;
  constexpr std::size_t max_shown = 512;
  const std::string_view shown(reinterpret_cast<const char*>(chunk.data()),
                               std::min(chunk.size(), max_shown));
  // {:?} escapes whatever could forge a line of the log or steer the terminal.
  spdlog::debug("received {} byte{} from {}: {:?}{}", chunk.size(), plural(chunk.size()),
                socket_.peer(), shown, chunk.size() > max_shown ? "..." : "");
}

/// Needs no memory of the heap: that may be what was missing. Returns `end`.
Session::End Session::log_end(End end, std::string_view reason) const {
  const char* const on_purpose =
      options_.ends_by_reset() ? " reset on purpose" : " closed on purpose";
  // In the order of End.
  const std::array words = {"", " closed by the stop", on_purpose, " closed for idling",
                            " failed, "};
  const bool has_failed = end == End::failed;
  const std::chrono::duration<double> connected = std::chrono::steady_clock::now() - start_;
  const tcp_info tcp = socket_.info();
  fmt::memory_buffer resent;
  if (tcp.tcpi_total_retrans > 0)
    fmt::format_to(std::back_inserter(resent), ", {} resent", tcp.tcpi_total_retrans);
  spdlog::log(has_failed ? spdlog::level::warn : spdlog::level::info,
              "{} {}{}{} ({} byte{} in {:.3f} s, rtt {:.2f} ms, mss {}{})",
              end == End::no_more_data ? "no more data from" : "connection from", socket_.peer(),
              words.at(static_cast<std::size_t>(end)), has_failed ? reason : "", echoed_,
              plural(echoed_), connected.count(), tcp.tcpi_rtt / 1000.0, tcp.tcpi_snd_mss,
              std::string_view(resent.data(), resent.size()));
  return end;
}

}  // namespace echo
