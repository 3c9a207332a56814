#include "client.hpp"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "echo/endpoint.hpp"
#include "echo/socket.hpp"
#include "echo/system_call.hpp"

namespace test {
namespace {

using echo::checked;
using std::chrono::milliseconds;

void set_timeout(int fd, int option, milliseconds time) {
  const timeval limit{time.count() / 1000, time.count() % 1000 * 1000};
  checked(::setsockopt(fd, SOL_SOCKET, option, &limit, sizeof(limit)), "set a timeout");
}

/// Waits no longer than `time` for one of `events`.
bool has(int fd, short events, milliseconds time = milliseconds(0)) {
  pollfd polled{fd, events, 0};
  return checked(::poll(&polled, 1, static_cast<int>(time.count())), "poll") == 1;
}

}  // namespace

std::string pattern(std::size_t size, unsigned seed) {
  std::uint32_t state = seed * 2654435761U + 1;
  std::string data(std::min<std::size_t>(size, 1'000'003), '\0');
  for (char& byte : data) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<char>(state >> 24);
  }
  while (data.size() < size)
    data.append(data, 0, size - data.size());
  return data;
}

const std::string& more_than_fits() {
  static const std::string data = pattern(64 << 20);
  return data;
}

Client::Client(std::uint16_t port, const std::string& host, int receive_buffer) {
  echo::Endpoint server = echo::resolve(host, port).front();
  const int family = server.storage.ss_family;
  fd_ = echo::UniqueFd(checked(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  set_timeout(fd(), SO_RCVTIMEO, deadline);
  set_timeout(fd(), SO_SNDTIMEO, deadline);
  if (receive_buffer > 0)
    use_small_buffer(receive_buffer);
  checked(::connect(fd(), server.address(), server.length), "connect");
}

void Client::send(std::string_view data) {
  if (const Sent sent = try_to_send(data); sent.error)
    throw std::system_error(sent.error, "send");
}

Sent Client::try_to_send(std::string_view data) {
  Sent sent;
  while (sent.size < data.size()) {
    const std::string_view rest = data.substr(sent.size);
    const auto count = ::send(fd(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count == -1) {
      sent.error = {errno, std::system_category()};
      break;
    }
    sent.size += static_cast<std::size_t>(count);
  }
  return sent;
}

std::size_t Client::send_until_blocked(std::string_view data) {
  use_small_buffer(65'536);
  set_timeout(fd(), SO_SNDTIMEO, milliseconds(100));
  const Sent sent = try_to_send(data);
  if (sent.error != std::errc::resource_unavailable_try_again || !has(fd(), POLLIN, deadline))
    throw std::runtime_error("the sender is not blocked, or no echo came");
  set_timeout(fd(), SO_SNDTIMEO, deadline);
  return sent.size;
}

std::string Client::receive(std::size_t size) {
  return receive_some(size, MSG_WAITALL);
}

std::string Client::receive_some(std::size_t most, int flags) {
  std::string data(most, '\0');
  const auto count = checked(::recv(fd(), data.data(), data.size(), flags), "receive");
  data.resize(static_cast<std::size_t>(count));
  return data;
}

std::string Client::receive_all() {
  const Received received = receive_until_end();
  if (received.error)
    throw std::system_error(received.error, "receive");
  return received.data;
}

Received Client::receive_until_end() {
  Received received;
  try {
    for (std::string part = receive_some(); !part.empty(); part = receive_some())
      received.data += part;
  } catch (const std::system_error& error) {
    received.error = error.code();
  }
  return received;
}

std::string Client::exchange(std::string_view data) {
  auto sent = std::async(std::launch::async, [&] { send(data); });
  std::string received = receive(data.size());
  sent.get();
  return received;
}

bool Client::is_unanswered() const {
  return !has(fd(), POLLIN);
}

bool Client::is_acknowledged() const {
  return eventually([this] {
    int on_its_way = 0;
    checked(::ioctl(fd(), SIOCOUTQ, &on_its_way), "ioctl");
    return on_its_way == 0;
  });
}

void Client::use_small_buffer(int size) {
  checked(::setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), "set SO_RCVBUF");
}

void Client::half_close() {
  checked(::shutdown(fd(), SHUT_WR), "shutdown");
}

std::string Client::finish() {
  half_close();
  return receive_all();
}

void Client::reset() {
  const linger abort{1, 0};
  checked(::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)), "set SO_LINGER");
  close();
}

std::string Client::address() const {
  echo::Endpoint endpoint;
  checked(::getsockname(fd(), endpoint.address(), &endpoint.length), "getsockname");
  return endpoint.to_string();
}

Client served_client(std::uint16_t port) {
  Client client(port);
  if (client.exchange("hello") != "hello")
    throw std::runtime_error("no echo came");
  return client;
}

void serve_one(std::uint16_t port) {
  Client client = served_client(port);
  if (!client.finish().empty())
    throw std::runtime_error("more came than was sent");
}

Pair connected_pair() {
  echo::Listener listener = listen_on_loopback();
  Client client(listener.local_endpoint().port());
  return {listener.accept().value(), std::move(client)};
}

bool is_free(std::uint16_t port) {
  return eventually([port] {
    try {
      const echo::Listener listener(echo::resolve("127.0.0.1", port).front());
      return true;
    } catch (const std::system_error& error) {
      if (error.code() != std::errc::address_in_use)
        throw;
      return false;
    }
  });
}

echo::Listener listen_on_loopback() {
  return echo::Listener(echo::resolve("127.0.0.1", 0).front());
}

}  // namespace test
