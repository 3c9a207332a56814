#include "echo/socket.hpp"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <numeric>
#include <system_error>
#include <vector>

#include "catch.hpp"
#include "client.hpp"

namespace {

using test::Client;
using test::port_of;

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string receive_text(echo::Socket& socket, std::size_t most) {
  std::string text(most, '\0');
  text.resize(socket.receive(std::as_writable_bytes(std::span(text))));
  return text;
}

struct Taken {
  std::string text;
  std::vector<std::size_t> sizes;
};

/// Takes chunks of 4 bytes at most, once all that the client has sent is there.
Taken take_waiting(echo::Socket& socket, const Client& client) {
  int on_its_way = 0;
  REQUIRE(test::eventually(
      [&] { return ::ioctl(client.fd(), SIOCOUTQ, &on_its_way) == 0 && on_its_way == 0; }));
  std::string text(1000, '\0');
  std::array<std::size_t, 2 * echo::Socket::most_chunks> room{};
  const auto sizes = socket.try_receive(std::as_writable_bytes(std::span(text)), 4, room);
  text.resize(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
  return {text, {sizes.begin(), sizes.end()}};
}

template <typename Call>
std::system_error error_of(Call call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error;
  }
  return {std::error_code(), "no error"};
}

/// A thread that is to wait in a call of the system.
class Sleeper {
 public:
  void here() { thread_.set_value(::gettid()); }

  /// Waits until it sleeps (proc(5)).
  bool sleeps() {
    const std::string file =
        "/proc/self/task/" + std::to_string(thread_.get_future().get()) + "/stat";
    return test::eventually([&] {
      std::ifstream stat(file);
      const std::string line(std::istreambuf_iterator<char>(stat), {});
      return line.find(") S ") != std::string::npos;
    });
  }

 private:
  std::promise<pid_t> thread_;
};

echo::Listener listen_on(const std::string& host) {
  return echo::Listener(echo::resolve(host, 0).front());
}

}  // namespace

TEST_CASE("a socket receives what there is, at most what is asked, and 0 at the end of file",
          "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
  client.send("abcdef");
  client.half_close();
  CHECK(receive_text(socket, 4) == "abcd");
  CHECK(receive_text(socket, 4) == "ef");
  CHECK(receive_text(socket, 4).empty());
  CHECK(receive_text(socket, 4).empty());
}

TEST_CASE("receiving without waiting gives nothing where there is nothing", "[socket]") {
  auto [connection, client] = test::connected_pair();
  CHECK(take_waiting(connection.socket, client).sizes.empty());
  client.send("x");
  CHECK(take_waiting(connection.socket, client).text == "x");
  client.half_close();
  CHECK(take_waiting(connection.socket, client).sizes.front() == 0);
}

TEST_CASE("chunks that wait are taken together, none longer than asked", "[socket]") {
  auto [connection, client] = test::connected_pair();
  client.send("abcdefghij");
  const Taken few = take_waiting(connection.socket, client);
  CHECK(few.text == "abcdefghij");
  CHECK(few.sizes == std::vector<std::size_t>{4, 4, 2});
  client.send(std::string(4 * echo::Socket::most_chunks, 'x') + "rest");
  CHECK(take_waiting(connection.socket, client).sizes ==
        std::vector<std::size_t>(echo::Socket::most_chunks, 4));
  CHECK(take_waiting(connection.socket, client).text == "rest");
}

TEST_CASE("a short one of the chunks taken together leaves no gap", "[socket]") {
  auto [connection, client] = test::connected_pair();
  // Whoever receives gets no further than to urgent data by one call (tcp(7)).
  client.send("abcd12");
  client.send_urgent("!");
  client.send("efghi");
  const Taken taken = take_waiting(connection.socket, client);
  CHECK(taken.text == "abcd12!efghi");
  CHECK(taken.sizes == std::vector<std::size_t>{4, 2, 4, 2});
}

TEST_CASE("a send takes what fits and waits for room only when there is none", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
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

TEST_CASE("with an idle timeout a send returns as soon as there is some room", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
  const std::string data = test::pattern(64 << 20);
  socket.set_idle_timeout(std::chrono::hours(1));
  std::size_t sent = socket.send(bytes(data));
  auto waiting = std::async(std::launch::async, [&] {
    while (sent < (16U << 20))
      sent += socket.send(bytes(data).subspan(sent));
  });
  client.receive(16 << 20);  // The rest of the data does not fit.
  CHECK(waiting.wait_for(test::deadline) == std::future_status::ready);
  client.reset();
}

TEST_CASE("unacknowledged bytes are counted until the client's system has them", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
  CHECK(socket.unacknowledged() == 0);
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = socket.send(bytes(data));
  CHECK(socket.unacknowledged() > 0);
  client.receive(sent);
  CHECK(test::eventually([&] { return socket.unacknowledged() == 0; }));
}

TEST_CASE("bytes that cannot be delivered any more are an error, also behind an end of file",
          "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
  socket.send(bytes(test::pattern(64 << 20)));
  client.half_close();
  client.close();  // With bytes unread, so by a reset.
  std::system_error error = error_of([&] { socket.unacknowledged(); });
  CHECK(test::eventually([&] {
    if (!error.code())
      error = error_of([&] { socket.unacknowledged(); });
    return static_cast<bool>(error.code());
  }));
  CHECK(std::string(error.what()) == "send: Broken pipe");
}

TEST_CASE("a broken connection is an error with the system's words", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
  client.reset();
  std::array<std::byte, 4> buffer{};
  const auto received = error_of([&] { socket.receive(buffer); });
  CHECK(received.code() == std::errc::connection_reset);
  CHECK(std::string(received.what()) == "receive: Connection reset by peer");
  const auto sent = error_of([&] { socket.send(buffer); });
  CHECK(sent.code() == std::errc::broken_pipe);
  CHECK(std::string(sent.what()) == "send: Broken pipe");
}

TEST_CASE("a call on no socket is an error that names the call", "[socket]") {
  echo::Socket socket{echo::UniqueFd()};
  std::array<std::byte, 4> buffer{};
  const auto text_of = [](auto call) -> std::string {
    const auto error = error_of(call);
    CHECK(error.code() == std::errc::bad_file_descriptor);
    return error.what();
  };
  const std::string words = "Bad file descriptor";
  CHECK(text_of([&] { socket.receive(buffer); }) == "receive: " + words);
  std::array<std::size_t, 1> sizes{};
  CHECK(text_of([&] { socket.try_receive(buffer, 4, sizes); }) == "receive: " + words);
  CHECK(text_of([&] { socket.send(buffer); }) == "send: " + words);
  CHECK(text_of([&] { socket.set_idle_timeout({}); }) == "set SO_RCVTIMEO: " + words);
  CHECK(text_of([&] { socket.unacknowledged(); }) == "count unacknowledged bytes: " + words);
  CHECK(socket.path_info().retransmissions == 0);
}

TEST_CASE("the idle timeout ends a receive and a send that wait", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
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
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection.socket;
  std::array<std::byte, 4> buffer{};
  Sleeper sleeper;
  auto received = std::async(std::launch::async, [&] {
    sleeper.here();
    return socket.receive(buffer);
  });
  REQUIRE(sleeper.sleeps());
  socket.shutdown(SHUT_RD);
  REQUIRE(received.wait_for(test::deadline) == std::future_status::ready);
  CHECK(received.get() == 0);
}

TEST_CASE("what TCP knows of the way is there for a live connection", "[socket]") {
  auto [connection, client] = test::connected_pair();
  const echo::Socket& socket = connection.socket;
  CHECK(socket.path_info().round_trip_time.count() > 0);
  CHECK(socket.path_info().retransmissions == 0);
}

TEST_CASE("a listener on port 0 tells the port it got, and hands over clients", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
  REQUIRE(port_of(listener.local_endpoint()) != 0);
  Client client(port_of(listener.local_endpoint()));
  auto connection = listener.accept();
  REQUIRE(connection);
  CHECK(connection->peer.to_string() == client.address());
  client.send("hi");
  CHECK(receive_text(connection->socket, 16) == "hi");
}

TEST_CASE("what a client is sent leaves at once", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
  const Client client(port_of(listener.local_endpoint()));
  const int next = ::dup(STDIN_FILENO);  // accept takes the lowest number that is free.
  ::close(next);
  const auto connection = listener.accept();
  int no_delay = 0;
  socklen_t size = sizeof(no_delay);
  REQUIRE(::getsockopt(next, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size) == 0);
  CHECK(no_delay == 1);
}

TEST_CASE("a listener on :: serves IPv4 clients and knows them as such", "[socket]") {
  echo::Listener listener = listen_on("::");
  const Client four(port_of(listener.local_endpoint()), "127.0.0.1");
  CHECK(listener.accept()->peer.to_string() == four.address());
  const Client six(port_of(listener.local_endpoint()), "::1");
  CHECK(listener.accept()->peer.to_string() == six.address());
}

TEST_CASE("an address in use is an error that names it", "[socket]") {
  const echo::Listener listener = listen_on("127.0.0.1");
  const auto error = error_of([&] { const echo::Listener second(listener.local_endpoint()); });
  CHECK(error.code() == std::errc::address_in_use);
  CHECK(std::string(error.what()) ==
        "listen on " + listener.local_endpoint().to_string() + ": Address already in use");
}

TEST_CASE("the first endpoint that can be bound is used", "[socket]") {
  const echo::Listener taken = listen_on("127.0.0.1");
  const auto free = echo::resolve("127.0.0.1", 0);
  const echo::Listener listener =
      echo::listen_on_first({taken.local_endpoint(), free.front(), taken.local_endpoint()});
  CHECK(port_of(listener.local_endpoint()) != port_of(taken.local_endpoint()));
  CHECK_THROWS_AS(echo::listen_on_first({taken.local_endpoint(), taken.local_endpoint()}),
                  std::system_error);
}

TEST_CASE("shutting down a listener ends every accept, now and later", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
  Sleeper sleepers[2];
  const auto accepts = [&](Sleeper& sleeper) {
    sleeper.here();
    return listener.accept().has_value();
  };
  auto first = std::async(std::launch::async, accepts, std::ref(sleepers[0]));
  auto second = std::async(std::launch::async, accepts, std::ref(sleepers[1]));
  REQUIRE(sleepers[0].sleeps());
  REQUIRE(sleepers[1].sleeps());
  listener.shutdown();
  REQUIRE(first.wait_for(test::deadline) == std::future_status::ready);
  REQUIRE(second.wait_for(test::deadline) == std::future_status::ready);
  CHECK_FALSE(first.get());
  CHECK_FALSE(second.get());
  CHECK_FALSE(listener.accept());
}

TEST_CASE("a listener that was shut down gives its port back", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
  const echo::Endpoint endpoint = listener.local_endpoint();
  listener.shutdown();
  CHECK_NOTHROW(echo::Listener(endpoint));
}
