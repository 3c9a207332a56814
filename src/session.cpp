#include "echo/session.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <system_error>

#include "echo/log.hpp"

namespace echo {
namespace {

using std::chrono::milliseconds;

/// What is sent back at once; of bytes not more than this, unless a single chunk is larger.
constexpr std::size_t most_chunks = 64;
constexpr std::size_t most_bytes = 65'536;
/// Between two looks whether a client has taken everything.
constexpr milliseconds longest_pause(64);

}  // namespace

void wait_unless(const std::stop_token& stop, milliseconds time) {
  std::mutex mutex;
  std::condition_variable stopped;
  const std::stop_callback notify(stop, [&] {
    const std::lock_guard lock(mutex);
    stopped.notify_all();
  });
  std::unique_lock lock(mutex);
  stopped.wait_for(lock, time, [&] { return stop.stop_requested(); });
}

Session::Session(Connection connection, const SessionLimits& limits, Stops stops,
                 std::atomic<std::uint64_t>& total)
    : socket_(std::move(connection.socket)),
      peer_(std::move(connection.peer)),
      limits_(limits),
      stops_(std::move(stops)),
      total_(total) {}

bool Session::run() {
  const std::stop_callback finish(stops_.finish, [this] { socket_.shutdown(SHUT_RD); });
  const std::stop_callback cut(stops_.cut, [this] { socket_.shutdown(SHUT_RDWR); });
  try {
    if (limits_.idle_timeout.count() > 0)
      socket_.set_idle_timeout(limits_.idle_timeout);
    echo();
    if (stops_.finish.stop_requested())
      log_end("connection from", " closed by the stop");
    else
      log_end("no more data from", "");
    return true;
  } catch (const std::system_error& error) {
    const bool timed_out = error.code() == std::errc::timed_out && limits_.idle_timeout.count() > 0;
    if (stops_.cut.stop_requested()) {
      log_end("connection from", " closed by the stop");
      return true;
    }
    if (timed_out || error.code() == std::errc::operation_would_block)
      log_end("connection from", " closed for idling");
    else
      log_end("connection from", " failed, ", error.what());
  } catch (const std::bad_alloc&) {
    log_end("connection from", " failed, ", "out of memory");
  }
  return false;
}

void Session::echo() {
  const auto chunks = std::clamp(most_bytes / limits_.chunk_size, 1UL, most_chunks);
  const std::size_t size = chunks * limits_.chunk_size;
  // Not filled with zeros: memory that is not touched costs nothing.
  const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
  const std::span buffer(memory.get(), size);
  while (const std::size_t received = receive(buffer))
    send_all(buffer.first(received));
}

/// Returns 0 when the client has ended or, after a stop, has everything. To close before that is
/// not safe: a byte that arrives after the close is answered with a reset (RFC 9293, 3.6.1), which
/// would destroy what is still on its way.
std::size_t Session::receive(std::span<std::byte> buffer) {
  for (milliseconds pause(1);; pause = std::min(2 * pause, longest_pause)) {
    // Asked before the receive: the segment that acknowledges the last byte may bring new ones,
    // which Linux delivers in spite of SHUT_RD.
    const bool has_all = stops_.finish.stop_requested() && socket_.unacknowledged() == 0;
    const std::size_t size =
        socket_.receive(buffer, limits_.chunk_size, [this](auto chunk) { log_chunk(chunk); });
    if (size > 0 || has_all || !stops_.finish.stop_requested() || stops_.cut.stop_requested())
      return size;
    wait_unless(stops_.cut, pause);
  }
}

void Session::send_all(std::span<const std::byte> data) {
  spdlog::debug("sending data back to {}: {} byte{}", peer_, data.size(), plural(data.size()));
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
  spdlog::debug("received {} byte{} from {}: {:?}{}", chunk.size(), plural(chunk.size()), peer_,
                shown, chunk.size() > most_shown ? "..." : "");
}

void Session::log_end(std::string_view before_peer, std::string_view after_peer,
                      std::string_view failure) const {
  const std::chrono::duration<double> connected = std::chrono::steady_clock::now() - start_;
  const tcp_info tcp = socket_.info();
  spdlog::log(failure.empty() ? spdlog::level::info : spdlog::level::warn,
              "{} {}{}{} ({} byte{} echoed in {:.6f} s, round trip {:.3f} ms, {} retransmission{}, "
              "maximum segment size {})",
              before_peer, peer_, after_peer, failure, echoed_, plural(echoed_), connected.count(),
              tcp.tcpi_rtt / 1000.0, tcp.tcpi_total_retrans, plural(tcp.tcpi_total_retrans),
              tcp.tcpi_snd_mss);
}

}  // namespace echo
