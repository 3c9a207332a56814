#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "client.hpp"
#include "echo/endpoint.hpp"
#include "echo/socket.hpp"
#include "program.hpp"

namespace {

using namespace std::chrono_literals;
using test::Client;
using test::on_loopback;
using test::Program;

bool is_free(std::uint16_t port) {
  return test::eventually([port] {
    try {
      const echo::Listener listener(echo::resolve("127.0.0.1", port).front());
      return true;
    } catch (const std::system_error&) {
      return false;
    }
  });
}

/// Sends a stop, sees the port free, and then either the end with status 0 or, after a second
/// signal, the end by that signal.
void stop(Program& program, std::uint16_t port, int first, bool again) {
  program.signal(first);
  if (again) {
    CHECK(program.log().wait_for("a second Ctrl+C ends it now"));
    CHECK(is_free(port));
    program.signal(SIGINT);
    CHECK(program.wait() == -SIGINT);
  } else {
    CHECK(is_free(port));
    CHECK(program.wait() == 0);
    CHECK(program.log().wait_for("] stopped: "));
  }
}

}  // namespace

TEST_CASE("a client in the middle of its data gets back every byte that had arrived", "[program]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    Program program(on_loopback({"-c", "64k"}));
    Client client(program.port());
    const std::string data = test::pattern(50 << 20);
    auto sender = std::async(std::launch::async, [&] {
      try {
        client.send(data);
      } catch (const std::system_error&) {
        // The server is allowed to end before all is sent.
      }
    });
    std::string received = client.receive(5 << 20);
    program.signal(signal);
    try {
      for (std::string part = client.receive_some(); !part.empty(); part = client.receive_some())
        received += part;
    } catch (const std::system_error&) {
      // Bytes that came after the end were answered with a reset.
    }
    sender.get();
    CHECK(program.wait() == 0);
    CHECK((received == data.substr(0, received.size())));
    CHECK(program.log().text().find("(" + std::to_string(received.size()) + " bytes echoed in") !=
          std::string::npos);
  }
}

TEST_CASE("data that waits for a slow client is delivered before the end", "[program]") {
  Program program(on_loopback({"-c", "4k", "--drain-timeout", "1h"}));
  Client slow(program.port());
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = slow.send_until_blocked(data);
  program.signal(SIGTERM);
  REQUIRE(program.log().wait_for("stopping on SIGTERM: 1 connection open, "));
  CHECK(is_free(program.port()));
  CHECK((slow.receive_all() == data.substr(0, sent)));
  CHECK(program.wait() == 0);
}

TEST_CASE("what a client's system sends with its last acknowledgement is echoed, too",
          "[program]") {
  if (test::skip_without_strace())
    return;
  // The look at what is not acknowledged yet lasts long enough for the client to take all of it and
  // to send what the closed window held back.
  Program program(test::with_faults("ioctl:delay_enter=10000", {"-c", "4k"}));
  Client slow(program.port());
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = slow.send_until_blocked(data);
  program.signal(SIGTERM);
  CHECK((slow.receive_all() == data.substr(0, sent)));
  CHECK(program.wait() == 0);
}

TEST_CASE("a drain that waits for clients costs no processor time", "[program]") {
  Program program(on_loopback({"-c", "4k", "--drain-timeout", "1h"}));
  const std::string data = test::pattern(300'000);
  std::vector<Client> deaf;
  for (int i = 0; i < 100; ++i) {
    Client& client = deaf.emplace_back(program.port());
    const int small = 1;
    ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    client.send(data);
  }
  REQUIRE(program.log().wait_for("(100 open)"));
  program.signal(SIGTERM);
  REQUIRE(program.log().wait_for("stopping on SIGTERM: 100 connections open"));
  const auto before = program.processor_time();
  std::this_thread::sleep_for(1s);  // The time over which it is measured.
  CHECK(program.processor_time() - before < 200ms);
  deaf.clear();
  CHECK(program.wait() == 0);
}

TEST_CASE("a client that is gone does not hold up the stop, which SIGUSR1 can watch", "[program]") {
  Program program(on_loopback({"--drain-timeout", "1h"}));
  Client client(program.port());
  const std::string address = client.address();
  client.send_until_blocked(test::pattern(64 << 20));
  program.signal(SIGTERM);
  REQUIRE(program.log().wait_for("stopping on SIGTERM"));
  program.signal(SIGUSR1);
  CHECK(program.log().wait_for("] 1 connection open, 1 connection served, "));
  client.half_close();
  client.close();
  CHECK(program.wait() == 0);
  // By the reset or behind it, as the system saw it first.
  CHECK(program.log().text().find("connection from " + address + " failed, ") != std::string::npos);
}

TEST_CASE("a client that never reads is cut when the drain is over, with status 0", "[program]") {
  for (const std::string drain : {"0", "200ms"}) {
    Program program(on_loopback({"-c", "4k", "--drain-timeout", drain}));
    Client deaf(program.port());
    deaf.send_until_blocked(test::pattern(64 << 20));
    const auto start = std::chrono::steady_clock::now();
    program.signal(SIGINT);
    CHECK(program.wait() == 0);
    if (drain != "0")
      CHECK(std::chrono::steady_clock::now() - start >= 200ms);
    CHECK(program.log().text().find("connection from " + deaf.address() + " closed by the stop") !=
          std::string::npos);
  }
}

TEST_CASE("a client that never stops sending is cut when the drain is over", "[program]") {
  Program program(on_loopback({"-c", "4k", "--drain-timeout", "300ms"}));
  Client client(program.port());
  std::atomic<bool> ended = false;
  auto sender = std::async(std::launch::async, [&] {
    const std::string data = test::pattern(1 << 20);
    try {
      while (!ended)
        client.send(data);
    } catch (const std::system_error&) {
    }
  });
  client.receive(1 << 20);
  program.signal(SIGINT);
  auto reader = std::async(std::launch::async, [&] {
    try {
      while (!client.receive(65'536).empty()) {
      }
    } catch (const std::system_error&) {
    }
  });
  CHECK(program.wait() == 0);
  ended = true;
  sender.get();
  reader.get();
}

TEST_CASE("one signal stops the server in every state, and two at once", "[program]") {
  for (const int first : {SIGINT, SIGTERM})
    for (const bool again : {false, true}) {
      CAPTURE(first, again);
      const std::string data = test::pattern(64 << 20);
      // A client that does not read holds the drain, so that there is time for a second signal.
      const auto hold = [&](std::uint16_t port) {
        auto client = std::make_unique<Client>(port);
        if (again)
          client->send_until_blocked(data);
        return client;
      };
      {
        INFO("with idle clients, or none");
        Program program(on_loopback({"-c", "4k", "--drain-timeout", "1h"}));
        const auto held = hold(program.port());
        stop(program, program.port(), first, again);
      }
      {
        INFO("at the limit, with clients in the queue");
        Program program(
            on_loopback({"-c", "4k", "--drain-timeout", "1h", "--max-connections", "1"}));
        const auto held = hold(program.port());
        REQUIRE(program.log().wait_for("connection limit of 1 reached"));
        const Client queued(program.port());
        stop(program, program.port(), first, again);
      }
      {
        INFO("while accept fails for lack of descriptors");
        Program program(on_loopback({"-c", "4k", "--drain-timeout", "1h"}));
        const auto held = hold(program.port());
        const rlimit limit{program.open_descriptors(), program.open_descriptors()};
        REQUIRE(::prlimit(program.server_pid(), RLIMIT_NOFILE, &limit, nullptr) == 0);
        std::vector<Client> more;
        for (int i = 0; i < 12; ++i)
          more.emplace_back(program.port());
        REQUIRE(program.log().wait_for("cannot accept"));
        stop(program, program.port(), first, again);
      }
      {
        INFO("while stderr is stuck");
        const test::Pipe pipe = test::open_pipe();
        test::Setup setup = on_loopback({"-v", "--drain-timeout", "1h"});
        setup.stderr_fd = pipe.write_end.get();
        Program program(setup);
        const std::uint16_t port = program.port();
        Client flood(port);
        REQUIRE((flood.exchange(data.substr(0, 1 << 20)) == data.substr(0, 1 << 20)));
        const auto held = hold(port);
        program.signal(first);
        CHECK(is_free(port));
        if (again)
          program.signal(SIGINT);
        CHECK(program.wait() == (again ? -SIGINT : 0));
      }
    }
}

TEST_CASE("a signal during the start ends the program at once with status 0", "[program]") {
  if (test::skip_without_strace())
    return;
  for (const char* call : {"bind", "listen"})
    for (const int signal : {SIGINT, SIGTERM}) {
      test::Setup setup =
          test::with_faults(std::string(call) + ":delay_exit=1000000", {"--log-level", "debug"});
      setup.prefix.insert(setup.prefix.begin(), {"env", "--block-signal=INT,TERM"});
      Program program(setup);
      REQUIRE(program.log().wait_for("starting up"));
      program.signal(signal);
      CHECK(program.wait() == 0);
      CHECK(program.out().text().empty());
    }
}

TEST_CASE("a flood of SIGUSR1 under load loses nothing", "[program]") {
  Program program(on_loopback());
  Client client(program.port());
  const std::string data = test::pattern(1 << 20);
  auto echoed = std::async(std::launch::async, [&] {
    for (int i = 0; i < 3; ++i)
      if (client.exchange(data) != data)
        return false;
    return true;
  });
  while (echoed.wait_for(0s) != std::future_status::ready)
    program.signal(SIGUSR1);
  CHECK(echoed.get());
  program.signal(SIGTERM);
  CHECK(program.wait() == 0);
}
