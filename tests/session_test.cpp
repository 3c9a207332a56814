#include "echo/session.hpp"

#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <future>
#include <iostream>
#include <memory>

#include "catch.hpp"
#include "client.hpp"
#include "program.hpp"

namespace {

using std::chrono::milliseconds;

/// Calls a function at each line of the log.
class OnLine : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit OnLine(std::function<void()> call) : call_(std::move(call)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& /*message*/) override { call_(); }
  void flush_() override {}

 private:
  const std::function<void()> call_;
};

/// A session that runs in a thread of its own, and its client.
class Running {
 public:
  explicit Running(const echo::SessionLimits& limits) : Running(test::connected_pair(), limits) {}
  explicit Running(std::size_t chunk_size, milliseconds idle_timeout = milliseconds(0))
      : Running(echo::SessionLimits{chunk_size, idle_timeout}) {}

  ~Running() {
    client.close();
    cut.request_stop();
  }

  bool ends() { return end_.wait_for(test::deadline) == std::future_status::ready; }
  bool ends_well() { return ends() && end_.get(); }

  test::Client client;
  std::stop_source finish;
  std::stop_source cut;
  std::atomic<std::uint64_t> echoed = 0;

 private:
  Running(test::Pair pair, const echo::SessionLimits& limits) : client(std::move(pair.client)) {
    end_ = std::async(std::launch::async, [this, limits,
                                           socket = std::move(pair.server)]() mutable {
      return echo::Session(std::move(socket), limits, finish.get_token(), cut.get_token(), echoed)
          .run();
    });
  }

  std::future<bool> end_;
};

}  // namespace

TEST_CASE("every byte comes back in order, whatever the chunk size", "[session]") {
  for (const std::size_t chunk_size :
       {1UL, 3UL, 16UL, 4096UL, 65'535UL, 65'536UL, 65'537UL, 1UL << 20}) {
    CAPTURE(chunk_size);
    Running running(chunk_size);
    const std::string data = test::pattern(300'000);
    CHECK(running.client.exchange(data) == data);
    running.client.half_close();
    CHECK(running.client.receive_all().empty());
    REQUIRE(running.ends());
    CHECK(running.echoed == data.size());
  }
}

TEST_CASE("messages about as long as the chunk come back without more input", "[session]") {
  for (const std::size_t chunk_size : {1UL, 16UL, 4096UL}) {
    Running running(chunk_size);
    for (const std::size_t chunks : {1UL, 2UL, 3UL})
      for (const int difference : {-1, 0, 1}) {
        const auto size = chunks * chunk_size + static_cast<std::size_t>(difference);
        const std::string message = test::pattern(size);
        CHECK(running.client.exchange(message) == message);
      }
  }
}

TEST_CASE("no reply waits for an acknowledgement", "[session]") {
  // With a stall of 40 ms each, these would take twice the deadline of a test.
  Running running(16);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i)
    REQUIRE(running.client.exchange(std::string(100, 'x')).size() == 100);
  CHECK(std::chrono::steady_clock::now() - start < test::deadline);
}

TEST_CASE("all byte values, zero and cut UTF-8 among them, come back unchanged", "[session]") {
  std::string data;
  for (int value = 0; value < 256; ++value)
    data += static_cast<char>(value);
  data += "\xc3";
  Running running(16);
  CHECK(running.client.exchange(data) == data);
}

TEST_CASE("bytes sent one at a time come back one at a time", "[session]") {
  Running running(16);
  for (const char byte : test::pattern(200))
    REQUIRE(running.client.exchange(std::string(1, byte)) == std::string(1, byte));
}

TEST_CASE("a client that half-closes gets all of its bytes and the end of file", "[session]") {
  Running running(16);
  const std::string data = test::pattern(60'000);
  running.client.send(data);
  running.client.half_close();
  CHECK((running.client.receive_all() == data));
  CHECK(running.ends_well());
}

TEST_CASE("a session without bytes ends at the end of file", "[session]") {
  Running running(16);
  running.client.half_close();
  REQUIRE(running.ends());
  CHECK(running.echoed == 0);
}

TEST_CASE("a client that never reads blocks its session and gets everything when it reads",
          "[session]") {
  Running running(4096);
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = running.client.send_until_blocked(data);
  running.client.half_close();
  CHECK((running.client.receive_all() == data.substr(0, sent)));
  CHECK(running.ends());
}

TEST_CASE("urgent data comes back in its place", "[session]") {
  for (const std::size_t chunk_size : {1UL, 4UL, 16UL, 4096UL}) {
    CAPTURE(chunk_size);
    Running running(chunk_size);
    running.client.send("before ");
    running.client.send_urgent("urgent");
    running.client.send(" behind");
    running.client.half_close();
    CHECK(running.client.receive_all() == "before urgent behind");
  }
}

TEST_CASE("a reset ends the session", "[session]") {
  Running running(16);
  REQUIRE(running.client.exchange("hello") == "hello");
  running.client.reset();
  CHECK_FALSE(running.ends_well());
}

TEST_CASE("a session whose idle timeout cannot be set fails", "[session]") {
  // A Unix socket knows nothing of TCP_USER_TIMEOUT.
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const echo::UniqueFd client(ends[0]);
  std::atomic<std::uint64_t> echoed = 0;
  CHECK_FALSE(
      echo::Session({echo::UniqueFd(ends[1]), "a client"}, {16, milliseconds(1000)}, {}, {}, echoed)
          .run());
}

TEST_CASE("a session for which there is no memory fails", "[session]") {
  if (test::sanitized) {
    std::cout << "skipped: a sanitizer ends the process instead" << std::endl;
    return;
  }
  Running running(std::size_t{1} << 60);
  CHECK_FALSE(running.ends_well());
}

TEST_CASE("an idle session is closed after the timeout, with nothing added", "[session]") {
  Running running(16, milliseconds(1000));
  REQUIRE(running.client.exchange("hello") == "hello");
  CHECK(running.client.receive_all().empty());
  CHECK_FALSE(running.ends_well());
}

TEST_CASE("a session whose client stopped reading is closed after the timeout", "[session]") {
  Running running(4096, milliseconds(50));
  running.client.send_until_blocked(test::pattern(64 << 20));
  CHECK_FALSE(running.ends_well());
}

TEST_CASE("a session that is told to finish echoes what had arrived and ends", "[session]") {
  Running running(16);
  const std::string data = test::pattern(10'000);
  running.client.send(data);
  running.finish.request_stop();
  CHECK((running.client.receive_all() == data));
  CHECK(running.ends());
}

TEST_CASE("a session that finishes waits until its client has everything", "[session]") {
  Running running(4096);
  const std::string data = test::pattern(64 << 20);
  const std::size_t sent = running.client.send_until_blocked(data);
  running.finish.request_stop();
  CHECK((running.client.receive_all() == data.substr(0, sent)));
  CHECK(running.ends());
}

TEST_CASE("a session that finishes still takes what a client sends before it reads", "[session]") {
  Running running(4096);
  const std::string data = test::pattern(1'200'000);
  for (std::size_t sent = 0; sent < data.size(); sent += 100'000) {
    running.client.send(data.substr(sent, 100'000));
    REQUIRE(running.client.is_acknowledged());
    // By now more is on its way back than the client's system holds.
    if (sent == 300'000)
      running.finish.request_stop();
  }
  running.client.send("!");  // A single byte, too.
  REQUIRE(test::eventually([&] { return running.echoed == data.size() + 1; }));
  CHECK((running.client.receive(data.size() + 1) == data + '!'));
  CHECK(running.client.receive_all().empty());
  CHECK(running.ends_well());
}

TEST_CASE("a stop costs a client none of its bytes, though it goes on sending", "[session]") {
  Running running({.chunk_size = 4096, .idle_timeout = {}, .close_after = 1 << 18});
  const std::string data = test::pattern(300'000);
  running.client.send(data);
  REQUIRE(test::eventually([&] { return running.echoed == 1 << 18; }));
  running.finish.request_stop();
  for (int i = 0; i < 50; ++i) {
    REQUIRE_NOTHROW(running.client.send("more"));
    REQUIRE(running.client.is_acknowledged());
  }
  CHECK((running.client.receive_all() == data.substr(0, 1 << 18)));
  CHECK(running.ends_well());
}

TEST_CASE("a client that sends while the stop closes gets the end of file, and no reset",
          "[session]") {
  const auto logger = spdlog::default_logger();
  {
    Running running(16);
    std::atomic<int> seen_before_the_end = -1;
    // The session logs its end between its last look at what has arrived and the close.
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("", std::make_shared<OnLine>([&] {
                                           pollfd end{running.client.fd(), POLLRDHUP, 0};
                                           seen_before_the_end = ::poll(&end, 1, 0);
                                           running.client.send("x");
                                         })));
    running.finish.request_stop();
    CHECK(running.ends_well());
    CHECK(seen_before_the_end == 0);  // The server counts a session out before its client sees it.
    CHECK_NOTHROW(running.client.receive_all());
  }
  spdlog::set_default_logger(logger);
}

TEST_CASE("a session that is cut ends at once, also while it sends", "[session]") {
  Running idle(16);
  idle.cut.request_stop();
  CHECK(idle.ends_well());

  Running sending(4096);
  sending.client.send_until_blocked(test::pattern(64 << 20));
  sending.cut.request_stop();
  CHECK(sending.ends_well());

  Running finishing(4096);
  finishing.client.send_until_blocked(test::pattern(64 << 20));
  finishing.finish.request_stop();
  finishing.cut.request_stop();
  CHECK(finishing.ends_well());
}
