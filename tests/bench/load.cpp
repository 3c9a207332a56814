// The load generator of the benchmark. It drives one server through one workload, verifies every
// byte that comes back, and prints what it measured, or what went wrong, as one JSON object.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <future>
#include <iostream>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Microseconds = std::chrono::duration<double, std::micro>;
using Results = std::vector<std::pair<std::string, double>>;

constexpr std::string_view usage =
    "usage: load ping-pong PORT CONNECTIONS SIZE SECONDS\n"
    "       load bulk PORT SECONDS\n"
    "       load churn PORT CLIENTS SECONDS\n";

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail_errno(const std::string& action) {
  throw Failure(action + ": " + std::strerror(errno));
}

/// In seconds. Longer than it takes until a lost SYN is sent again.
constexpr int patience = 2;
const std::string patience_is_over = "no answer within " + std::to_string(patience) + " s";

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Fd() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// What a connection sends: a stream in which each byte depends on its position, so that none can
/// be lost, doubled, changed or sent to another client unseen. The period is a prime, so that no
/// buffer's size divides it.
constexpr std::size_t period = 65'521;
constexpr std::size_t most_at_once = 262'144;

std::span<const std::byte> stream_at(std::uint64_t position, std::size_t size) {
  static const std::vector<std::byte> pattern = [] {
    std::mt19937 random;
    std::vector<std::byte> bytes(period + most_at_once);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = i < period ? static_cast<std::byte>(random()) : bytes[i - period];
    return bytes;
  }();
  return {pattern.data() + position % period, size};
}

/// One connection. One thread may send while another receives.
class Client {
 public:
  Client(std::uint16_t port, std::uint32_t index)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), index_(index) {
    if (fd_.get() == -1)
      fail("socket");
    const timeval time{patience, 0};
    set(SOL_SOCKET, SO_RCVTIMEO, time);
    set(SOL_SOCKET, SO_SNDTIMEO, time);
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    // From many addresses: those that connect first also wait (TIME_WAIT) and would run out of
    // ports within seconds.
    set(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    const sockaddr_in source = loopback(1 + index % 64 * 256, 0);
    const sockaddr_in server = loopback(1, port);
    if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&source), sizeof(source)) == -1)
      fail("bind");
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&server), sizeof(server)) == -1)
      fail("connect");
  }

  void send(std::size_t size) {
    while (size > 0) {
      const auto data = stream_at(index_ + sent_, std::min(size, most_at_once));
      const auto count = ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL);
      if (count == -1)
        fail("send");
      sent_ += static_cast<std::uint64_t>(count);
      size -= static_cast<std::size_t>(count);
    }
  }

  /// Takes what is there, at most `most`, waiting for the first byte; 0 is the end of file.
  std::size_t receive_some(std::size_t most) {
    thread_local std::vector<std::byte> buffer(most_at_once);
    const auto result = ::recv(fd_.get(), buffer.data(), std::min(most, buffer.size()), 0);
    if (result == -1)
      fail("receive");
    const auto count = static_cast<std::size_t>(result);
    if (!std::ranges::equal(std::span(buffer).first(count), stream_at(index_ + received_, count)))
      throw Failure(name() + "wrong bytes after the first " + std::to_string(received_));
    received_ += count;
    return count;
  }

  void receive(std::size_t size) {
    while (size > 0) {
      const std::size_t count = receive_some(size);
      if (count == 0)
        fail_early_end();
      size -= count;
    }
  }

  [[noreturn]] void fail_early_end() const {
    throw Failure(name() + "end of file after " + std::to_string(received_) + " of " +
                  std::to_string(sent_) + " bytes");
  }

  void finish_sending() { ::shutdown(fd_.get(), SHUT_WR); }

  std::uint64_t sent() const { return sent_; }
  std::uint64_t received() const { return received_; }
  int fd() const { return fd_.get(); }

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
    if (::setsockopt(fd_.get(), level, option, &value, sizeof(value)) == -1)
      fail("setsockopt");
  }

  std::string name() const { return "connection " + std::to_string(index_ + 1) + ": "; }

  [[noreturn]] void fail(const std::string& call) const {
    if (errno == EAGAIN || errno == EINPROGRESS)
      throw Failure(name() + call + ": " + patience_is_over);
    fail_errno(name() + call);
  }

  Fd fd_;
  std::uint32_t index_;  ///< Where it starts in the stream, too.
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

double percentile(const std::vector<double>& sorted, double part) {
  return sorted.at(static_cast<std::size_t>(static_cast<double>(sorted.size() - 1) * part));
}

Results ping_pong(std::uint16_t port, std::size_t connections, std::size_t size, double seconds) {
  std::vector<Client> clients;
  for (std::uint32_t i = 0; i < connections; ++i)
    clients.emplace_back(port, i);
  for (Client& client : clients)
    client.send(size);
  for (Client& client : clients)
    client.receive(size);

  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  for (std::size_t i = 0; i < connections; ++i) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, clients[i].fd(), &event) == -1)
      fail_errno("epoll_ctl");
  }
  std::array<epoll_event, 64> events{};
  std::vector<double> latencies;
  const auto start = Clock::now();
  const auto end = start + Seconds(seconds);
  auto now = start;
  std::vector<Clock::time_point> sent_at(connections, start);
  for (Client& client : clients)
    client.send(size);
  for (std::size_t waiting = connections; waiting > 0;) {
    // A single client just blocks when it receives.
    const int ready =
        connections == 1 ? 1 : ::epoll_wait(epoll.get(), events.data(), 64, patience * 1000);
    if (ready <= 0)
      throw Failure(patience_is_over);
    for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(ready))) {
      Client& client = clients[event.data.u64];
      if (client.receive_some(client.sent() - client.received()) == 0)
        client.fail_early_end();
      if (client.received() < client.sent())
        continue;
      now = Clock::now();
      latencies.push_back(Microseconds(now - sent_at[event.data.u64]).count());
      sent_at[event.data.u64] = now;
      if (now < end)
        client.send(size);
      else
        --waiting;
    }
  }

  const double rate = static_cast<double>(latencies.size()) / Seconds(now - start).count();
  std::ranges::sort(latencies);
  return {{"round trips/s", rate},
          {"µs p50", percentile(latencies, 0.5)},
          {"µs p99", percentile(latencies, 0.99)}};
}

Results bulk(std::uint16_t port, double seconds) {
  constexpr std::size_t block = 65'536;
  Client client(port, 0);
  client.send(block);
  client.receive(block);

  const auto start = Clock::now();
  std::atomic<std::uint64_t> total = std::numeric_limits<std::uint64_t>::max();
  // Where one side fails, the other one's patience ends, too.
  auto sender = std::async(std::launch::async, [&] {
    const auto end = start + Seconds(seconds);
    while (Clock::now() < end)
      client.send(block);
    // Known before it is sent: then the receiver cannot wait for more than is coming.
    total = client.sent() + block;
    client.send(block);
  });
  while (client.received() < total)
    if (client.receive_some(most_at_once) == 0)
      client.fail_early_end();
  sender.get();
  const double taken = Seconds(Clock::now() - start).count();
  return {{"MB/s", static_cast<double>(client.received() - block) / 1e6 / taken}};
}

Results churn(std::uint16_t port, std::size_t clients, double seconds) {
  constexpr std::size_t size = 16;
  const auto start = Clock::now();
  std::atomic<std::uint32_t> served = 0;
  const auto churn_one_by_one = [&] {
    while (Clock::now() - start < Seconds(seconds)) {
      Client client(port, served++);
      client.send(size);
      client.finish_sending();
      client.receive(size);
      if (client.receive_some(1) != 0)
        throw Failure("more came back than was sent");
    }
  };
  std::vector<std::future<void>> all;
  for (std::size_t i = 0; i < clients; ++i)
    all.push_back(std::async(std::launch::async, churn_one_by_one));
  for (auto& one : all)
    one.get();
  return {{"per s", served / Seconds(Clock::now() - start).count()}};
}

std::optional<Results> run(std::span<char*> arguments) {
  const std::string workload = arguments.size() > 1 ? arguments[1] : "";
  const auto number = [&](std::size_t i) { return std::strtoul(arguments[i], nullptr, 10); };
  const auto seconds = [&](std::size_t i) { return std::strtod(arguments[i], nullptr); };
  if (workload == "ping-pong" && arguments.size() == 6)
    return ping_pong(static_cast<std::uint16_t>(number(2)), number(3), number(4), seconds(5));
  if (workload == "bulk" && arguments.size() == 4)
    return bulk(static_cast<std::uint16_t>(number(2)), seconds(3));
  if (workload == "churn" && arguments.size() == 5)
    return churn(static_cast<std::uint16_t>(number(2)), number(3), seconds(4));
  return std::nullopt;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto results = run(std::span(argv, static_cast<std::size_t>(argc)));
    if (!results) {
      std::cerr << usage;
      return 2;
    }
    const char* separator = "{";
    for (const auto& [name, value] : *results)
      std::cout << std::exchange(separator, ", ") << '"' << name << "\": " << value;
    std::cout << "}\n";
    return 0;
  } catch (const std::exception& error) {
    std::cout << "{\"error\": \"" << error.what() << "\"}\n";
    return 1;
  }
}
