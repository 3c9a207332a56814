#include "echo/socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstddef>
#include <span>
#include <string>
#include <system_error>

#include "client.hpp"
#include "echo/endpoint.hpp"
#include "matchers.hpp"

namespace {

using test::port_of;

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
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
int option_of_peer(const test::Client& client, int level, int option) {
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

TEST_CASE("bytes that cannot be delivered any more are an error, also behind an end of file",
          "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  socket.send(bytes(test::pattern(400'000)));
  CHECK(socket.unacknowledged() > 0);
  client.half_close();
  client.close();  // With bytes unread, so by a reset.
  std::system_error error = error_of([] {});
  CHECK(test::eventually([&] {
    error = error_of([&] { socket.unacknowledged(); });
    return static_cast<bool>(error.code());
  }));
  CHECK(std::string(error.what()) == "send: Broken pipe");
}

TEST_CASE("a call on no socket is an error that names the call", "[socket]") {
  echo::Socket socket(echo::UniqueFd(), "");
  const auto text_of = [](auto call) -> std::string { return error_of(call).what(); };
  const std::string words = ": Bad file descriptor";
  CHECK(text_of([&] { socket.receive({}); }) == "receive" + words);
  CHECK(text_of([&] { socket.receive({}, MSG_DONTWAIT); }) == "receive" + words);
  CHECK(text_of([&] { socket.send({}); }) == "send" + words);
  CHECK(text_of([&] { socket.set_idle_timeout({}); }) == "set SO_RCVTIMEO" + words);
}

TEST_CASE("what is sent leaves at once, a lost client is noticed, and TCP tells of the way",
          "[socket]") {
  const test::Pair pair = test::connected_pair();
  CHECK(option_of_peer(pair.client, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option_of_peer(pair.client, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(pair.server.info().tcpi_rtt > 0);
  CHECK(pair.server.info().tcpi_snd_mss > 500);
}

TEST_CASE("the first endpoint that can be bound is used", "[socket]") {
  const echo::Endpoint free = echo::resolve("127.0.0.1", 0).front();
  const echo::Listener listener = test::listen_on_loopback();
  const echo::Endpoint taken = listener.local_endpoint();
  CHECK(port_of(echo::listen_on_first({taken, free, taken}).local_endpoint()) != port_of(taken));
  const auto error = error_of([&] { echo::listen_on_first({taken, taken}); });
  CHECK(error.code() == std::errc::address_in_use);
}
