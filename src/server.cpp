#include "echo/server.hpp"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

namespace echo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A client does not have to wait until a thread that was started for it gets a processor: on busy
/// cores 2,000 connections opened in 0.5 to 0.9 s instead of 11 to 14.
constexpr std::size_t workers_ahead = 8;
/// More workers than these are not kept waiting when clients leave.
constexpr std::size_t spare_workers = 16;
constexpr milliseconds pause_between_tries(100);
constexpr seconds pause_between_reports(5);

/// Standard streams, log, listener and whatever was inherited (proc(5)).
std::size_t open_descriptors() {
  std::error_code no_proc;
  const std::filesystem::directory_iterator entries("/proc/self/fd", no_proc);
  const auto count = std::distance(begin(entries), end(entries));
  return count > 0 ? static_cast<std::size_t>(count) - 1 : 5;  // One is the directory itself.
}

}  // namespace

std::string Totals::to_string() const {
  return fmt::format("{} connections open, {} connections served, {} bytes echoed, up {:.3f} s",
                     open, served, bytes_echoed, static_cast<double>(up.count()) / 1000);
}

Server::Server(Listener listener, std::size_t max_connections, const SessionLimits& limits)
    : max_connections_(max_connections), limits_(limits), listener_(std::move(listener)) {}

Server::~Server() {
  if (!stopping_)
    stop(milliseconds(0));
  while (!wait_until_stopped(pause_between_tries)) {
  }
}

void Server::start() {
  raise_descriptor_limit();
  const std::lock_guard lock(mutex_);
  start_worker();
}

void Server::stop(milliseconds drain) {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  deadline_ = Clock::now() + drain;
  listener_.shutdown();
  for (const Worker& worker : workers_)
    if (worker.session != nullptr)
      worker.session->finish();
  changed_.notify_all();
}

bool Server::wait_until_stopped(milliseconds patience) {
  std::unique_lock lock(mutex_);
  auto until = Clock::now() + patience;
  if (Clock::now() < deadline_)
    until = std::min(until, deadline_);
  else
    for (const Worker& worker : workers_)
      if (worker.session != nullptr)
        worker.session->cut();
  if (!changed_.wait_until(lock, until, [this] { return workers_.empty(); }))
    return false;

  std::list<Worker> retired = std::exchange(retired_, {});
  lock.unlock();
  for (Worker& worker : retired)
    worker.thread.join();
  return true;
}

Totals Server::totals() const {
  const std::lock_guard lock(mutex_);
  Totals totals{open_, served_, echoed_,
                std::chrono::duration_cast<milliseconds>(Clock::now() - start_)};
  for (const Worker& worker : workers_)
    if (worker.session != nullptr)
      totals.bytes_echoed += worker.session->bytes_echoed();
  return totals;
}

void Server::raise_descriptor_limit() const {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t taken = open_descriptors();
  const rlim_t wanted = taken + max_connections_;
  if (limit.rlim_cur >= wanted)
    return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) == -1)
    ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < wanted)
    spdlog::warn(
        "only {} connections can be served at once, not {}: the limit of open files "
        "(ulimit -n) is {}",
        limit.rlim_cur - std::min(limit.rlim_cur, taken), max_connections_, limit.rlim_cur);
}

void Server::work(WorkerPosition self) {
  while (auto connection = next_connection())
    serve(*self, std::move(*connection));
  retire(self);
}

/// Nothing means that this worker is not needed any more.
std::optional<Connection> Server::next_connection() {
  std::unique_lock lock(mutex_);
  if (stopping_ || waiting_ >= spare_workers)
    return std::nullopt;

  std::optional<Connection> connection;
  ++waiting_;
  for (bool needed = true; needed && !connection && !stopping_;) {
    lock.unlock();
    spdlog::debug("waiting for a connection");
    try {
      connection = listener_.accept();
      lock.lock();
    } catch (const std::system_error& error) {
      lock.lock();
      needed = pause_after(error, lock);
    }
  }
  --waiting_;

  if (connection) {
    report_recovery();
    ensure_workers_wait();
  }
  return connection;
}

void Server::serve(Worker& self, Connection connection) {
  Session session(std::move(connection), limits_);
  std::unique_lock lock(mutex_);
  self.session = &session;
  ++served_;
  const std::size_t open = ++open_;
  if (stopping_)
    session.finish();
  lock.unlock();

  spdlog::info("connection accepted from {} ({} open)", session.peer(), open);
  if (open == max_connections_)
    spdlog::warn("connection limit of {} reached: further clients wait", max_connections_);
  session.run();

  lock.lock();
  self.session = nullptr;
  --open_;
  echoed_ += session.bytes_echoed();
}

/// Each worker that ends joins the one that ended before it; the last one is left to
/// wait_until_stopped.
void Server::retire(WorkerPosition self) {
  std::unique_lock lock(mutex_);
  std::list<Worker> retired = std::exchange(retired_, {});
  retired_.splice(retired_.end(), workers_, self);
  if (waiting_ == 0)
    ensure_workers_wait();
  changed_.notify_all();
  lock.unlock();
  for (Worker& worker : retired)
    worker.thread.join();
}

void Server::start_worker() {
  const WorkerPosition worker = workers_.emplace(workers_.end());
  try {
    worker->thread = std::thread(&Server::work, this, worker);
  } catch (const std::bad_alloc&) {
    workers_.erase(worker);
    throw std::system_error(ENOMEM, std::system_category(), "start a worker thread");
  } catch (const std::system_error& error) {
    workers_.erase(worker);
    throw std::system_error(error.code(), "start a worker thread");
  }
}

void Server::ensure_workers_wait() {
  std::size_t wanted = open_ + 1 + workers_ahead;
  if (waiting_ == 0)
    wanted = std::max(wanted, workers_.size() + 1);
  try {
    while (!stopping_ && workers_.size() < std::min(wanted, max_connections_))
      start_worker();
  } catch (const std::system_error& error) {
    report_failure(error, "going on with those there are");
  }
}

/// Returns whether this worker shall try again; one that tries is enough.
bool Server::pause_after(const std::system_error& error, std::unique_lock<std::mutex>& lock) {
  report_failure(error, error.code() == std::errc::too_many_files_open
                            ? "the limit of open files (ulimit -n) is reached; trying again"
                            : "trying again");
  if (waiting_ > 1)
    return false;
  changed_.wait_for(lock, pause_between_tries, [this] { return stopping_; });
  return true;
}

void Server::report_failure(const std::system_error& error, std::string_view remedy) {
  const auto now = Clock::now();
  if (last_report_ && now - *last_report_ < pause_between_reports)
    return;
  spdlog::error("cannot {}; {}", error.what(), remedy);
  last_report_ = now;
  failing_ = true;
}

void Server::report_recovery() {
  if (std::exchange(failing_, false))
    spdlog::error("accepting connections again");
}

}  // namespace echo
