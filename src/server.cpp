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

#include "echo/log.hpp"
#include "echo/options.hpp"
#include "echo/session.hpp"
#include "echo/socket.hpp"

namespace echo {
namespace {

using namespace std::chrono_literals;

/// If the limits allow it, at least this many workers wait for a client, so that a burst of clients
/// does not wait for threads to start.
constexpr std::size_t min_waiting = 8;
/// A worker that returns from a client ends if more than this many wait. The distance to
/// `min_waiting` keeps workers from being started and ended all the time.
constexpr std::size_t max_waiting = 16;
/// How long to pause after a failure before the next attempt.
constexpr auto retry_pause = 100ms;
/// How often a failure that lasts is reported.
constexpr auto report_pause = 5s;

Options without_faults(Options options) {
  options.delay = 0ms;
  options.close_after = options.reset_after = options.stall_after = Options::never;
  return options;
}

}  // namespace

Server::Server(Listener listener, const Options& options)
    : listener_(std::move(listener)), options_(options), later_options_(without_faults(options)) {}

void Server::run() {
  keep_workers();
  listener_.shutdown();
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
      ++workers_;  // In time: the first thing that the new thread does is to wait for the lock.
    } catch (const std::exception& error) {
      lock.unlock();
      pause_after_error("start a thread", error, false);
      lock.lock();
    }
  }
}

/// Waits until the last worker has ended.
void Server::drain() {
  std::unique_lock lock(mutex_);
  const auto none_is_left = [this] { return workers_ == 0; };
  // Without a stop, as after `exit_after`, connections may last as long as they like.
  changed_.wait(lock, stop_.get_token(), none_is_left);
  // From a stop on, they have the drain timeout. (If none is left, this returns immediately.)
  if (!changed_.wait_until(lock, Clock::now() + options_.drain_timeout, none_is_left))
    abort_.request_stop();
  changed_.wait(lock, none_is_left);
}

/// The life of a worker. Its thread is detached: instead of being joined, it counts itself out.
void Server::work() {
  while (std::optional<Socket> client = accept())
    serve(std::move(*client));
  const std::lock_guard lock(mutex_);
  --workers_;
  // Under the lock, because the server may be destroyed as soon as the lock is free.
  changed_.notify_all();
}

/// Returns the next client, or nothing if this worker is to end.
std::optional<Socket> Server::accept() {
  while (may_accept()) {
    try {
      if (std::optional<Socket> client = listener_.accept())
        return client;
      note_lost_listener();
    } catch (const std::exception& error) {
      pause_after_error("accept", error, true);
    }
  }
  return std::nullopt;
}

void Server::serve(Socket client) {
  const Arrival arrival = count_in();
  log_arrival(arrival, client);
  Session session(std::move(client),
                  arrival.number <= options_.only_first ? options_ : later_options_,
                  stop_.get_token(), abort_.get_token(), echoed_);
  const Session::End end = session.run();
  if (count_out(end))
    spdlog::debug("waiting for a connection");
  // After the count: when a client sees that its connection is closed, the totals agree.
  session.close(end);
}

Server::Arrival Server::count_in() {
  const std::lock_guard lock(mutex_);
  ++totals_.served;
  ++totals_.open;
  if (is_closing() || is_worker_missing())
    changed_.notify_all();
  return {totals_.served, totals_.open, is_closing(), std::exchange(in_trouble_, false)};
}

/// Returns whether this makes room for another connection.
bool Server::count_out(Session::End end) {
  const std::lock_guard lock(mutex_);
  const bool was_full = totals_.open == options_.max_connections;
  --totals_.open;
  totals_.failed += end == Session::End::failed ? 1 : 0;
  totals_.timed_out += end == Session::End::timed_out ? 1 : 0;
  return was_full && !is_closing();
}

void Server::log_arrival(const Arrival& arrival, const Socket& client) const {
  if (arrival.ends_trouble)  // At the level of the error, so that its readers see that it is over.
    spdlog::error("accepting connections again");
  spdlog::info("connection accepted from {} ({} open)", client.peer(), arrival.open);
  if (arrival.is_closing)
    return;
  if (arrival.open < options_.max_connections)
    spdlog::debug("waiting for a connection");
  else if (options_.max_connections > 1)  // With 1, every connection would be worth a warning.
    spdlog::warn("connection limit of {} reached, further clients have to wait", arrival.open);
}

/// Whether no further connection is to be accepted. The caller holds mutex_.
bool Server::is_closing() const {
  return stop_.stop_requested() || lost_listener_ || totals_.served == options_.exit_after;
}

/// Workers without a client, including those that pause. The caller holds mutex_.
std::size_t Server::waiting() const {
  return workers_ - totals_.open;
}

/// The connections that were accepted, and those for which a worker waits. This is never more than
/// `exit_after`: a worker is started only while it is less, and a worker that returns from a client
/// ends if its own waiting would make it more. So exactly `exit_after` connections are accepted,
/// and no worker is left waiting after the last one. The caller holds mutex_.
std::uint64_t Server::claimed() const {
  return totals_.served + waiting();
}

/// The caller holds mutex_.
bool Server::is_worker_missing() const {
  return waiting() < min_waiting && workers_ < options_.max_connections &&
         claimed() < options_.exit_after;
}

/// Whether the calling worker, which is one of those that wait, is needed.
bool Server::may_accept() const {
  const std::lock_guard lock(mutex_);
  return !is_closing() && waiting() <= max_waiting && claimed() <= options_.exit_after;
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

/// Reports that a worker could not accept, or that the foreman could not start a worker, and
/// pauses before the next attempt. While another worker is blocked in `accept`, clients are still
/// served, and nothing is reported. (A worker that is blocked there cannot run out of file
/// descriptors: accept4 reserves one before it blocks.)
void Server::pause_after_error(const char* action, const std::exception& error, bool is_worker) {
  std::unique_lock lock(mutex_);
  retrying_ += is_worker ? 1 : 0;
  const bool somebody_accepts = retrying_ < waiting();
  const bool is_too_soon = last_report_ && Clock::now() - *last_report_ < report_pause;
  if (!somebody_accepts && !is_too_soon && !is_closing()) {
    last_report_ = Clock::now();
    in_trouble_ = true;
    lock.unlock();
    const auto* const failed_call = dynamic_cast<const std::system_error*>(&error);
    const int code = failed_call != nullptr ? failed_call->code().value() : ENOMEM;
    spdlog::error("cannot {}: {}{}; retrying", action, std::strerror(code),
                  code == EMFILE ? " (see ulimit -n)" : "");
    lock.lock();
  }
  changed_.wait_for(lock, stop_.get_token(), retry_pause, [this] { return is_closing(); });
  retrying_ -= is_worker ? 1 : 0;
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
