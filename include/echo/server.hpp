// The workers that accept and serve, their number, and how they stop.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "echo/recurring_error.hpp"
#include "echo/session.hpp"
#include "echo/socket.hpp"

namespace echo {

/// What a server has done so far.
struct Totals {
  std::size_t open;      ///< Connections being served.
  std::uint64_t served;  ///< Connections accepted, the open ones among them.
  std::uint64_t bytes_echoed;
  std::chrono::milliseconds up;

  std::string to_string() const;
};

/// The textbook loop `for (;;) echo(accept());`, run by several threads, the workers. While there
/// are fewer than `max_connections`, a few workers more than there are clients: the one that takes
/// a client and leaves too few in `accept` starts others first. At the limit nobody is in `accept`,
/// so the next client waits in the kernel's queue.
class Server {
 public:
  Server(Listener listener, std::size_t max_connections, const SessionLimits& limits);

  /// Stops without a drain if nobody has stopped it.
  ~Server();

  /// Starts to serve. Throws std::system_error if not even one thread can be started.
  void start();

  /// Starts workers if nobody is in `accept` and the limit allows it, since nobody else may be
  /// there to do so where it failed before. To be called every 100 ms.
  void retry();

  /// Gives the port back and lets open connections finish until `drain` is over; returns at once.
  void stop(std::chrono::milliseconds drain);

  /// After `stop`: waits until every connection has ended, at most for `patience`, and cuts those
  /// left when the drain is over. Returns whether all have ended. One thread may call it.
  bool wait_until_stopped(std::chrono::milliseconds patience);

  /// Any thread may ask.
  Totals totals() const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Worker {
    std::thread thread;
    Session* session = nullptr;  ///< Lives on the worker's stack; guarded by mutex_.
  };
  using WorkerPosition = std::list<Worker>::iterator;

  void work(WorkerPosition self);
  std::optional<Connection> next_connection();
  void serve(Worker& self, Connection connection);
  void retire(WorkerPosition self);

  // These expect mutex_ to be held.
  void start_worker();
  void ensure_workers_wait();

  const std::size_t max_connections_;
  const SessionLimits limits_;
  const Clock::time_point start_ = Clock::now();

  mutable std::mutex mutex_;
  std::condition_variable changed_;  ///< stopping_ or workers_.
  Listener listener_;
  std::list<Worker> workers_;
  std::list<Worker> retired_;  ///< Have ended, or are about to; only to be joined.
  std::size_t waiting_ = 0;    ///< Workers in `accept` or pausing before they try again.
  std::size_t open_ = 0;
  std::uint64_t served_ = 0;
  std::uint64_t echoed_ = 0;  ///< By sessions that have ended.
  bool stopping_ = false;
  Clock::time_point deadline_;  ///< Of the drain.
  RecurringError accept_error_;
  RecurringError start_error_;
  RecurringError serve_error_;
};

}  // namespace echo
