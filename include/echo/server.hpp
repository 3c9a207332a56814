// The workers that accept and serve, their number, and how they stop.
#pragma once

#include <functional>
#include <mutex>

#include "echo/session.hpp"

namespace echo {

/// The textbook loop `for (;;) echo(accept());`, run by several threads, the workers. A worker
/// either waits in `accept` or serves a client. Below `max_connections` a few always wait: the one
/// that takes a client starts those that are then missing. At the limit nobody is in `accept`, so
/// the next client waits in the kernel's queue.
class Server {
 public:
  /// Starts to serve. Accepts at most `exit_after` clients, then gives the port back, and ends when
  /// all of them have ended. Calls `on_end` from the thread of the last worker, when it ends.
  /// Throws std::system_error if not even one thread can be started.
  Server(Listener listener, std::size_t max_connections, std::uint64_t exit_after,
         const SessionLimits& limits, std::function<void()> on_end);

  /// Stops, cuts and waits for the end.
  ~Server();

  /// Gives the port back and lets open connections finish; returns at once.
  void stop();

  /// After `stop`: ends the connections that are still open; returns at once.
  void cut() { cut_.request_stop(); }

  /// Whether no worker is left. Any thread may ask.
  bool has_ended() const;

  /// Whether all of `exit_after` clients were accepted, and one of them failed or idled.
  bool has_failed() const;

  /// Connections open and served, bytes echoed and the time up, as text. Any thread may ask.
  std::string totals() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Lock = std::unique_lock<std::mutex>;

  void start_worker();
  void start_missing_workers();
  void report_trouble(std::string_view action, const std::exception& error);
  void work();
  std::optional<Socket> next_client(Lock& lock);

  Listener listener_;
  const std::size_t max_connections_;
  const std::uint64_t exit_after_;
  const SessionLimits limits_;
  const std::function<void()> on_end_;
  const Clock::time_point start_ = Clock::now();
  std::stop_source finish_;
  std::stop_source cut_;
  std::atomic<std::uint64_t> echoed_ = 0;

  mutable std::mutex mutex_;  ///< For all below.
  std::size_t waiting_ = 0;   ///< Workers in `accept`, or on their way to it.
  std::size_t open_ = 0;      ///< Workers that serve one.
  std::uint64_t served_ = 0;
  std::uint64_t failed_ = 0;
  bool in_trouble_ = false;  ///< An error was logged, and not yet its end.
  std::optional<Clock::time_point> last_report_;
};

}  // namespace echo
