#include "echo/socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
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

template <typename Result>
bool is_ready(const std::future<Result>& future) {
  return future.wait_for(test::deadline) == std::future_status::ready;
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

TEST_CASE("a socket receives what there is, at most what is asked, and 0 at the end of file",
          "[socket]") {
  auto [socket, client] = test::connected_pair();
  client.send("abcdef");
  client.half_close();
  CHECK(receive_text(socket, 4) == "abcd");
  CHECK(receive_text(socket, 4) == "ef");
  CHECK(receive_text(socket, 4).empty());
  CHECK(receive_text(socket, 4).empty());
}

TEST_CASE("a receive that is not to wait returns 0 where nothing has arrived", "[socket]") {
  auto [socket, client] = test::connected_pair();
  CHECK(receive_text(socket, 4, MSG_DONTWAIT).empty());
  client.send("abcdef");
  REQUIRE(client.is_acknowledged());
  CHECK(receive_text(socket, 4, MSG_DONTWAIT) == "abcd");
  CHECK(receive_text(socket, 4, MSG_DONTWAIT) == "ef");
  CHECK(receive_text(socket, 4, MSG_DONTWAIT).empty());
}

TEST_CASE("a send waits until the system has taken everything", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  const std::string& data = test::more_than_fits();
  auto sent = std::async(std::launch::async, [&] { return socket.send(bytes(data)); });
  CHECK(test::same_bytes(client.receive(data.size()), data));
  CHECK(sent.get() == data.size());
}

TEST_CASE("unacknowledged bytes are counted until the client's system has them", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  CHECK(socket.unacknowledged() == 0);
  const std::size_t sent = socket.send(bytes(test::pattern(400'000)));
  CHECK(socket.unacknowledged() > 0);
  client.receive(sent);
  CHECK(test::eventually([&] { return socket.unacknowledged() == 0; }));
}

TEST_CASE("bytes that cannot be delivered any more are an error, also behind an end of file",
          "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  socket.send(bytes(test::pattern(400'000)));
  client.half_close();
  client.close();  // With bytes unread, so by a reset.
  std::system_error error = error_of([] {});
  CHECK(test::eventually([&] {
    error = error_of([&] { socket.unacknowledged(); });
    return static_cast<bool>(error.code());
  }));
  CHECK(std::string(error.what()) == "send: Broken pipe");
}

TEST_CASE("a broken connection is an error with the system's words", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  client.reset();
  const auto received = error_of([&] { receive_text(socket, 4); });
  CHECK(received.code() == std::errc::connection_reset);
  CHECK(std::string(received.what()) == "receive: Connection reset by peer");
  const auto sent = error_of([&] { socket.send(bytes("abc")); });
  CHECK(sent.code() == std::errc::broken_pipe);
  CHECK(std::string(sent.what()) == "send: Broken pipe");
}

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

TEST_CASE("the idle timeout ends a receive and a send that wait", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  socket.set_idle_timeout(std::chrono::milliseconds(50));
  CHECK(error_of([&] { receive_text(socket, 4); }).code() == std::errc::operation_would_block);
  const std::string& data = test::more_than_fits();
  CHECK(error_of([&] {
          for (;;)  // The first send may have taken a part.
            socket.send(bytes(data));
        }).code() == std::errc::timed_out);
}

TEST_CASE("the longest idle timeout ends nothing at once", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  socket.set_idle_timeout(std::chrono::hours(100'000));
  Sleeper sleeper;
  auto received = std::async(std::launch::async, [&] {
    sleeper.here();
    return receive_text(socket, 4);
  });
  CHECK(sleeper.sleeps());
  client.send("late");
  CHECK(received.get() == "late");
}

TEST_CASE("shutting down another thread's socket wakes it", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  Sleeper sleeper;
  auto received = std::async(std::launch::async, [&] {
    sleeper.here();
    return receive_text(socket, 4);
  });
  REQUIRE(sleeper.sleeps());
  socket.shutdown(SHUT_RD);
  REQUIRE(is_ready(received));
  CHECK(received.get().empty());
}

TEST_CASE("a close ends with the end of file, or with a reset if that was asked for", "[socket]") {
  for (const bool resets : {false, true}) {
    auto [socket, client] = test::connected_pair();
    socket.send(bytes("abc"));
    CHECK(client.receive(3) == "abc");
    if (resets)
      socket.reset_when_closed();
    socket.close();
    CHECK(client.receive_until_end().by_reset() == resets);
  }
}

TEST_CASE("what TCP knows of the way is there for a live connection", "[socket]") {
  auto [connection, client] = test::connected_pair();
  CHECK(connection.info().tcpi_rtt > 0);
  CHECK(connection.info().tcpi_total_retrans == 0);
  CHECK(connection.info().tcpi_snd_mss > 500);
}

TEST_CASE("a listener on port 0 tells the port it got, and hands over clients", "[socket]") {
  echo::Listener listener = listen_on();
  REQUIRE(port_of(listener.local_endpoint()) != 0);
  Client client(port_of(listener.local_endpoint()));
  auto connection = listener.accept();
  REQUIRE(connection);
  CHECK(connection->peer() == client.address());
  client.send("hi");
  CHECK(receive_text(*connection, 16) == "hi");
}

TEST_CASE("what is sent leaves at once, urgent data stays in its place, and a lost peer is noticed",
          "[socket]") {
  const test::Pair pair = test::connected_pair();
  CHECK(option_of_peer(pair.client, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option_of_peer(pair.client, SOL_SOCKET, SO_OOBINLINE) == 1);
  CHECK(option_of_peer(pair.client, SOL_SOCKET, SO_KEEPALIVE) == 1);
}

TEST_CASE("a listener on :: serves IPv4 clients and knows them as such", "[socket]") {
  echo::Listener listener = listen_on("::");
  const Client four(port_of(listener.local_endpoint()), "127.0.0.1");
  CHECK(listener.accept()->peer() == four.address());
  const Client six(port_of(listener.local_endpoint()), "::1");
  CHECK(listener.accept()->peer() == six.address());
}

TEST_CASE("an address in use is an error that names it", "[socket]") {
  const echo::Listener listener = listen_on();
  const auto error = error_of([&] { const echo::Listener second(listener.local_endpoint()); });
  CHECK(error.code() == std::errc::address_in_use);
  CHECK(std::string(error.what()) ==
        "listen on " + listener.local_endpoint().to_string() + ": Address already in use");
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

TEST_CASE("shutting down a listener ends every accept, now and later", "[socket]") {
  echo::Listener listener = listen_on();
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
  REQUIRE(is_ready(first));
  REQUIRE(is_ready(second));
  CHECK_FALSE(first.get());
  CHECK_FALSE(second.get());
  CHECK_FALSE(listener.accept());
}

TEST_CASE("a listener that was shut down gives its port back", "[socket]") {
  echo::Listener listener = listen_on();
  const echo::Endpoint endpoint = listener.local_endpoint();
  listener.shutdown();
  CHECK_NOTHROW(echo::Listener(endpoint));
}
