// The workers that accept and serve clients, the foreman that starts workers, and how both stop.
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

#include "echo/options.hpp"
#include "echo/session.hpp"
#include "echo/socket.hpp"

namespace echo {

/// What a server has done so far.
struct Totals {
  std::size_t open = 0;         ///< Connections that have not ended.
  std::uint64_t accepted = 0;   ///< Connections, including the open ones.
  std::uint64_t failed = 0;     ///< Connections that ended with an error.
  std::uint64_t timed_out = 0;  ///< Connections that the idle timeout ended.
  std::uint64_t echoed = 0;     ///< Bytes that were sent back.
  std::chrono::duration<double> uptime{};
};

/// A blocking server. Several threads, the workers, each repeat: accept a client, serve it. There
/// are at most `max_connections` workers. While all of them serve a client, further clients wait in
/// the listen backlog.
class Server {
 public:
  Server(Listener listener, const Options& options);

  /// Serves until a stop, until `exit_after` connections have been accepted, or until the listening
  /// socket is lost, and returns when the last worker has ended. To be called once. The calling
  /// thread becomes the foreman: it starts the workers, and aborts the sessions that are left when
  /// the drain timeout expires.
  void run() noexcept;

  /// Begins a graceful shutdown: stops listening immediately, and lets `run` give open connections
  /// at most `drain_timeout` to finish. Any thread may call it. It throws nothing and allocates no
  /// memory.
  void stop() noexcept;

  /// Any thread may call these two.
  Totals totals() const;
  /// Whether something else than this server shut the listening socket down, such as `ss -K`.
  bool has_lost_listener() const;

 private:
  using Clock = std::chrono::steady_clock;

  /// The state at the moment in which a connection was accepted, for the log.
  struct Arrival {
    std::uint64_t number;  ///< From 1.
    std::size_t open;
    bool is_closing;    ///< No further connection will be accepted.
    bool ends_trouble;  ///< The log said that no connection could be accepted.
  };
  struct Client {
    Socket socket;
    Arrival arrival;
  };

  void keep_workers();
  void drain();
  void work();
  std::optional<Client> next_client();
  std::optional<Client> accept_and_count_in();
  void serve(Client client);

  Arrival count_in();
  bool count_out(Session::End end);
  void log_arrival(const Client& client) const;
  bool is_closing() const;
  bool is_worker_missing() const;
  bool may_accept() const;
  std::size_t free_workers() const;
  std::uint64_t claimed() const;
  void note_lost_listener();
  void pause_after_error(std::unique_lock<std::mutex>& lock, const char* action,
                         const std::exception& error);

  Listener listener_;
  const Options options_;
  const Options faultless_options_;  ///< For connections after the first `only_first` ones.
  const Clock::time_point start_ = Clock::now();
  std::stop_source stop_;
  std::stop_source abort_;  ///< Ends what is still open when the drain timeout has expired.
  std::atomic<std::uint64_t> echoed_ = 0;

  std::mutex accept_order_;  ///< See `accept_and_count_in`. Locked before mutex_.
  std::condition_variable_any changed_;
  mutable std::mutex mutex_;  ///< Protects everything below. Nothing is logged while it is held.
  Totals totals_;             ///< Without `echoed` and `uptime`, which `totals()` adds.
  std::size_t workers_ = 0;   ///< Threads that wait for a client or serve one.
  std::size_t retrying_ = 0;  ///< Workers that pause because `accept` failed.
  bool lost_listener_ = false;
  bool in_trouble_ = false;  ///< An error was logged, and its end was not.
  std::optional<Clock::time_point> last_report_;
};

}  // namespace echo
