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

#include "echo/log.hpp"

namespace echo {
namespace {

using namespace std::chrono_literals;

/// This many workers wait for a client, so that a burst of clients need not wait for threads.
constexpr std::size_t min_waiting = 8;
/// If more wait, a worker that comes back from a client ends.
constexpr std::size_t max_waiting = 16;
/// What failed is tried again after this time.
constexpr auto retry_pause = 100ms;
constexpr auto report_pause = 5s;

Options without_faults(Options options) {
  options.delay = {};
  options.close_after = options.reset_after = Options::never;
  return options;
}

}  // namespace

Server::Server(Listener listener, const Options& options)
    : listener_(std::move(listener)), options_(options), plain_options_(without_faults(options)) {}

void Server::run() {
  keep_workers();
  listener_.shutdown();
  wait_for_workers();
}

/// Starts workers until no more clients are to be accepted.
void Server::keep_workers() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, stop_.get_token(), [this] { return is_closing() || is_worker_missing(); });
    if (is_closing())
      return;
    if (!start_worker())
      changed_.wait_for(lock, stop_.get_token(), retry_pause, [this] { return is_closing(); });
  }
}

void Server::wait_for_workers() {
  std::unique_lock lock(mutex_);
  const auto none_left = [this] { return workers_ == 0; };
  // Until a stop, clients take the time that they need. Then the drain begins.
  changed_.wait(lock, stop_.get_token(), none_left);
  changed_.wait_until(lock, Clock::now() + options_.drain_timeout, none_left);
  cut_.request_stop();  // Its callbacks take no lock.
  changed_.wait(lock, none_left);
}

/// Run by each worker. Threads are detached; `workers_` takes the place of join.
void Server::work() {
  while (std::optional<Socket> client = accept())
    serve(std::move(*client));
  const std::lock_guard lock(mutex_);
  --workers_;
  changed_.notify_all();  // Under the lock: once it is free, the server may be gone.
}

/// Waits for the next client. Returns nothing if this worker is to end.
std::optional<Socket> Server::accept() {
  while (is_needed()) {
    try {
      std::optional<Socket> client = listener_.accept();
      if (!client)
        note_lost_listener();
      return client;
    } catch (const std::exception& error) {
      pause_after(error);
    }
  }
  return std::nullopt;
}

void Server::serve(Socket client) {
  const auto [number, open] = count_in();
  spdlog::info("connection accepted from {} ({} open)", client.peer(), open);
  if (open < options_.max_connections && number < options_.exit_after)
    spdlog::debug("waiting for a connection");
  if (open == options_.max_connections && open > 1)
    spdlog::warn("connection limit of {} reached: further clients wait", open);
  Session session(std::move(client), number <= options_.only_first ? options_ : plain_options_,
                  stop_.get_token(), cut_.get_token(), echoed_);
  count_out(session.run());
  session.close();  // After the count: a client that sees its end is no longer open in `totals`.
}

Server::Ticket Server::count_in() {
  const std::lock_guard lock(mutex_);
  ++open_;
  ++accepted_;
  if (is_closing() || is_worker_missing())
    changed_.notify_all();
  if (std::exchange(in_trouble_, false))
    spdlog::error("accepting connections again");
  return {accepted_, open_};
}

void Server::count_out(Session::End end) {
  const std::lock_guard lock(mutex_);
  if (open_ == options_.max_connections && !is_closing())
    spdlog::debug("waiting for a connection");
  --open_;
  failed_ += end == Session::End::failed ? 1 : 0;
  idled_ += end == Session::End::idle ? 1 : 0;
}

/// Returns whether it could. The caller holds mutex_. The new worker takes it first, and so finds
/// itself counted.
bool Server::start_worker() {
  try {
    std::thread(&Server::work, this).detach();
    ++workers_;
    return true;
  } catch (const std::exception& error) {
    if (waiting() == retrying_)
      report_trouble("start a worker thread", error);
    return false;
  }
}

/// Whether no more clients are to be accepted. The caller of this and the next one holds mutex_.
bool Server::is_closing() const {
  return stop_.stop_requested() || lost_listener_ || accepted_ == options_.exit_after;
}

bool Server::is_worker_missing() const {
  return waiting() < min_waiting && workers_ < options_.max_connections &&
         accepted_ + waiting() < options_.exit_after;
}

/// Whether a worker may go on waiting. Workers in `accept` and accepted clients together are never
/// more than `exit_after`; so when the last client has come, nobody is left in `accept`.
bool Server::is_needed() const {
  const std::lock_guard lock(mutex_);
  return !is_closing() && waiting() <= max_waiting && accepted_ + waiting() <= options_.exit_after;
}

void Server::note_lost_listener() {
  const std::lock_guard lock(mutex_);
  if (is_closing())
    return;
  lost_listener_ = true;
  spdlog::error("cannot accept: the listening socket was taken away; open connections may finish");
  changed_.notify_all();
}

/// Tries again a little later. Where other workers still wait for a client, nobody misses anything:
/// accept4 takes a descriptor before it blocks, so they have one each.
void Server::pause_after(const std::exception& error) {
  std::unique_lock lock(mutex_);
  ++retrying_;
  if (waiting() == retrying_ && !is_closing())
    report_trouble("accept", error);
  changed_.wait_for(lock, stop_.get_token(), retry_pause, [this] { return is_closing(); });
  --retrying_;
}

/// The caller holds mutex_.
void Server::report_trouble(const char* action, const std::exception& error) {
  if (last_report_ && Clock::now() - *last_report_ < report_pause)
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
  return {open_, accepted_, failed_, idled_, echoed_.load(), Clock::now() - start_, lost_listener_};
}

}  // namespace echo
