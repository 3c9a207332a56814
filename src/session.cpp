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
#include <utility>

#include "echo/log.hpp"

namespace echo {
namespace {

using std::chrono::milliseconds;

/// The most that is gathered for one send, unless a single chunk is larger.
constexpr std::size_t max_chunks = 64;
constexpr std::size_t max_bytes = 65'536;
/// The longest pause between two looks at whether a client's system has everything.
constexpr milliseconds max_pause(64);

/// Waits, but no longer than until `stop` is requested.
void wait_unless(const std::stop_token& stop, milliseconds time) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any never_notified;
  never_notified.wait_for(lock, stop, time, [] { return false; });
}

}  // namespace

Session::End Session::run() {
  const std::stop_callback on_stop(stop_, [this] { socket_.shutdown(SHUT_RD); });
  const std::stop_callback on_cut(cut_, [this] { socket_.shutdown(SHUT_RDWR); });
  try {
    const End end = converse();
    log_end(end);
    return end;
  } catch (const std::system_error& error) {
    return end_by_error(error.code().value(), error.what());
  } catch (const std::bad_alloc&) {
    return end_by_error(ENOMEM, "out of memory");
  }
}

Session::End Session::end_by_error(int error, std::string_view reason) {
  const bool timed_out = error == EAGAIN || error == ETIMEDOUT;
  End end = End::failed;
  if (echoed_ == options_.limit())
    end = End::on_purpose;
  else if (cut_.stop_requested())
    end = End::stopped;
  else if (timed_out && options_.idle_timeout.count() > 0)
    end = End::idle;
  log_end(end, end == End::failed ? reason : "");
  return end;
}

Session::End Session::converse() {
  if (options_.idle_timeout.count() > 0)
    socket_.set_idle_timeout(options_.idle_timeout);
  // With a delay each chunk goes back by itself.
  const std::size_t chunks = options_.delay.count() > 0 ? 1 : max_bytes / options_.chunk_size;
  const std::size_t size = std::clamp<std::size_t>(chunks, 1, max_chunks) * options_.chunk_size;
  // Not filled with zeros: memory that is not touched costs nothing.
  memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
  buffer_ = {memory_.get(), size};

  echo();
  if (stop_.stop_requested())
    drain();
  if (echoed_ == options_.limit()) {
    end_on_purpose();
    return End::on_purpose;
  }
  // The exit status says whether each client got everything.
  if (options_.exit_after != Options::never)
    wait_until_delivered();
  return stop_.stop_requested() ? End::stopped : End::no_more_data;
}

/// Until the end of file, a stop or the limit.
void Session::echo() {
  while (echoed_ < options_.limit()) {
    const std::size_t size = receive(0);
    if (size == 0)
      return;
    if (options_.delay.count() > 0)
      wait_unless(stop_, options_.delay);
    send_back(size);
  }
}

/// Linux still accepts new bytes after SHUT_RD. So this repeats until the client's system has
/// everything, and nothing more has arrived.
void Session::drain() {
  do {
    wait_until_delivered();
  } while (echo_arrived());
}

/// If the server ends first and the client still sends, TCP may reset the connection (RFC 9293,
/// 3.6.1) and lose bytes on their way. So the client's system has every byte before the end.
void Session::end_on_purpose() {
  wait_until_delivered();
  if (options_.ends_by_reset())
    return socket_.reset_when_closed();
  socket_.shutdown(SHUT_WR);
  // Until the client closes, too, or a stop. An error here is none: all was delivered.
  while (receive(0) > 0)
    continue;
}

/// Waits until the client's system has everything that was sent, or until the cut. Takes meanwhile
/// what the client sends: it may send everything before it reads.
void Session::wait_until_delivered() {
  for (milliseconds pause(1); socket_.unacknowledged() > 0 && !cut_.stop_requested();
       pause = std::min(2 * pause, max_pause))
    if (!echo_arrived())
      wait_unless(cut_, pause);
}

/// Echoes what has arrived, a buffer at most, and waits for nothing. Returns whether it was
/// anything.
bool Session::echo_arrived() {
  const std::size_t size = receive(MSG_DONTWAIT);
  send_back(size);
  return size > 0;
}

/// Takes a chunk, waited for unless `flags` say MSG_DONTWAIT. If it is full, also takes the chunks
/// that are already there, as many as the buffer has room for. Returns how many bytes they have
/// together; 0 at the end of file, or if nothing has arrived.
std::size_t Session::receive(int flags) {
  std::size_t size = 0;
  std::size_t taken = options_.chunk_size;
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
  // After a stop, bytes may be unread. Then a close alone would send a reset and no end of file.
  if (stop_.stop_requested() && echoed_ < options_.limit())
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

/// Needs no memory of the heap: that may be what was missing.
void Session::log_end(End end, std::string_view reason) const {
  const char* const on_purpose =
      options_.ends_by_reset() ? " reset on purpose" : " closed on purpose";
  const std::array words = {"", " closed by the stop", on_purpose, " closed for idling",
                            " failed, "};
  const std::chrono::duration<double> connected = std::chrono::steady_clock::now() - start_;
  const tcp_info tcp = socket_.info();
  fmt::memory_buffer resent;
  if (tcp.tcpi_total_retrans > 0)
    fmt::format_to(std::back_inserter(resent), ", {} resent", tcp.tcpi_total_retrans);
  spdlog::log(end == End::failed ? spdlog::level::warn : spdlog::level::info,
              "{} {}{}{} ({} byte{} in {:.3f} s, rtt {:.2f} ms, mss {}{})",
              end == End::no_more_data ? "no more data from" : "connection from", socket_.peer(),
              words.at(static_cast<std::size_t>(end)), reason, echoed_, plural(echoed_),
              connected.count(), tcp.tcpi_rtt / 1000.0, tcp.tcpi_snd_mss,
              std::string_view(resent.data(), resent.size()));
}

}  // namespace echo
