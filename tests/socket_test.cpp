#include "echo/socket.hpp"

#include <netinet/tcp.h>

#include <array>
#include <future>
#include <system_error>

#include "catch.hpp"
#include "client.hpp"

namespace {

using test::Client;

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string receive_text(echo::Socket& socket, std::size_t most) {
  std::string text(most, '\0');
  text.resize(socket.receive(std::as_writable_bytes(std::span(text))));
  return text;
}

std::uint16_t port_of(const echo::Listener& listener) {
  const std::string text = listener.local_endpoint().to_string();
  return static_cast<std::uint16_t>(std::stoi(text.substr(text.rfind(':') + 1)));
}

echo::Listener listen_on(const std::string& host) {
  return echo::Listener(echo::resolve(host, 0).front());
}

}  // namespace

TEST_CASE("a socket receives what there is, at most what is asked, and 0 at the end of file",
          "[socket]") {
  auto [fd, client] = test::connected_pair();
  echo::Socket socket(std::move(fd));
  client.send("abcdef");
  client.half_close();
  CHECK(receive_text(socket, 4) == "abcd");
  CHECK(receive_text(socket, 4) == "ef");
  CHECK(receive_text(socket, 4).empty());
  CHECK(receive_text(socket, 4).empty());
}

TEST_CASE("receiving without waiting gives nothing where there is nothing", "[socket]") {
  auto [fd, client] = test::connected_pair();
  echo::Socket socket(std::move(fd));
  std::array<std::byte, 4> buffer{};
  CHECK(socket.receive_waiting(buffer) == 0);
  client.send("x");
  REQUIRE(test::eventually([&] { return socket.receive_waiting(buffer) == 1; }));
  CHECK(buffer[0] == std::byte{'x'});
}

TEST_CASE("a send takes what fits and waits for room only when there is none", "[socket]") {
  auto [fd, client] = test::connected_pair();
  echo::Socket socket(std::move(fd));
  const std::string data = test::pattern(64 << 20);
  const std::size_t first = socket.send(bytes(data));
  CHECK(first > 0);
  CHECK(first < data.size());
  auto rest = std::async(std::launch::async, [&] {
    std::size_t sent = first;
    while (sent < data.size())
      sent += socket.send(bytes(data).subspan(sent));
  });
  CHECK((client.receive(data.size()) == data));
}

TEST_CASE("unacknowledged bytes are counted until the client's system has them", "[socket]") {
  auto [fd, client] = test::connected_pair();
  echo::Socket socket(std::move(fd));
  CHECK(socket.unacknowledged() == 0);
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = socket.send(bytes(data));
  CHECK(socket.unacknowledged() > 0);
  client.receive(sent);
  CHECK(test::eventually([&] { return socket.unacknowledged() == 0; }));
}

TEST_CASE("a broken connection is an error with the system's words", "[socket]") {
  auto [fd, client] = test::connected_pair();
  echo::Socket socket(std::move(fd));
  client.reset();
  std::array<std::byte, 4> buffer{};
  try {
    socket.receive(buffer);
    FAIL("received");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::connection_reset);
    CHECK(std::string(error.what()) == "receive: Connection reset by peer");
  }
  try {
    socket.send(buffer);
    FAIL("sent");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::broken_pipe);
    CHECK(std::string(error.what()) == "send: Broken pipe");
  }
}

TEST_CASE("a call on no socket is an error that names the call", "[socket]") {
  echo::Socket socket{echo::UniqueFd()};
  std::array<std::byte, 4> buffer{};
  const auto text_of = [](auto call) -> std::string {
    try {
      call();
    } catch (const std::system_error& error) {
      CHECK(error.code() == std::errc::bad_file_descriptor);
      return error.what();
    }
    return "no error";
  };
  const std::string words = "Bad file descriptor";
  CHECK(text_of([&] { socket.receive(buffer); }) == "receive: " + words);
  CHECK(text_of([&] { socket.receive_waiting(buffer); }) == "receive: " + words);
  CHECK(text_of([&] { socket.send(buffer); }) == "send: " + words);
  CHECK(text_of([&] { socket.set_no_delay(); }) == "set TCP_NODELAY: " + words);
  CHECK(text_of([&] { socket.unacknowledged(); }) == "count unacknowledged bytes: " + words);
  CHECK(socket.path_info().retransmissions == 0);
}

TEST_CASE("the idle timeout ends a receive and a send that wait", "[socket]") {
  auto [fd, client] = test::connected_pair();
  echo::Socket socket(std::move(fd));
  socket.set_idle_timeout(std::chrono::milliseconds(50));
  std::array<std::byte, 4> buffer{};
  const auto times_out = [](auto call) {
    try {
      call();
      return false;
    } catch (const std::system_error& error) {
      return error.code() == std::errc::operation_would_block;
    }
  };
  CHECK(times_out([&] { socket.receive(buffer); }));
  const std::string data = test::pattern(1 << 20);
  CHECK(times_out([&] {
    for (int i = 0; i < 100; ++i)
      socket.send(bytes(data));
  }));
}

TEST_CASE("shutting down another thread's socket wakes it", "[socket]") {
  auto [fd, client] = test::connected_pair();
  echo::Socket socket(std::move(fd));
  std::array<std::byte, 4> buffer{};
  auto received = std::async(std::launch::async, [&] { return socket.receive(buffer); });
  socket.shutdown(SHUT_RD);
  REQUIRE(received.wait_for(test::deadline) == std::future_status::ready);
  CHECK(received.get() == 0);
}

TEST_CASE("what TCP knows of the way is there for a live connection", "[socket]") {
  auto [fd, client] = test::connected_pair();
  const echo::Socket socket(std::move(fd));
  CHECK(socket.path_info().round_trip_time.count() > 0);
  CHECK(socket.path_info().retransmissions == 0);
}

TEST_CASE("a listener on port 0 tells the port it got, and hands over clients", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
  REQUIRE(port_of(listener) != 0);
  Client client(port_of(listener));
  auto connection = listener.accept();
  REQUIRE(connection);
  CHECK(connection->peer.to_string() == client.address());
  client.send("hi");
  CHECK(receive_text(connection->socket, 16) == "hi");
}

TEST_CASE("a listener on :: serves IPv4 clients and knows them as such", "[socket]") {
  echo::Listener listener = listen_on("::");
  const Client four(port_of(listener), "127.0.0.1");
  CHECK(listener.accept()->peer.to_string() == four.address());
  const Client six(port_of(listener), "::1");
  CHECK(listener.accept()->peer.to_string() == six.address());
}

TEST_CASE("an address in use is an error that names it", "[socket]") {
  const echo::Listener listener = listen_on("127.0.0.1");
  try {
    const echo::Listener second(listener.local_endpoint());
    FAIL("listens");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::address_in_use);
    CHECK(std::string(error.what()) ==
          "listen on " + listener.local_endpoint().to_string() + ": Address already in use");
  }
}

TEST_CASE("the first endpoint that can be bound is used", "[socket]") {
  const echo::Listener taken = listen_on("127.0.0.1");
  const auto free = echo::resolve("127.0.0.1", 0);
  const echo::Listener listener =
      echo::listen_on_first({taken.local_endpoint(), free.front(), taken.local_endpoint()});
  CHECK(port_of(listener) != port_of(taken));
  CHECK_THROWS_AS(echo::listen_on_first({taken.local_endpoint(), taken.local_endpoint()}),
                  std::system_error);
}

TEST_CASE("shutting down a listener ends every accept, now and later", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
  auto first = std::async(std::launch::async, [&] { return listener.accept().has_value(); });
  auto second = std::async(std::launch::async, [&] { return listener.accept().has_value(); });
  listener.shutdown();
  REQUIRE(first.wait_for(test::deadline) == std::future_status::ready);
  REQUIRE(second.wait_for(test::deadline) == std::future_status::ready);
  CHECK_FALSE(first.get());
  CHECK_FALSE(second.get());
  CHECK_FALSE(listener.accept());
}

TEST_CASE("a listener that is closed gives its port back", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
  const echo::Endpoint endpoint = listener.local_endpoint();
  listener.close();
  CHECK_NOTHROW(echo::Listener(endpoint));
  CHECK_THROWS_AS(listener.accept(), std::system_error);
  CHECK_THROWS_AS(listener.local_endpoint(), std::system_error);
}
