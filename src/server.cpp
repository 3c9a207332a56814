#include "echo/server.hpp"

#include <spdlog/spdlog.h>

#include <cstring>
#include <thread>

#include "echo/log.hpp"

namespace echo {
namespace {

/// So many workers wait in `accept`: a burst of clients need not wait for threads to start.
constexpr std::size_t workers_ahead = 8;
/// If more wait, a worker that comes back from a client ends.
constexpr std::size_t most_waiting = 16;

}  // namespace

Server::Server(Listener listener, std::size_t max_connections, std::uint64_t exit_after,
               const SessionLimits& limits, std::function<void()> on_end)
    : listener_(std::move(listener)),
      max_connections_(max_connections),
      exit_after_(exit_after),
      limits_(limits),
      on_end_(std::move(on_end)) {
  const Lock lock(mutex_);
  try {
    start_worker();
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "start a worker thread");
  }
}

Server::~Server() {
  stop();
  cut();
  while (!has_ended())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void Server::stop() {
  listener_.shutdown();
  finish_.request_stop();
}

bool Server::has_ended() const {
  const Lock lock(mutex_);
  return waiting_ + open_ == 0;
}

bool Server::has_failed() const {
  const Lock lock(mutex_);
  return served_ == exit_after_ && failed_ > 0;
}

std::string Server::totals() const {
  const Lock lock(mutex_);
  const std::chrono::duration<double> up = Clock::now() - start_;
  return fmt::format("{} connection{} open, {} connection{} served, {} byte{} echoed, up {:.3f} s",
                     open_, plural(open_), served_, plural(served_), echoed_.load(),
                     plural(echoed_), up.count());
}

/// Expects mutex_ to be held: the new worker takes it first, and so finds itself counted.
void Server::start_worker() {
  std::thread(&Server::work, this).detach();
  ++waiting_;
}

/// Expects mutex_ to be held. What fails here is tried again when the next client is taken.
void Server::start_missing_workers() {
  try {
    while (waiting_ < workers_ahead && waiting_ + open_ < max_connections_ &&
           served_ + waiting_ < exit_after_)
      start_worker();
    if (std::exchange(in_trouble_, false))
      spdlog::error("accepting connections again");
  } catch (const std::exception& error) {
    report_trouble("start a worker thread", error);
  }
}

/// Expects mutex_ to be held.
void Server::report_trouble(std::string_view action, const std::exception& error) {
  if (last_report_ && Clock::now() - *last_report_ < std::chrono::seconds(5))
    return;
  last_report_ = Clock::now();
  in_trouble_ = true;
  const auto* const from_system = dynamic_cast<const std::system_error*>(&error);
  const int code = from_system != nullptr ? from_system->code().value() : ENOMEM;
  spdlog::error("cannot {}: {};{} will try again", action, std::strerror(code),
                code == EMFILE ? " the limit of open files (ulimit -n) is reached;" : "");
}

/// Threads are detached; waiting_ + open_ takes the place of join. When the last worker has
/// unlocked mutex_ for the last time, nobody touches the server any more.
void Server::work() {
  Lock lock(mutex_);
  while (auto socket = next_client(lock)) {
    --waiting_;
    const std::size_t open = ++open_;
    if (++served_ == exit_after_)
      listener_.shutdown();
    start_missing_workers();

    lock.unlock();
    spdlog::info("connection accepted from {} ({} open)", socket->peer(), open);
    if (open == max_connections_)
      spdlog::warn("connection limit of {} reached: further clients wait", max_connections_);
    {
      Session session(std::move(*socket), limits_, finish_.get_token(), cut_.get_token(), echoed_);
      const bool ended_well = session.run();
      if (!finish_.stop_requested())
        spdlog::debug("waiting for a connection");
      lock.lock();
      failed_ += ended_well ? 0 : 1;
      --open_;
      ++waiting_;
      lock.unlock();
    }  // Closed after the count: a client that sees its end is no longer open in `totals`.
    lock.lock();
    if (waiting_ > most_waiting || served_ + waiting_ > exit_after_)
      break;
  }
  --waiting_;
  if (waiting_ + open_ == 0)
    on_end_();
}

/// Expects mutex_ to be held, and waits without it. Returns nothing when this worker is to end.
std::optional<Socket> Server::next_client(Lock& lock) {
  while (!finish_.stop_requested()) {
    lock.unlock();
    try {
      auto socket = listener_.accept();
      lock.lock();
      return socket;
    } catch (const std::exception& error) {
      lock.lock();
      // The others go on. accept4 takes a descriptor before it blocks, so they have one each.
      if (waiting_ > 1)
        return std::nullopt;
      report_trouble("accept", error);
    }
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    lock.lock();
  }
  return std::nullopt;
}

}  // namespace echo
