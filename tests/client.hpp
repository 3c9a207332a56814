#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "echo/socket.hpp"

namespace test {

/// The longest that anything may take before a test gives up.
constexpr std::chrono::seconds deadline(20);

/// `size` bytes that look random, the same for the same seed.
std::string pattern(std::size_t size, unsigned seed = 1);

/// How many descriptors, and how many threads, this process has.
std::size_t open_descriptors();
std::size_t threads();

/// Asks again and again, without spending the processor's time, until `condition` holds or the
/// deadline is over; for what no event tells, such as another process's memory.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds patience = deadline) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

/// A TCP client on loopback, for one thread. Every call has the deadline above and throws
/// std::system_error where it fails.
class Client {
 public:
  explicit Client(std::uint16_t port, const std::string& host = "127.0.0.1");

  void send(std::string_view data);

  /// Marks the last byte as urgent (RFC 6093).
  void send_urgent(std::string_view data);

  /// Sends until nothing more fits for a while, or the server ends the connection, and waits for an
  /// echo to be there: then the server has accepted it. Returns how many bytes were sent.
  std::size_t send_until_blocked(std::string_view data);

  /// Exactly `size` bytes, or fewer at the end of file.
  std::string receive(std::size_t size);
  /// What one recv(2) gives.
  std::string receive_some(std::size_t most = 65'536);
  std::string receive_all();

  /// Sends all and receives as much, both at the same time.
  std::string exchange(std::string_view data);

  /// Waits until the server's system has acknowledged all that was sent; false at the deadline.
  bool is_acknowledged() const;

  void half_close();

  /// Closes with a reset (SO_LINGER 0).
  void reset();
  void close() { fd_ = {}; }

  /// As the server's log writes it.
  std::string address() const;
  int fd() const { return fd_.get(); }

 private:
  echo::UniqueFd fd_;
};

/// The two ends of one connection.
struct Pair {
  echo::Socket server;
  Client client;
};
Pair connected_pair();

std::uint16_t port_of(const echo::Endpoint& endpoint);

}  // namespace test
