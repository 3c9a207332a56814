// The options that test a client: a greeting, a delay, limits, and to whom they apply.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "client.hpp"
#include "echo/endpoint.hpp"
#include "echo/system_call.hpp"
#include "echo/unique_fd.hpp"
#include "matchers.hpp"
#include "server.hpp"

namespace test {

using namespace std::chrono_literals;

namespace {

/// The line of the log about the end that an option brought.
std::string end_by(const std::string& option, const Client& client, std::size_t bytes) {
  const std::string what = option == "--close-after"   ? "closed"
                           : option == "--reset-after" ? "reset"
                                                       : "stalled";
  return " info connection from " + client.address() + ' ' + what + " by " + option + " (" +
         std::to_string(bytes) + (bytes == 1 ? " byte in " : " bytes in ");
}

}  // namespace

TEST_CASE("delay sends each chunk separately and never too early", "[misbehave]") {
  const auto& [size, delay] =
      GENERATE(table<std::size_t, std::chrono::milliseconds>({{7, 100ms}, {1, 1ms}}));
  Server server({"-v", "--chunk-size", std::to_string(size), "--delay",
                 std::to_string(delay.count()) + "ms"});
  Client client(server.port());
  const std::string data = "replies in pieces...";
  const auto start = Clock::now();
  client.send(data);
  std::string received;
  while (received.size() < data.size()) {
    received += client.receive_some();
    const auto chunks = (received.size() + size - 1) / size;
    CHECK(Clock::now() - start >= chunks * delay);
  }
  CHECK(received == data);
  server.wait_for_log(
      "sending data back to " + client.address() + ": " + std::to_string(size) + " byte",
      data.size() / size);
}

TEST_CASE("delay ends on shutdown and what has arrived is sent back if time allows",
          "[misbehave]") {
  const bool has_time = GENERATE(true, false);
  Server server({"--delay", "1h", "--chunk-size", "7", "--drain-timeout", has_time ? "1h" : "0"});
  Client client(server.port());
  const std::string data = pattern(1000);
  client.send(data);
  server.wait_for_clients();
  server.signal(SIGUSR1);
  server.wait_for_log("1 connection open, 1 connection served, 0 bytes echoed");
  CHECK(server.stop() == 0);
  const Received received = client.receive_until_end();
  CHECK((received.by_reset() || same_bytes(received.data, data)));
  CHECK(received.by_reset() == !has_time);
  CHECK_THAT(server.log(),
             contains(has_time ? " closed by shutdown (1000 bytes" : " reset by shutdown ("));
}

TEST_CASE("delay does not count as idle time", "[misbehave]") {
  Server server({"--delay", "600ms", "--idle-timeout", "300ms"});
  Client client = served_client(server.port());
  CHECK(client.receive_all().empty());
  server.wait_for_log("timed out (5 bytes");
}

TEST_CASE("byte limits let exactly SIZE bytes come back", "[misbehave]") {
  const std::string option = GENERATE("--close-after", "--reset-after", "--stall-after");
  const auto& [after, bytes, chunk] =
      GENERATE(table<std::string, std::size_t, std::string>({{"0", 0, "16"},
                                                             {"1", 1, "16"},
                                                             {"100", 100, "7"},
                                                             {"100", 100, "64k"},
                                                             {"50k", 50 << 10, "4k"}}));
  CAPTURE(option, after, chunk);
  const std::string data = pattern(60'000);
  Server server({option, after, "--chunk-size", chunk});
  Client client(server.port());
  if (option == "--close-after" && bytes == 0)
    CHECK(client.receive_all().empty());  // Before the client has sent anything.
  client.send(data);
  if (option == "--stall-after") {
    CHECK((bytes == 0 || same_bytes(client.receive(bytes), data.substr(0, bytes))));
  } else if (bytes > 0 || option == "--reset-after") {
    const Received received = client.receive_until_end();
    CHECK(same_bytes(received.data, data.substr(0, bytes)));
    CHECK(received.by_reset() == (option == "--reset-after"));
  }
  if (option != "--reset-after") {
    // What it sends from then on is received and not answered. It may be more than the kernels
    // hold.
    client.send(chunk == "4k" ? more_than_fits() : data);
    CHECK(client.is_acknowledged());
    CHECK((option == "--close-after" || client.is_unanswered()));
    CHECK(client.finish().empty());
  }
  server.wait_for_log(end_by(option, client, bytes));
  CHECK(server.stop() == 0);
  CHECK_THAT(server.log(), !contains("failed"));
}

TEST_CASE("byte limits lose no byte when a client keeps sending or reads late", "[misbehave]") {
  const std::string option = GENERATE("--close-after", "--reset-after");
  CAPTURE(option);
  Server server({option, "1M", "--chunk-size", "4k"});
  const std::string data = pattern(20 << 20);
  Client busy(server.port());
  // Until it is reset, it goes on sending for as long as it can, or for some gigabytes.
  auto sent = std::async(std::launch::async, [&] {
    Sent last = busy.try_to_send(data);
    for (int i = 0; i < 200 && !last.error && option == "--reset-after"; ++i)
      last = busy.try_to_send(data);
    return last;
  });
  CHECK(same_bytes(busy.receive_until_end().data, data.substr(0, 1 << 20)));
  CHECK((sent.get().error ? "--reset-after" : "--close-after") == option);
  busy.close();

  Client late(server.port());
  late.use_small_buffer(65'536);
  late.send(data);
  CHECK(same_bytes(late.receive_until_end().data, data.substr(0, 1 << 20)));
}

TEST_CASE("byte limits that a client does not reach change nothing", "[misbehave]") {
  const std::string option = GENERATE("--close-after", "--reset-after", "--stall-after");
  Server server({option, "100"});
  Client client(server.port());
  client.send("hello");
  CHECK(client.finish() == "hello");
  server.wait_for_log("no more data from " + client.address() + " (5 bytes");
}

TEST_CASE("byte limits that were reached remain the cause of the end whatever follows",
          "[misbehave]") {
  const std::string option = GENERATE("--close-after", "--reset-after", "--stall-after");
  CAPTURE(option);
  Server idling({option, "5", "--idle-timeout", "200ms", "--exit-after", "1"});
  Client client(idling.port());
  client.send("hello");
  CHECK(idling.wait() == 0);
  CHECK_THAT(idling.log(), contains(end_by(option, client, 5)));

  Server stopped({option, "5", "--drain-timeout", "1h"});
  Client other = served_client(stopped.port());
  CHECK(stopped.stop() == 0);
  CHECK_THAT(stopped.log(), contains(end_by(option, other, 5)));
}

TEST_CASE("reset-after 0 waits for a byte or a half-close and also for the delay", "[misbehave]") {
  const bool sends = GENERATE(true, false);
  const auto delay = sends ? 300ms : 0ms;
  Server server(
      {"--reset-after", "0", "--only-first", "1", "--delay", std::to_string(delay.count()) + "ms"});
  Client client(server.port());
  server.wait_for_clients();
  serve_one(server.port());
  CHECK(client.is_unanswered());
  const auto start = Clock::now();
  if (sends)
    client.send("x");
  else
    client.half_close();
  CHECK(client.receive_until_end().by_reset());
  CHECK(Clock::now() - start >= delay);
  server.wait_for_log(end_by("--reset-after", client, 0));
}

TEST_CASE("only-first applies faults to the first clients and does not delay others",
          "[misbehave]") {
  const auto& [option, value] = GENERATE(table<std::string, std::string>(
      {{"--delay", "1h"}, {"--close-after", "0"}, {"--reset-after", "0"}, {"--stall-after", "0"}}));
  CAPTURE(option);
  Server server({option, value, "--only-first", "4"});
  std::vector<Client> clients = queued_clients(server, 8);
  server.signal(SIGCONT);
  for (std::size_t i = 4; i < clients.size(); ++i)
    CHECK(clients[i].receive(5) == "hello");
  for (int i = 0; i < 10; ++i)
    serve_one(server.port());
  CHECK(server.is_at_rest());
  for (std::size_t i = 0; i < 4; ++i)
    if (option == "--delay" || option == "--stall-after")
      CHECK(clients[i].is_unanswered());
    else
      CHECK(clients[i].receive_until_end().data.empty());
}

TEST_CASE("greeting gives both addresses before anything is echoed", "[misbehave]") {
  Server server({"-v", "--host", "::", "--delay", "1h", "--exit-after", "2", "--greeting",
                 "{client} at {server} {client}{other} {} {{Client} \\n {\033"});
  for (const std::string host : {"127.0.0.1", "::1"}) {
    Client client(server.port(), host);
    const std::string reached =
        (host == "::1" ? "[::1]:" : "127.0.0.1:") + std::to_string(server.port());
    const std::string text = client.address() + " at " + reached + ' ' + client.address();
    const std::string greeting = text + "{other} {} {{Client} \\n {\033\n";
    CHECK(client.receive(greeting.size()) == greeting);
    server.wait_for_log(text + "{other} {} {{Client} \\\\n {\\x1b");  // Escaped.
    CHECK(client.finish().empty());
    CHECK_THAT(server.log(), contains("connection accepted from " + client.address() + " ("));
  }
  CHECK(server.wait() == 0);
  CHECK_THAT(server.log(), contains("stopped: 2 connections served, 0 bytes echoed"));
  const Server none({"--greeting", ""});
  CHECK(Client(none.port()).exchange("hello") == "hello");
}

TEST_CASE("greeting does not count towards a byte limit and is delivered first", "[misbehave]") {
  const std::string option = GENERATE("--close-after", "--reset-after", "--stall-after");
  CAPTURE(option);
  Server server({option, "3", "--greeting", "welcome"});
  Client client(server.port());
  client.send("hello");
  CHECK(client.receive(11) == "welcome\nhel");
  if (option != "--reset-after")
    client.half_close();
  CHECK(client.receive_until_end().data.empty());
  server.wait_for_log(end_by(option, client, 3));

  Server strict({option, "0", "--greeting", std::string(100'000, 'x'), "--exit-after", "1",
                 "--idle-timeout", "300ms"});
  const Client deaf(strict.port(), "127.0.0.1", 1);
  CHECK(strict.wait() == 3);
  CHECK_THAT(strict.log(), contains("1 connection served, 1 timed out, 0 bytes"));
}

TEST_CASE("connect gets no answer if max-connections is 0", "[misbehave]") {
  const std::string host = GENERATE("127.0.0.1", "0.0.0.0", "::1", "::");
  CAPTURE(host);
  Server server({"--max-connections", "0", "--host", host});
  server.wait_for_log("--max-connections 0");
  echo::Endpoint endpoint = echo::resolve(host, server.port()).front();
  const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const echo::UniqueFd fd(::socket(endpoint.storage.ss_family, type, 0));
  ::connect(fd.get(), endpoint.address(), endpoint.length);
  tcp_info tcp{};
  // The client's kernel sends its SYN again, since nobody answers.
  CHECK(eventually([&] {
    socklen_t length = sizeof(tcp);
    echo::checked(::getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &tcp, &length), "getsockopt");
    return tcp.tcpi_total_retrans > 0 || tcp.tcpi_state != TCP_SYN_SENT;
  }));
  CHECK(tcp.tcpi_state == TCP_SYN_SENT);
  CHECK(server.is_at_rest());
  CHECK(server.stop() == 0);
  CHECK(is_free(server.port()));
  CHECK_THAT(server.log(), contains("stopped: 0 connections served") && !contains(" warn ") &&
                               !contains("connection accepted"));
}

}  // namespace test
