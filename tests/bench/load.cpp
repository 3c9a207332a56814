// The load generator of the benchmark. It drives a server through one workload, checks every byte
// that comes back, and prints one number: how much was done per second. If something goes wrong, it
// says on stderr what it saw and exits with 1.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <future>
#include <iostream>
#include <limits>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr const char* usage =
    "usage: load PORT SECONDS ping-pong CONNECTIONS SIZE   prints round trips per second\n"
    "       load PORT SECONDS bulk                         prints megabytes per second\n"
    "       load PORT SECONDS short CLIENTS                prints connections per second\n";

/// How long a server may take for a reply, in seconds. A lost SYN is sent again after one second,
/// and that alone is no fault of the server.
constexpr int patience = 2;

/// Each connection sends a stream in which every byte depends on its position, so that a byte that
/// is lost, repeated, changed or sent to another client does not go unnoticed. A shift by a whole
/// period would, and so the period is a prime number, of which no buffer's size is a multiple.
constexpr std::size_t period = 65'521;
constexpr std::size_t block = 65'536;

std::span<const std::byte> stream_at(std::uint64_t position, std::size_t size) {
  static const std::vector<std::byte> pattern = [] {
    std::mt19937 random;
    std::vector<std::byte> bytes(period + block);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = i < period ? static_cast<std::byte>(random()) : bytes[i - period];
    return bytes;
  }();
  return std::span(pattern).subspan(position % period, size);
}

/// How long a workload has run, and when it is time to end it.
class Stopwatch {
 public:
  explicit Stopwatch(double seconds) : limit_(seconds) {}
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  bool running() const { return seconds() < limit_; }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double limit_;
};

/// One connection. One thread may send while another one receives.
class Client {
 public:
  Client(std::uint16_t port, std::uint32_t number)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), sent_(number), received_(number) {
    check(fd_, "socket");
    const timeval time{patience, 0};
    set(SOL_SOCKET, SO_RCVTIMEO, time);
    set(SOL_SOCKET, SO_SNDTIMEO, time);
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    // A connection keeps its port for a minute after it was closed (TIME_WAIT), so that a single
    // source address would run out of ports within seconds.
    set(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    const sockaddr_in source = loopback(1 + number % 64 * 256, 0);
    const sockaddr_in server = loopback(1, port);
    check(::bind(fd_, reinterpret_cast<const sockaddr*>(&source), sizeof(source)), "bind");
    check(::connect(fd_, reinterpret_cast<const sockaddr*>(&server), sizeof(server)), "connect");
  }
  Client(Client&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), sent_(other.sent_), received_(other.received_) {}
  ~Client() {
    if (fd_ != -1)
      ::close(fd_);
  }

  void send(std::size_t size) {
    while (size > 0) {
      const auto data = stream_at(sent_, std::min(size, block));
      const auto count = check(::send(fd_, data.data(), data.size(), MSG_NOSIGNAL), "send");
      sent_ += count;
      size -= count;
    }
  }

  void finish_sending() { check(::shutdown(fd_, SHUT_WR), "shutdown"); }

  /// Returns how many bytes have come: at least one, at most `most`.
  std::size_t receive_some(std::size_t most) {
    thread_local std::vector<std::byte> buffer(block);
    const auto count = check(::recv(fd_, buffer.data(), std::min(most, block), 0), "receive");
    if (count == 0)
      throw std::runtime_error("closes before replying");
    if (!std::ranges::equal(std::span(buffer).first(count), stream_at(received_, count)))
      throw std::runtime_error("wrong bytes in a reply");
    received_ += count;
    return count;
  }

  void receive(std::size_t size) {
    while (size > 0)
      size -= receive_some(size);
  }

  void expect_end() {
    std::byte extra{};
    if (check(::recv(fd_, &extra, 1, 0), "receive") != 0)
      throw std::runtime_error("more came back than was sent");
  }

 private:
  static sockaddr_in loopback(std::uint32_t host, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(0x7f000000 + host);
    return address;
  }

  template <typename Value>
  void set(int level, int option, const Value& value) {
    check(::setsockopt(fd_, level, option, &value, sizeof(value)), "setsockopt");
  }

  static std::size_t check(ssize_t result, const std::string& call) {
    if (result == -1 && (errno == EAGAIN || errno == EINPROGRESS))
      throw std::runtime_error("no reply within " + std::to_string(patience) + " s");
    if (result == -1)
      throw std::runtime_error(call + ": " + std::strerror(errno));
    return static_cast<std::size_t>(result);
  }

  int fd_;
  std::uint64_t sent_;  ///< The position in the stream, which differs between clients.
  std::uint64_t received_;
};

double ping_pong(std::uint16_t port, double seconds, std::uint32_t connections, std::size_t size) {
  std::vector<Client> clients;
  for (std::uint32_t number = 0; number < connections; ++number) {
    clients.emplace_back(port, number);
    // The reply shows that the connection was accepted, so that no listen backlog overflows.
    clients.back().send(size);
    clients.back().receive(size);
  }

  const Stopwatch watch(seconds);
  double count = 0;
  for (; watch.running(); count += connections) {
    for (Client& client : clients)
      client.send(size);
    for (Client& client : clients)
      client.receive(size);
  }
  return count / watch.seconds();
}

double bulk(std::uint16_t port, double seconds) {
  Client client(port, 0);
  client.send(block);
  client.receive(block);

  const Stopwatch watch(seconds);
  std::atomic<std::size_t> total = std::numeric_limits<std::size_t>::max();
  // If one side fails, the other one times out.
  auto sender = std::async(std::launch::async, [&] {
    std::size_t blocks = 1;
    for (; watch.running(); ++blocks)
      client.send(block);
    // The receiver knows the total before the last block is sent, and so never waits for more.
    total = blocks * block;
    client.send(block);
  });
  std::size_t received = 0;
  while (received < total)
    received += client.receive_some(block);
  sender.get();
  return static_cast<double>(received) / 1e6 / watch.seconds();
}

double short_connections(std::uint16_t port, double seconds, std::size_t clients) {
  constexpr std::size_t size = 16;
  const Stopwatch watch(seconds);
  std::atomic<std::uint32_t> count = 0;
  std::vector<std::future<void>> all(clients);
  for (auto& one : all)
    one = std::async(std::launch::async, [&] {
      while (watch.running()) {
        Client client(port, count++);
        client.send(size);
        client.finish_sending();
        client.receive(size);
        client.expect_end();
      }
    });
  for (auto& one : all)
    one.get();
  return count / watch.seconds();
}

double run(const std::vector<std::string>& arguments) {
  const auto port = static_cast<std::uint16_t>(std::stoul(arguments.at(1)));
  const double seconds = std::stod(arguments.at(2));
  const auto number = [&](std::size_t i) {
    return static_cast<std::uint32_t>(std::stoul(arguments.at(i)));
  };
  if (arguments.at(3) == "ping-pong")
    return ping_pong(port, seconds, number(4), number(5));
  if (arguments.at(3) == "bulk")
    return bulk(port, seconds);
  if (arguments.at(3) == "short")
    return short_connections(port, seconds, number(4));
  throw std::invalid_argument(arguments.at(3));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::cout << run({argv, argv + argc}) << '\n';
    return 0;
  } catch (const std::logic_error&) {  // A missing argument, or one that is no number.
    std::cerr << usage;
    return 2;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
