#include "echo/socket.hpp"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <iterator>
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

std::uint16_t checksum(std::span<const std::uint16_t> words) {
  std::uint32_t sum = 0;
  for (const std::uint16_t word : words)
    sum += word;
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~(sum + (sum >> 16)));
}

/// Tells the other end of the client's connection that the client cannot be reached, as a router
/// does (ICMP, RFC 792), once the client has received all that its window allows.
void send_unreachable(const echo::UniqueFd& icmp, const Client& client) {
  sockaddr_in server{};
  sockaddr_in self{};
  socklen_t length = sizeof(server);
  ::getpeername(client.fd(), reinterpret_cast<sockaddr*>(&server), &length);
  ::getsockname(client.fd(), reinterpret_cast<sockaddr*>(&self), &length);
  // What the client expects next is what the server holds next.
  const auto set = [&](int option, int value) {
    ::setsockopt(client.fd(), IPPROTO_TCP, option, &value, sizeof(value));
  };
  std::uint32_t sequence = 0;
  length = sizeof(sequence);
  set(TCP_REPAIR, TCP_REPAIR_ON);
  set(TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  ::getsockopt(client.fd(), IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence, &length);
  set(TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);

  struct {
    icmphdr message;
    iphdr ip;
    tcphdr tcp;
  } packet{};
  packet.message.type = ICMP_DEST_UNREACH;
  packet.message.code = ICMP_HOST_UNREACH;
  packet.ip.version = 4;
  packet.ip.ihl = 5;
  packet.ip.protocol = IPPROTO_TCP;
  packet.ip.saddr = server.sin_addr.s_addr;
  packet.ip.daddr = self.sin_addr.s_addr;
  packet.tcp.source = server.sin_port;
  packet.tcp.dest = self.sin_port;
  packet.tcp.seq = htonl(sequence);
  std::array<std::uint16_t, sizeof(packet) / 2> words{};
  std::memcpy(words.data(), &packet, sizeof(packet));
  packet.message.checksum = checksum(words);
  server.sin_port = 0;
  ::sendto(icmp.get(), &packet, sizeof(packet), 0, reinterpret_cast<sockaddr*>(&server),
           sizeof(server));
}

struct Taken {
  std::string text;
  std::vector<std::size_t> sizes;  ///< Of the chunks.
};

/// What one receive takes, with room for `room` chunks.
Taken take(echo::Socket& socket, std::size_t chunk_size, std::size_t room = 1) {
  std::string text(room * chunk_size, '\0');
  Taken taken;
  text.resize(socket.receive(std::as_writable_bytes(std::span(text)), chunk_size, [&](auto chunk) {
    taken.sizes.push_back(chunk.size());
    taken.text.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
  }));
  CHECK(taken.text == text);  // In one piece, without a gap.
  return taken;
}

std::string receive_text(echo::Socket& socket, std::size_t most) {
  return take(socket, most).text;
}

/// The same once all that the client has sent is there.
Taken take_waiting(echo::Socket& socket, const Client& client, std::size_t room = 100) {
  int on_its_way = 0;
  REQUIRE(test::eventually(
      [&] { return ::ioctl(client.fd(), SIOCOUTQ, &on_its_way) == 0 && on_its_way == 0; }));
  return take(socket, 4, room);
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
  echo::Socket& socket = connection;
  client.send("abcdef");
  client.half_close();
  CHECK(receive_text(socket, 4) == "abcd");
  CHECK(receive_text(socket, 4) == "ef");
  CHECK(receive_text(socket, 4).empty());
  CHECK(receive_text(socket, 4).empty());
}

TEST_CASE("chunks that wait are taken together, none longer than asked", "[socket]") {
  auto [connection, client] = test::connected_pair();
  client.send("abcdefghij");
  const Taken few = take_waiting(connection, client);
  CHECK(few.text == "abcdefghij");
  CHECK(few.sizes == std::vector<std::size_t>{4, 4, 2});
  client.send("abcdefgh");
  CHECK(take_waiting(connection, client).sizes == std::vector<std::size_t>{4, 4});
  client.send("abcd");
  CHECK(take_waiting(connection, client).sizes == std::vector<std::size_t>{4});
  client.send(std::string(400, 'x') + "rest");
  CHECK(take_waiting(connection, client).sizes == std::vector<std::size_t>(100, 4));
  CHECK(take_waiting(connection, client).text == "rest");
}

TEST_CASE("no more chunks are taken than there is room for", "[socket]") {
  auto [connection, client] = test::connected_pair();
  client.send("abcdefghijkl");
  CHECK(take_waiting(connection, client, 1).text == "abcd");
  CHECK(take_waiting(connection, client, 2).text == "efghijkl");
}

TEST_CASE("an end of file behind a full chunk is left to the next receive", "[socket]") {
  auto [connection, client] = test::connected_pair();
  client.send("abcd");
  client.half_close();
  CHECK(take_waiting(connection, client).sizes == std::vector<std::size_t>{4});
  CHECK(take_waiting(connection, client).sizes == std::vector<std::size_t>{0});
}

TEST_CASE("a short one of the chunks taken together leaves no gap", "[socket]") {
  auto [connection, client] = test::connected_pair();
  // Whoever receives gets no further than to urgent data by one call (tcp(7)).
  client.send("abcdefgh12");
  client.send_urgent("!");
  client.send("ijklm");
  const Taken taken = take_waiting(connection, client);
  CHECK(taken.text == "abcdefgh12!ijklm");
  CHECK(taken.sizes == std::vector<std::size_t>{4, 4, 2, 4, 2});
}

TEST_CASE("a send waits until the system has taken everything", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  const std::string data = test::pattern(64 << 20);
  auto sent = std::async(std::launch::async, [&] { return socket.send(bytes(data)); });
  CHECK((client.receive(data.size()) == data));
  CHECK(sent.get() == data.size());
}

TEST_CASE("unacknowledged bytes are counted until the client's system has them", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  CHECK(socket.unacknowledged() == 0);
  int small = 1;
  ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  const std::size_t sent = socket.send(bytes(test::pattern(100'000)));
  CHECK(socket.unacknowledged() > 0);
  client.receive(sent);
  CHECK(test::eventually([&] { return socket.unacknowledged() == 0; }));
}

TEST_CASE("an unreachable host for a moment is no error of bytes that are on their way",
          "[socket]") {
  const echo::UniqueFd icmp(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
  if (!icmp) {
    std::cout << "skipped: no raw socket: " << std::strerror(errno) << std::endl;
    return;
  }
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  const std::string data = test::pattern(500'000);
  socket.send(bytes(data));  // More than the client's system takes.
  REQUIRE(socket.unacknowledged() > 0);
  send_unreachable(icmp, client);
  CHECK(socket.unacknowledged() > 0);
  CHECK(client.receive(data.size()) == data);
}

TEST_CASE("bytes that cannot be delivered any more are an error, also behind an end of file",
          "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  int small = 1;
  ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  socket.send(bytes(test::pattern(100'000)));
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
  echo::Socket& socket = connection;
  client.reset();
  std::array<std::byte, 4> buffer{};
  const auto received = error_of([&] { socket.receive(buffer, buffer.size(), [](auto) {}); });
  CHECK(received.code() == std::errc::connection_reset);
  CHECK(std::string(received.what()) == "receive: Connection reset by peer");
  const auto sent = error_of([&] { socket.send(buffer); });
  CHECK(sent.code() == std::errc::broken_pipe);
  CHECK(std::string(sent.what()) == "send: Broken pipe");
}

TEST_CASE("a call on no socket is an error that names the call", "[socket]") {
  echo::Socket socket(echo::UniqueFd(), "");
  std::array<std::byte, 4> buffer{};
  const auto text_of = [](auto call) -> std::string {
    const auto error = error_of(call);
    CHECK(error.code() == std::errc::bad_file_descriptor);
    return error.what();
  };
  const std::string words = "Bad file descriptor";
  CHECK(text_of([&] { socket.receive(buffer, buffer.size(), [](auto) {}); }) ==
        "receive: " + words);
  CHECK(text_of([&] { socket.send(buffer); }) == "send: " + words);
  CHECK(text_of([&] { socket.set_idle_timeout({}); }) == "set SO_RCVTIMEO: " + words);
  CHECK(socket.info().tcpi_rtt == 0);
}

TEST_CASE("the idle timeout ends a receive and a send that wait", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  socket.set_idle_timeout(std::chrono::milliseconds(50));
  std::array<std::byte, 4> buffer{};
  CHECK(error_of([&] { socket.receive(buffer, 4, [](auto) {}); }).code() ==
        std::errc::operation_would_block);
  const std::string data = test::pattern(64 << 20);
  CHECK(error_of([&] {
          for (;;)  // The first send may have taken a part.
            socket.send(bytes(data));
        }).code() == std::errc::timed_out);
}

TEST_CASE("shutting down another thread's socket wakes it", "[socket]") {
  auto [connection, client] = test::connected_pair();
  echo::Socket& socket = connection;
  std::array<std::byte, 4> buffer{};
  Sleeper sleeper;
  auto received = std::async(std::launch::async, [&] {
    sleeper.here();
    return socket.receive(buffer, buffer.size(), [](auto) {});
  });
  REQUIRE(sleeper.sleeps());
  socket.shutdown(SHUT_RD);
  REQUIRE(received.wait_for(test::deadline) == std::future_status::ready);
  CHECK(received.get() == 0);
}

TEST_CASE("what TCP knows of the way is there for a live connection", "[socket]") {
  auto [connection, client] = test::connected_pair();
  const echo::Socket& socket = connection;
  CHECK(socket.info().tcpi_rtt > 0);
  CHECK(socket.info().tcpi_total_retrans == 0);
  CHECK(socket.info().tcpi_snd_mss > 500);
}

TEST_CASE("a listener on port 0 tells the port it got, and hands over clients", "[socket]") {
  echo::Listener listener = listen_on("127.0.0.1");
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
  echo::Listener listener = listen_on("127.0.0.1");
  const Client client(port_of(listener.local_endpoint()));
  const int next = ::dup(STDIN_FILENO);  // accept takes the lowest number that is free.
  ::close(next);
  const auto connection = listener.accept();
  for (const auto& [level, option] : {std::pair<int, int>(IPPROTO_TCP, TCP_NODELAY),
                                      std::pair<int, int>(SOL_SOCKET, SO_OOBINLINE),
                                      std::pair<int, int>(SOL_SOCKET, SO_KEEPALIVE)}) {
    int is_set = 0;
    socklen_t size = sizeof(is_set);
    REQUIRE(::getsockopt(next, level, option, &is_set, &size) == 0);
    CHECK(is_set == 1);
  }
}

TEST_CASE("a listener on :: serves IPv4 clients and knows them as such", "[socket]") {
  echo::Listener listener = listen_on("::");
  const Client four(port_of(listener.local_endpoint()), "127.0.0.1");
  CHECK(listener.accept()->peer() == four.address());
  const Client six(port_of(listener.local_endpoint()), "::1");
  CHECK(listener.accept()->peer() == six.address());
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
