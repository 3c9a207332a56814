#include "echo/server.hpp"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace echo {
namespace {

using namespace std::chrono_literals;

/// If the limits allow it, this many workers wait for a client, so that a burst of clients need not
/// wait for threads.
constexpr std::size_t min_waiting = 8;
/// If more wait, a worker that comes back from a client ends.
constexpr std::size_t max_waiting = 16;
/// What failed is tried again after this time.
constexpr auto retry_pause = 100ms;
constexpr auto report_pause = 5s;

}  // namespace

Server::Server(Listener listener, const Options& options)
    : listener_(std::move(listener)), options_(options), plain_options_(options) {
  plain_options_.delay = {};
  plain_options_.close_after = plain_options_.reset_after = Options::never;
}

void Server::run() {
  keep_workers();
  listener_.shutdown();

  std::unique_lock lock(mutex_);
  const auto none_left = [this] { return workers_ == 0; };
  // Until a stop, clients take the time that they need. A stop begins the drain.
  changed_.wait(lock, stop_.get_token(), none_left);
  changed_.wait_until(lock, Clock::now() + options_.drain_timeout, none_left);
  cut_.request_stop();  // Its callbacks never take mutex_.
  changed_.wait(lock, none_left);
}

/// The foreman's loop: starts workers until no more clients are to be accepted.
void Server::keep_workers() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, stop_.get_token(), [this] { return is_closing() || is_worker_missing(); });
    if (is_closing())
      return;
    try {
      std::thread(&Server::work, this).detach();
      ++workers_;  // The new thread first waits for the lock, and so finds itself counted.
    } catch (const std::exception& error) {
      report_trouble("start a worker thread", error);
      changed_.wait_for(lock, stop_.get_token(), retry_pause, [this] { return is_closing(); });
    }
  }
}

/// Run by each worker. Threads are detached; `workers_` takes the place of join.
void Server::work() {
  while (std::optional<Socket> client = accept())
    serve(std::move(*client));
  const std::lock_guard lock(mutex_);
  --workers_;
  changed_.notify_all();  // Under the lock: as soon as it is free, the server may be destroyed.
}

/// Waits for the next client. Returns nothing if this worker is to end.
std::optional<Socket> Server::accept() {
  while (may_accept()) {
    try {
      if (std::optional<Socket> client = listener_.accept())
        return client;
      note_lost_listener();
    } catch (const std::exception& error) {
      std::unique_lock lock(mutex_);
      ++retrying_;
      report_trouble("accept", error);
      changed_.wait_for(lock, stop_.get_token(), retry_pause, [this] { return is_closing(); });
      --retrying_;
    }
  }
  return std::nullopt;
}

void Server::serve(Socket client) {
  const std::uint64_t number = count_in(client.peer());
  Session session(std::move(client), number <= options_.only_first ? options_ : plain_options_,
                  stop_.get_token(), cut_.get_token(), echoed_);
  count_out(session.run());
  session.close();  // After the count: a client that sees its end is no longer open in `totals`.
}

/// Returns the client's number in the order of acceptance, from 1 on.
std::uint64_t Server::count_in(const std::string& peer) {
  const std::lock_guard lock(mutex_);
  ++totals_.served;
  ++totals_.open;
  if (is_closing() || is_worker_missing())
    changed_.notify_all();
  if (std::exchange(in_trouble_, false))  // An error, for who saw the error before.
    spdlog::error("accepting connections again");
  spdlog::info("connection accepted from {} ({} open)", peer, totals_.open);
  if (totals_.open < options_.max_connections && !is_closing())
    spdlog::debug("waiting for a connection");
  if (totals_.open == options_.max_connections && totals_.open > 1)
    spdlog::warn("connection limit of {} reached: further clients wait", totals_.open);
  return totals_.served;
}

void Server::count_out(Session::End end) {
  const std::lock_guard lock(mutex_);
  if (totals_.open == options_.max_connections && !is_closing())
    spdlog::debug("waiting for a connection");
  --totals_.open;
  totals_.failed += end == Session::End::failed ? 1 : 0;
  totals_.idled += end == Session::End::idle ? 1 : 0;
}

/// Whether no more clients are to be accepted. The caller holds mutex_.
bool Server::is_closing() const {
  return stop_.stop_requested() || totals_.lost_listener || totals_.served == options_.exit_after;
}

// Workers in `accept` and accepted clients together are never more than `exit_after`. So nobody is
// left in `accept` when the last client has come, and none too many is accepted.

/// The caller holds mutex_.
bool Server::is_worker_missing() const {
  return waiting() < min_waiting && workers_ < options_.max_connections &&
         totals_.served + waiting() < options_.exit_after;
}

/// Whether a worker that has no client is still needed.
bool Server::may_accept() const {
  const std::lock_guard lock(mutex_);
  return !is_closing() && waiting() <= max_waiting &&
         totals_.served + waiting() <= options_.exit_after;
}

/// The listener no longer listens: an error, unless the server shut it down itself.
void Server::note_lost_listener() {
  const std::lock_guard lock(mutex_);
  if (is_closing())
    return;
  totals_.lost_listener = true;
  spdlog::error("cannot accept: the listening socket was taken away; open connections may finish");
  changed_.notify_all();
}

/// Logs only if no worker waits in `accept`: else clients are still accepted. (accept4 takes a
/// descriptor before it blocks, so each worker there has one.) The caller holds mutex_.
void Server::report_trouble(const char* action, const std::exception& error) {
  const bool nobody_accepts = retrying_ == waiting() && !is_closing();
  if (!nobody_accepts || (last_report_ && Clock::now() - *last_report_ < report_pause))
    return;
  last_report_ = Clock::now();
  in_trouble_ = true;
  const auto* const from_system = dynamic_cast<const std::system_error*>(&error);
  const int code = from_system != nullptr ? from_system->code().value() : ENOMEM;
  spdlog::error("cannot {}: {};{} will try again", action, std::strerror(code),
                code == EMFILE ? " the limit of open files (ulimit -n) is reached;" : "");
}

Totals Server::totals() const {
  const std::lock_guard lock(mutex_);
  Totals totals = totals_;
  totals.echoed = echoed_;
  totals.up = Clock::now() - start_;
  return totals;
}

}  // namespace echo
