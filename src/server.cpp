#include "echo/server.hpp"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "echo/options.hpp"
#include "echo/session.hpp"
#include "echo/socket.hpp"

namespace echo {
namespace {

using namespace std::chrono_literals;

/// If the limits allow it, at least this many workers wait for a client, so that a burst of clients
/// does not wait for threads to start.
constexpr std::size_t min_free = 8;
/// A worker ends instead of waiting for a client if more than this many are free. The distance to
/// `min_free` keeps workers from being started and ended all the time.
constexpr std::size_t max_free = 16;
/// How long to pause after a failure before the next attempt.
constexpr auto retry_pause = 100ms;
/// The least time between two reports of failures, so that a failure that comes and goes does not
/// fill the log either.
constexpr auto report_pause = 5s;

Options without_faults(Options options) {
  options.delay = 0ms;
  options.close_after = options.reset_after = options.stall_after = Options::never;
  return options;
}

}  // namespace

Server::Server(Listener listener, const Options& options)
    : listener_(std::move(listener)),
      options_(options),
      faultless_options_(without_faults(options)) {}

void Server::stop() noexcept {
  stop_.request_stop();  // First, so that a worker does not take the shutdown for a lost listener.
  listener_.shutdown();
}

void Server::run() noexcept {
  keep_workers();
  listener_.shutdown();  // Whatever the reason, nobody may stay in `accept`. Twice does no harm.
  drain();
}

/// The foreman's loop: starts workers until no further connection is to be accepted.
void Server::keep_workers() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, stop_.get_token(), [this] { return is_closing() || is_worker_missing(); });
    if (is_closing())
      return;
    try {
      std::thread(&Server::work, this).detach();
      ++workers_;  // The thread sees this value, because `work` begins by taking mutex_.
    } catch (const std::exception& error) {
      pause_after_error(lock, "start a thread", error);
    }
  }
}

/// Waits until the last worker has ended.
void Server::drain() {
  std::unique_lock lock(mutex_);
  const auto all_have_ended = [this] { return workers_ == 0; };
  // After `exit_after`, connections may last as long as they like, unless a stop is requested.
  if (changed_.wait(lock, stop_.get_token(), all_have_ended))
    return;
  const auto deadline = Clock::now() + options_.drain_timeout;
  if (changed_.wait_until(lock, deadline, all_have_ended))
    return;
  abort_.request_stop();
  changed_.wait(lock, all_have_ended);
}

/// The life of a worker. Its thread is detached: instead of being joined, it counts itself out.
void Server::work() {
  while (std::optional<Client> client = next_client())
    serve(std::move(*client));
}

/// Returns the next client, or nothing if this worker has been counted out. It must then not touch
/// the server any more.
std::optional<Server::Client> Server::next_client() {
  while (stay_or_leave()) {
    try {
      if (std::optional<Client> client = accept_and_count_in())
        return client;
      note_lost_listener();
    } catch (const std::exception& error) {
      std::unique_lock lock(mutex_);
      ++retrying_;
      pause_after_error(lock, "accept", error);
      --retrying_;
    }
  }
  return std::nullopt;
}

/// Whether the calling worker is to wait for a client. If not, counts it out.
bool Server::stay_or_leave() {
  const std::lock_guard lock(mutex_);
  const bool may_accept_one_more = !is_closing() && claimed() <= options_.exit_after;
  if (may_accept_one_more && free_workers() <= max_free)
    return true;
  --workers_;
  // Under the lock, because the server may be destroyed as soon as the lock is free.
  changed_.notify_all();
  return false;
}

/// Returns nothing if the listener no longer listens.
std::optional<Server::Client> Server::accept_and_count_in() {
  // Normally all free workers are in `accept` at the same time, and those that return are counted
  // in by chance. With only_first the order matters, so one worker at a time does both.
  std::unique_lock order(accept_order_, std::defer_lock);
  if (options_.only_first != Options::never)
    order.lock();
  if (std::optional<Socket> socket = listener_.accept())
    return Client{std::move(*socket), count_in()};
  return std::nullopt;
}

void Server::serve(Client client) {
  log_arrival(client);
  const bool has_faults = client.arrival.number <= options_.only_first;
  Session session(std::move(client.socket), has_faults ? options_ : faultless_options_,
                  stop_.get_token(), abort_.get_token(), echoed_);
  const Session::End end = session.run();
  const bool makes_room = count_out(end);
  if (makes_room)
    spdlog::debug("waiting for a connection");
  // After the count, so that a client that sees the close is no longer counted as open. The
  // connection limit still holds, because it limits the workers.
  session.close(end);
}

Server::Arrival Server::count_in() {
  const std::lock_guard lock(mutex_);
  ++totals_.accepted;
  ++totals_.open;
  if (is_closing() || is_worker_missing())
    changed_.notify_all();
  return {totals_.accepted, totals_.open, is_closing(), std::exchange(in_trouble_, false)};
}

/// Returns whether this makes room for another connection. Notifies nobody, because the number of
/// workers that are needed does not grow: this worker waits for a client next.
bool Server::count_out(Session::End end) {
  const std::lock_guard lock(mutex_);
  const bool was_full = totals_.open == options_.max_connections;
  --totals_.open;
  totals_.failed += end == Session::End::failed ? 1 : 0;
  totals_.timed_out += end == Session::End::timed_out ? 1 : 0;
  return was_full && !is_closing();
}

void Server::log_arrival(const Client& client) const {
  const Arrival& arrival = client.arrival;
  if (arrival.ends_trouble)  // At the level of the error, so that its readers see that it is over.
    spdlog::error("accepting connections again");
  spdlog::info("connection accepted from {} ({} open)", client.socket.peer(), arrival.open);
  if (arrival.is_closing)
    return;
  if (arrival.open < options_.max_connections)
    spdlog::debug("waiting for a connection");  // Other workers are, not this one.
  else if (options_.max_connections > 1)  // With 1, the limit is how the server is meant to work.
    spdlog::warn("connection limit of {} reached, further clients have to wait", arrival.open);
}

/// Whether no further connection is to be accepted. The caller holds mutex_.
bool Server::is_closing() const {
  return stop_.stop_requested() || lost_listener_ || totals_.accepted == options_.exit_after;
}

/// Workers that serve nobody: they are blocked in `accept` or about to be, or they pause after an
/// error, or they are about to end. The caller holds mutex_.
std::size_t Server::free_workers() const {
  return workers_ - totals_.open;
}

/// The connections that were accepted, and one for each free worker, since it may accept one more.
/// It grows where a worker is started and where one has become free. Both places keep it from
/// exceeding `exit_after`: no worker is started then, and one that has become free ends instead of
/// going back to `accept`. So exactly `exit_after` connections are accepted, and nobody is left in
/// `accept` after the last one. The caller holds mutex_.
std::uint64_t Server::claimed() const {
  return totals_.accepted + free_workers();
}

/// Whether one more worker is needed, and allowed. The caller holds mutex_.
bool Server::is_worker_missing() const {
  return free_workers() < min_free && workers_ < options_.max_connections &&
         claimed() < options_.exit_after;
}

/// The listening socket no longer listens. That is an error unless the server shut it down itself.
void Server::note_lost_listener() {
  {
    const std::lock_guard lock(mutex_);
    if (is_closing())
      return;
    lost_listener_ = true;
    changed_.notify_all();
  }
  spdlog::error(
      "cannot accept: the listening socket was shut down from outside; waiting for open "
      "connections to finish");
}

/// Reports an error of a worker that could not accept, or of the foreman that could not start a
/// worker, and pauses before the next attempt. As long as some worker can still accept, clients are
/// served, and nothing is reported. (A worker in `accept` has a file descriptor in reserve: accept4
/// takes one before it blocks.) To be called with mutex_ locked, which is unlocked meanwhile; a
/// worker has already counted itself in `retrying_`.
void Server::pause_after_error(std::unique_lock<std::mutex>& lock, const char* action,
                               const std::exception& error) {
  const bool somebody_accepts = free_workers() > retrying_;
  const bool is_too_soon = last_report_ && Clock::now() - *last_report_ < report_pause;
  if (!somebody_accepts && !is_too_soon && !is_closing()) {
    last_report_ = Clock::now();
    lock.unlock();
    const auto* const failed_call = dynamic_cast<const std::system_error*>(&error);
    const int code = failed_call != nullptr ? failed_call->code().value() : ENOMEM;  // bad_alloc
    spdlog::error("cannot {}: {}{}; retrying", action, std::strerror(code),
                  code == EMFILE ? " (see ulimit -n)" : "");
    lock.lock();
    // Not before the error is logged, because "accepting connections again" could precede it. If a
    // connection was accepted in the meantime, the next one logs that.
    in_trouble_ = true;
  }
  changed_.wait_for(lock, stop_.get_token(), retry_pause, [this] { return is_closing(); });
}

Totals Server::totals() const {
  const std::lock_guard lock(mutex_);
  Totals totals = totals_;
  totals.echoed = echoed_;
  totals.uptime = Clock::now() - start_;
  return totals;
}

bool Server::has_lost_listener() const {
  const std::lock_guard lock(mutex_);
  return lost_listener_;
}

}  // namespace echo
