#include "echo/session.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>

#include "echo/log.hpp"

namespace echo {
namespace {

using std::chrono::milliseconds;

/// The most that goes into one send, unless a single chunk is larger.
constexpr std::size_t most_chunks = 64;
constexpr std::size_t most_bytes = 65'536;
/// The longest pause between two checks whether a client's system has everything.
constexpr milliseconds longest_pause(64);

/// Waits, and no longer than until `stop` is requested.
void wait_unless(const std::stop_token& stop, milliseconds time) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any never_notified;
  never_notified.wait_for(lock, stop, time, [] { return false; });
}

}  // namespace

Session::Session(Socket socket, const SessionLimits& limits, std::stop_token finish,
                 std::stop_token cut, std::atomic<std::uint64_t>& total)
    : socket_(std::move(socket)),
      limits_(limits),
      finish_(std::move(finish)),
      cut_(std::move(cut)),
      total_(total) {}

bool Session::run() {
  const std::stop_callback on_finish(finish_, [this] { socket_.shutdown(SHUT_RD); });
  const std::stop_callback on_cut(cut_, [this] { socket_.shutdown(SHUT_RDWR); });
  try {
    if (limits_.idle_timeout.count() > 0)
      socket_.set_idle_timeout(limits_.idle_timeout);
    echo();
    if (!on_purpose_ && !finish_.stop_requested()) {
      log_end("no more data from", "");
      return true;
    }
  } catch (const std::system_error& error) {
    if (!on_purpose_ && !cut_.stop_requested()) {
      const int code = error.code().value();
      if (limits_.idle_timeout.count() > 0 && (code == EAGAIN || code == ETIMEDOUT))
        log_end("connection from", " closed for idling");
      else
        log_end("connection from", " failed, ", error.what());
      return false;
    }
  } catch (const std::bad_alloc&) {
    if (!on_purpose_) {
      log_end("connection from", " failed, ", "out of memory");
      return false;
    }
  }
  log_end("connection from", on_purpose_ ? " closed on purpose" : " closed by the stop");
  return true;
}

void Session::echo() {
  const auto chunks =
      limits_.delay.count() > 0 ? 1 : std::clamp(most_bytes / limits_.chunk_size, 1UL, most_chunks);
  // Not filled with zeros: memory that is not touched costs nothing.
  const auto memory = std::make_unique_for_overwrite<std::byte[]>(chunks * limits_.chunk_size);
  const std::span buffer(memory.get(), chunks * limits_.chunk_size);
  const std::uint64_t most = std::min(limits_.close_after, limits_.reset_after);
  while (echoed_ < most) {
    const std::size_t received = receive(buffer);
    if (received == 0)
      return;
    if (limits_.delay.count() > 0)
      wait_unless(finish_, limits_.delay);
    send_all(buffer.first(std::min<std::uint64_t>(received, most - echoed_)));
  }
  end_on_purpose(buffer);
}

/// After the end, more data of the client may cause a reset (RFC 9293, 3.6.1), which destroys bytes
/// on their way. So the end comes only when the client's system has every byte.
void Session::end_on_purpose(std::span<std::byte> buffer) {
  on_purpose_ = true;
  // What the client sends is taken meanwhile: it may send everything before it reads.
  wait_until_acknowledged([this] {
    socket_.discard();
    return false;
  });
  if (limits_.reset_after < limits_.close_after)
    return socket_.reset_when_closed();
  socket_.shutdown(SHUT_WR);
  // Until the client closes, too. A stop ends this by an error, which is none here.
  while (receive(buffer) > 0)
    continue;
}

/// Returns 0 when the client has ended or, after a stop, when its system has every byte, so that
/// the socket can be closed.
std::size_t Session::receive(std::span<std::byte> buffer) {
  const auto take = [&] {
    return socket_.receive(buffer, limits_.chunk_size, [this](auto chunk) { log_chunk(chunk); });
  };
  std::size_t size = take();
  if (size > 0 || !finish_.stop_requested())
    return size;
  // Linux delivers new bytes in spite of SHUT_RD. The segment that acknowledges the last byte may
  // bring some, too.
  wait_until_acknowledged([&] { return (size = take()) > 0; });
  return size > 0 ? size : take();
}

/// Waits until the client's system has everything that was sent, or until the cut. Calls `take`
/// again and again meanwhile, and ends at once if it returns true.
void Session::wait_until_acknowledged(const std::function<bool()>& take) {
  for (milliseconds pause(1); socket_.unacknowledged() > 0 && !cut_.stop_requested() && !take();
       pause = std::min(2 * pause, longest_pause))
    wait_unless(cut_, pause);
}

void Session::send_all(std::span<const std::byte> data) {
  spdlog::debug("sending data back to {}: {} byte{}", socket_.peer(), data.size(),
                plural(data.size()));
  while (!data.empty()) {
    const std::size_t sent = socket_.send(data);
    echoed_ += sent;
    total_ += sent;
    data = data.subspan(sent);
  }
}

void Session::log_chunk(std::span<const std::byte> chunk) const {
  if (chunk.empty() || !spdlog::should_log(spdlog::level::debug))
    return;
  constexpr std::size_t most_shown = 512;
  const std::string_view shown(reinterpret_cast<const char*>(chunk.data()),
                               std::min(chunk.size(), most_shown));
  // {:?} escapes whatever could forge a line of the log or steer the terminal.
  spdlog::debug("received {} byte{} from {}: {:?}{}", chunk.size(), plural(chunk.size()),
                socket_.peer(), shown, chunk.size() > most_shown ? "..." : "");
}

void Session::log_end(std::string_view before_peer, std::string_view after_peer,
                      std::string_view failure) const {
  const std::chrono::duration<double> connected = std::chrono::steady_clock::now() - start_;
  const tcp_info tcp = socket_.info();
  spdlog::log(failure.empty() ? spdlog::level::info : spdlog::level::warn,
              "{} {}{}{} ({} byte{} echoed in {:.6f} s, round trip {:.3f} ms, {} retransmission{}, "
              "maximum segment size {})",
              before_peer, socket_.peer(), after_peer, failure, echoed_, plural(echoed_),
              connected.count(), tcp.tcpi_rtt / 1000.0, tcp.tcpi_total_retrans,
              plural(tcp.tcpi_total_retrans), tcp.tcpi_snd_mss);
}

}  // namespace echo
