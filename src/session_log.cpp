// What the log tells about a session.
#include <netinet/tcp.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <span>
#include <string_view>

#include "echo/log.hpp"
#include "echo/options.hpp"
#include "echo/session.hpp"
#include "echo/socket.hpp"

namespace echo {
namespace {

/// How much of a chunk is logged.
constexpr std::size_t max_shown = 512;

}  // namespace

void Session::log_chunk(std::span<const std::byte> chunk) const {
  if (chunk.empty() || !spdlog::should_log(spdlog::level::debug))
    return;
  const std::string_view shown(reinterpret_cast<const char*>(chunk.data()),
                               std::min(chunk.size(), max_shown));
  // {:?} escapes what could forge a line of the log or control the terminal.
  spdlog::debug("received {} byte{} from {}: {:?}{}", chunk.size(), plural(chunk.size()),
                socket_.peer(), shown, chunk.size() > max_shown ? "..." : "");
}

std::string_view Session::words_for(End end) const {
  const bool closes = options_.close_after != Options::never;
  const bool resets = options_.reset_after != Options::never;
  switch (end) {
    case End::no_more_data:
      return "";
    case End::stopped:
      return "closed by shutdown";
    case End::aborted:
      return "reset by shutdown";
    case End::by_option:
      return closes   ? "closed by --close-after"
             : resets ? "reset by --reset-after"
                      : "stalled by --stall-after";
    case End::timed_out:
      return "timed out";
    case End::failed:
      return "failed: ";
  }
  return "";  // Not reached: GCC does not know that an enum has no other value.
}

/// Logs how the connection ended. Returns `end`, for the convenience of `run`. Allocates no memory,
/// because that may be what is missing.
Session::End Session::log_end(End end, std::string_view reason) const {
  const std::chrono::duration<double> connected = std::chrono::steady_clock::now() - start_;
  const tcp_info tcp = socket_.info();
  fmt::memory_buffer line;
  const auto out = std::back_inserter(line);
  if (end == End::no_more_data)
    fmt::format_to(out, "no more data from {}", socket_.peer());
  else
    fmt::format_to(out, "connection from {} {}{}", socket_.peer(), words_for(end),
                   end == End::failed ? reason : "");
  fmt::format_to(out, " ({} byte{} in {:.2f} s, rtt {:.2f} ms, mss {}", echoed_, plural(echoed_),
                 connected.count(), tcp.tcpi_rtt / 1000.0, tcp.tcpi_snd_mss);
  if (tcp.tcpi_total_retrans > 0)
    fmt::format_to(out, ", {} retransmitted", tcp.tcpi_total_retrans);
  line.push_back(')');
  spdlog::log(end == End::failed ? spdlog::level::warn : spdlog::level::info, "{}",
              std::string_view(line.data(), line.size()));
  return end;
}

}  // namespace echo
