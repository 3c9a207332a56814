#include "echo/socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstddef>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "client.hpp"
#include "echo/endpoint.hpp"
#include "matchers.hpp"

namespace {

using test::Client;
using test::listen_on;
using test::port_of;

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string receive_text(echo::Socket& socket, std::size_t most, int flags = 0) {
  std::string text(most, '\0');
  text.resize(socket.receive(std::as_writable_bytes(std::span(text)), flags));
  return text;
}

/// What a call throws; no code if nothing.
template <typename Call>
std::system_error error_of(Call call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error;
  }
  return {std::error_code(), "no error"};
}

/// An option of the socket in this process whose other end is `client`.
int option_of_peer(const Client& client, int level, int option) {
  for (int fd = 0; fd < 1024; ++fd) {
    echo::Endpoint peer;
    int value = -1;
    socklen_t size = sizeof(value);
    if (::getpeername(fd, peer.address(), &peer.length) == 0 &&
        peer.to_string() == client.address() && ::getsockopt(fd, level, option, &value, &size) == 0)
      return value;
  }
  return -1;
}

}  // namespace

TEST_CASE("a call on no socket is an error that names the call", "[socket]") {
  echo::Socket socket(echo::UniqueFd(), "");
  const auto text_of = [](auto call) -> std::string { return error_of(call).what(); };
  const std::string words = ": Bad file descriptor";
  CHECK(text_of([&] { receive_text(socket, 4); }) == "receive" + words);
  CHECK(text_of([&] { receive_text(socket, 4, MSG_DONTWAIT); }) == "receive" + words);
  CHECK(text_of([&] { socket.send(bytes("abc")); }) == "send" + words);
  CHECK(text_of([&] { socket.unacknowledged(); }) == "send" + words);
  CHECK(text_of([&] { socket.set_idle_timeout({}); }) == "set SO_RCVTIMEO" + words);
  CHECK(socket.info().tcpi_rtt == 0);
}

TEST_CASE("what is sent leaves at once, urgent data stays in its place, and a lost peer is noticed",
          "[socket]") {
  const test::Pair pair = test::connected_pair();
  CHECK(option_of_peer(pair.client, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option_of_peer(pair.client, SOL_SOCKET, SO_OOBINLINE) == 1);
  CHECK(option_of_peer(pair.client, SOL_SOCKET, SO_KEEPALIVE) == 1);
}

TEST_CASE("the first endpoint that can be bound is used", "[socket]") {
  const echo::Endpoint free = echo::resolve("127.0.0.1", 0).front();
  const echo::Listener listener = listen_on();
  const echo::Endpoint taken = listener.local_endpoint();
  CHECK(port_of(echo::listen_on_first({taken, free, taken}).local_endpoint()) != port_of(taken));
  CHECK(error_of([&] {
          echo::listen_on_first({taken, taken});
        }).code() == std::errc::address_in_use);
}
