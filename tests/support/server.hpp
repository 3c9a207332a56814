// echo-server as a child process.
#pragma once

#include <signal.h>
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "client.hpp"
#include "process.hpp"

namespace test {

/// The program under test: the variable ECHO_SERVER_BINARY names it, or else it is the one that was
/// built beside the tests.
std::string server_binary();

/// A running echo-server on a free port of 127.0.0.1. Once constructed it is ready for clients: its
/// line was read on stdout, or "serving on" in the log if stdout is not collected. If neither is,
/// nothing is waited for. Throws, and shows the log, if the server does not get ready.
class Server : public Process {
 public:
  /// `more` comes behind --host 127.0.0.1 --port 0; of an option given twice the last one counts.
  explicit Server(const Words& more = {}, const Setup& setup = {}, Place place = Place::here());

  std::uint16_t port() const { return port_; }

  /// What was logged so far. All of it once `wait` or `stop` has returned.
  std::string log() { return err(); }
  void wait_for_log(std::string_view part, std::size_t count = 1, Place place = Place::here()) {
    wait_for_err(part, count, place);
  }
  /// Waits until `count` clients in all were accepted. (A client that has connected may still be in
  /// the kernel's queue, and is dropped from there by a stop.)
  void wait_for_clients(std::size_t count = 1, Place place = Place::here()) {
    wait_for_log("connection accepted from ", count, place);
  }

  /// Sends a signal, waits for the end, and returns what `wait` returns.
  int stop(int number = SIGTERM, Place place = Place::here());

  /// A line of /proc/PID/status, and what follows: "T (stopped)..." for "State".
  std::string status(const std::string& name) const;
  /// A number from there: "VmRSS" in KiB, "Threads".
  std::size_t status_number(const std::string& name) const { return std::stoul(status(name)); }
  std::size_t open_descriptors() const;
  bool is_stopped() const { return status("State").front() == 'T'; }  ///< By SIGSTOP and its like.
  /// Whether it uses hardly any processor time for a while.
  bool is_at_rest() const;

  /// Sets the soft limit of a resource (prlimit(2)), or raises it to the hard limit again.
  void set_limit(int resource, rlim_t soft) const;
  void lift_limit(int resource) const { set_limit(resource, RLIM_INFINITY); }

 private:
  std::uint16_t port_ = 0;
};

/// Stops the server by SIGSTOP, and makes clients that wait in its backlog for all of its workers
/// together. Each has sent "hello". SIGCONT lets the server accept them.
std::vector<Client> queued_clients(const Server& server, std::size_t count);

/// Runs echo-server with no other arguments and waits for its end: for usage errors, errors at the
/// start, --help and --version.
Finished run_server(const Words& arguments, const Setup& setup = {}, Place place = Place::here());

}  // namespace test
