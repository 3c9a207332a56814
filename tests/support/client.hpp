// A TCP client as the tests need it, and how to wait for what no event tells.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "echo/endpoint.hpp"
#include "echo/socket.hpp"
#include "echo/unique_fd.hpp"

namespace test {

using Clock = std::chrono::steady_clock;

/// The longest that anything may take before a test gives up.
constexpr std::chrono::seconds deadline(20);

/// `size` bytes that look random, the same for the same seed.
std::string pattern(std::size_t size, unsigned seed = 1);

/// More than all buffers between a server and its client hold.
const std::string& more_than_fits();

/// Checks `condition` every few milliseconds until it holds or `patience` is over. This is for what
/// no event tells, such as the memory of another process.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds patience = deadline) {
  const auto end = Clock::now() + patience;
  while (!condition()) {
    if (Clock::now() > end)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

/// What came until the end, and how it ended: without an error, by an end of file.
struct Received {
  std::string data;
  std::error_code error;

  bool by_reset() const { return error == std::errc::connection_reset; }
};

/// How much was sent, and the error that ended it, if any.
struct Sent {
  std::size_t size = 0;
  std::error_code error;
};

/// A TCP client on loopback, for one thread (one that sends beside one that receives is allowed).
/// Every call has the deadline above and throws std::system_error where it fails.
class Client {
 public:
  /// With a `receive_buffer`, its kernel holds hardly more unread bytes than that.
  explicit Client(std::uint16_t port, const std::string& host = "127.0.0.1",
                  int receive_buffer = 0);

  void send(std::string_view data);

  /// Makes the client's buffer small, sends until nothing more fits for a while, and waits for an
  /// echo to be there: then the server has accepted it. Returns how many bytes were sent.
  std::size_t send_until_blocked(std::string_view data);

  /// Sends, and returns how an error ended it instead of throwing it.
  Sent try_to_send(std::string_view data);

  /// Exactly `size` bytes, or fewer at the end of file, an error or the deadline; throws if none.
  std::string receive(std::size_t size);
  /// What one recv(2) gives, with these flags.
  std::string receive_some(std::size_t most = 65'536, int flags = 0);
  /// All until the end of file.
  std::string receive_all();
  /// All until the end of file or an error, which it returns instead of throwing it.
  Received receive_until_end();

  /// Sends all and receives as much, both at the same time.
  std::string exchange(std::string_view data);

  /// Whether nothing has come so far.
  bool is_unanswered() const;
  /// Waits until the server's kernel has acknowledged all that was sent; false at the deadline.
  bool is_acknowledged() const;

  /// Lets the client's kernel hold hardly any unread bytes.
  void use_small_buffer(int size = 1);

  void half_close();
  /// Half-closes, and receives all until the end of file.
  std::string finish();
  /// Closes with a reset (SO_LINGER 0).
  void reset();
  void close() { fd_ = {}; }

  /// Its address as the server's log shows it.
  std::string address() const;
  int fd() const { return fd_.get(); }

 private:
  echo::UniqueFd fd_;
};

/// A client that has received an echo. Throws if none comes.
Client served_client(std::uint16_t port);

/// Plays a client that receives an echo and the end of file. Throws if it does not.
void serve_one(std::uint16_t port);

/// The two ends of one connection.
struct Pair {
  echo::Socket server;
  Client client;
};
Pair connected_pair();

/// Whether another server can listen on this port, now or soon.
bool is_free(std::uint16_t port);

/// Listens on a free port.
echo::Listener listen_on_loopback();

}  // namespace test
