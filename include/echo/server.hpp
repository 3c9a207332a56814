// The workers that accept and serve, the foreman who starts them, and how they stop.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "echo/options.hpp"
#include "echo/session.hpp"
#include "echo/socket.hpp"

namespace echo {

/// What a server has done so far.
struct Totals {
  std::size_t open = 0;      ///< Connections that have not ended.
  std::uint64_t served = 0;  ///< Connections that were accepted, also those that are open.
  std::uint64_t failed = 0;  ///< Connections that ended by an error.
  std::uint64_t idled = 0;   ///< Connections that the idle timeout ended.
  std::uint64_t echoed = 0;  ///< Bytes that were sent back.
  std::chrono::duration<double> up{};
  bool lost_listener = false;  ///< The listener was shut down by somebody else.
};

/// A blocking server. Several threads, the workers, each repeat: accept a client, serve it. There
/// are at most `max_connections` workers. If all of them serve, the next client waits in the
/// kernel's queue.
class Server {
 public:
  Server(Listener listener, const Options& options);

  /// Serves, and returns when all is over: after a stop, after `exit_after` clients, or when the
  /// listener was lost; in each case when the last worker has ended. To be called once. The thread
  /// that calls it is the foreman: it alone starts workers, and it cuts what a drain leaves.
  void run();

  /// Makes `run` give the port back and let open connections finish for at most `drain_timeout`.
  /// Returns at once. Any thread may call it. Throws nothing, and needs no memory.
  void stop() noexcept { stop_.request_stop(); }

  /// Any thread may ask.
  Totals totals() const;

 private:
  using Clock = std::chrono::steady_clock;

  void keep_workers();
  void work();
  std::optional<Socket> accept();
  void serve(Socket client);

  std::uint64_t count_in(const std::string& peer);
  void count_out(Session::End end);
  bool is_closing() const;
  bool is_worker_missing() const;
  bool may_accept() const;
  /// Workers without a client, also those that pause. The caller holds mutex_.
  std::size_t waiting() const { return workers_ - totals_.open; }
  void note_lost_listener();
  void report_trouble(const char* action, const std::exception& error);

  Listener listener_;
  const Options options_;
  Options plain_options_;  ///< For the clients after `only_first`: nothing on purpose.
  const Clock::time_point start_ = Clock::now();
  std::stop_source stop_;
  std::stop_source cut_;  ///< Ends what is still open after `drain_timeout`.
  std::atomic<std::uint64_t> echoed_ = 0;

  std::condition_variable_any changed_;
  mutable std::mutex mutex_;  ///< For all below.
  Totals totals_;             ///< But for `echoed` and `up`.
  std::size_t workers_ = 0;   ///< Threads that wait for a client or serve one.
  std::size_t retrying_ = 0;  ///< Workers that pause, since they could not accept.
  bool in_trouble_ = false;   ///< An error was logged, and not yet its end.
  std::optional<Clock::time_point> last_report_;
};

}  // namespace echo
