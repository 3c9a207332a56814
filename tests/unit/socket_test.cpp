#include "echo/socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <future>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "client.hpp"
#include "echo/endpoint.hpp"
#include "echo/unique_fd.hpp"
#include "matchers.hpp"  // IWYU pragma: keep

namespace test {
namespace {

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

TEST_CASE("undeliverable bytes are an error even behind an end of file", "[socket]") {
  auto [connection, client] = connected_pair();
  echo::Socket& socket = connection;
  socket.send(bytes(pattern(400'000)));
  CHECK(socket.unacknowledged() > 0);
  client.half_close();
  client.close();  // With bytes unread, so by a reset.
  std::system_error error = error_of([] {});
  CHECK(eventually([&] {
    error = error_of([&] { socket.throw_if_broken(); });
    return static_cast<bool>(error.code());
  }));
  CHECK(std::string(error.what()) == "send: Broken pipe");
}

TEST_CASE("errors of calls on no socket name the call", "[socket]") {
  echo::Socket socket(echo::UniqueFd(), "");
  const auto text_of = [](auto call) -> std::string { return error_of(call).what(); };
  const std::string words = ": Bad file descriptor";
  CHECK(text_of([&] { socket.receive({}); }) == "receive" + words);
  CHECK(text_of([&] { socket.receive({}, MSG_DONTWAIT); }) == "receive" + words);
  CHECK(text_of([&] { socket.send({}); }) == "send" + words);
  CHECK(text_of([&] { socket.set_idle_timeout({}); }) == "set SO_RCVTIMEO" + words);
}

TEST_CASE("accepted sockets send without delay and notice a lost client", "[socket]") {
  const Pair pair = connected_pair();
  CHECK(option_of_peer(pair.client, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option_of_peer(pair.client, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(pair.server.info().tcpi_rtt > 0);
  CHECK(pair.server.info().tcpi_snd_mss > 500);
}

TEST_CASE("send returns if there is no room for a while", "[socket]") {
  Pair pair = connected_pair();
  const auto data = bytes(more_than_fits());
  auto sent = std::async(std::launch::async, [&] {
    std::size_t first = pair.server.send(data);
    while (pair.server.send(data) > 0)  // Until the client's kernel has made its buffer no larger.
      continue;
    return first;
  });
  const bool has_returned = sent.wait_for(deadline) == std::future_status::ready;
  pair.client.close();  // Otherwise a send that does not return would never be over.
  REQUIRE(has_returned);
  CHECK(sent.get() < data.size());
}

TEST_CASE("local endpoint of a connection is where the client connected to", "[socket]") {
  const Pair pair = connected_pair();
  echo::Endpoint server;
  REQUIRE(::getpeername(pair.client.fd(), server.address(), &server.length) == 0);
  CHECK(pair.server.local_endpoint().to_string() == server.to_string());
}

TEST_CASE("full backlog lets no client connect", "[socket]") {
  const std::string host = GENERATE("127.0.0.1", "0.0.0.0", "::1", "::");
  CAPTURE(host);
  echo::Listener listener(echo::resolve(host, 0).front());
  listener.fill_backlog();
  echo::Endpoint address = listener.local_endpoint();
  const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const echo::UniqueFd client(::socket(address.storage.ss_family, type, 0));
  REQUIRE(::connect(client.get(), address.address(), address.length) == -1);
  REQUIRE(errno == EINPROGRESS);
  pollfd connected{client.get(), POLLOUT, 0};
  CHECK(::poll(&connected, 1, 200) == 0);
}

TEST_CASE("first endpoint that can be bound is used", "[socket]") {
  const echo::Endpoint free = echo::resolve("127.0.0.1", 0).front();
  const echo::Listener listener = listen_on_loopback();
  const echo::Endpoint taken = listener.local_endpoint();
  const echo::Endpoint foreign = echo::resolve("192.0.2.1", 0).front();  // RFC 5737.
  CHECK(echo::listen_on_first({foreign, free, taken}).local_endpoint().port() != taken.port());
  const auto code_for = [](const std::vector<echo::Endpoint>& endpoints) {
    return error_of([&] { echo::listen_on_first(endpoints); }).code();
  };
  CHECK(code_for({taken, foreign}) == std::errc::address_in_use);
  CHECK(code_for({foreign, taken, free}) == std::errc::address_in_use);
  CHECK(code_for({foreign, foreign}) == std::errc::address_not_available);
}

}  // namespace test
