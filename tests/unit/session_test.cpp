#include "echo/session.hpp"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client.hpp"
#include "echo/options.hpp"
#include "matchers.hpp"

namespace test {

using namespace std::chrono_literals;
using End = echo::Session::End;

namespace {

/// Calls a function at each line of the log, while it lives.
class LineWatch : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LineWatch(std::function<void()> on_line) : on_line_(std::move(on_line)) {
    sinks_.push_back({std::shared_ptr<void>(), this});  // The logger does not own it.
  }
  ~LineWatch() override { sinks_.pop_back(); }

 private:
  void sink_it_(const spdlog::details::log_msg&) override { on_line_(); }
  void flush_() override {}

  const std::function<void()> on_line_;
  std::vector<spdlog::sink_ptr>& sinks_ = spdlog::default_logger()->sinks();
};

/// A session that runs in a thread of its own, and its client.
class RunningSession {
 public:
  explicit RunningSession(const echo::Options& options = {})
      : RunningSession(connected_pair(), options) {}

  ~RunningSession() {
    client.close();
    abort();
  }

  void abort() {
    stop.request_stop();
    abort_.request_stop();
  }
  bool has_ended_within(std::chrono::milliseconds time) const {
    return end_.wait_for(time) == std::future_status::ready;
  }
  /// Waits for the end and returns it.
  End end() {
    REQUIRE(has_ended_within(deadline));
    return end_.get();
  }

  Client client;
  std::stop_source stop;
  std::atomic<std::uint64_t> echoed = 0;

 private:
  RunningSession(Pair pair, const echo::Options& options)
      : client(std::move(pair.client)), options_(options) {
    end_ = std::async(std::launch::async, [this, socket = std::move(pair.server)]() mutable {
      echo::Session session(std::move(socket), options_, stop.get_token(), abort_.get_token(),
                            echoed);
      const End end = session.run();
      session.close(end);
      return end;
    });
  }

  const echo::Options options_;
  std::stop_source abort_;
  std::future<End> end_;
};

}  // namespace

TEST_CASE("urgent data comes back in its original position", "[session]") {
  const std::size_t chunk_size = GENERATE(1U, 16U);
  RunningSession running({.chunk_size = chunk_size});
  running.client.send("before ");
  REQUIRE(::send(running.client.fd(), "urgent", 6, MSG_OOB) == 6);  // RFC 6093.
  running.client.send(" behind");
  running.client.half_close();
  CHECK(running.client.receive_all() == "before urgent behind");
  CHECK(running.end() == End::no_more_data);
}

TEST_CASE("session on shutdown still receives what its client sends before reading", "[session]") {
  RunningSession running({.chunk_size = 4096});
  const std::string data = pattern(1'200'000);
  for (std::size_t sent = 0; sent < data.size(); sent += 100'000) {
    running.client.send(data.substr(sent, 100'000));
    REQUIRE(running.client.is_acknowledged());
    // By now, more is on its way back than the client's kernel holds.
    if (sent == 300'000)
      running.stop.request_stop();
  }
  running.client.send("!");  // A single byte comes back, too.
  REQUIRE(eventually([&] { return running.echoed == data.size() + 1; }));
  CHECK(same_bytes(running.client.receive_all(), data + '!'));
  CHECK(running.end() == End::stopped);
}

TEST_CASE("session on shutdown waits until its client has been quiet for 100 ms", "[session]") {
  RunningSession running;
  const auto before_the_last_byte = Clock::now();
  REQUIRE(running.client.exchange("x") == "x");
  running.stop.request_stop();
  CHECK(running.end() == End::stopped);
  // The kernel counts in steps of up to 10 ms.
  CHECK(Clock::now() - before_the_last_byte >= 90ms);
  CHECK(running.client.receive_all().empty());
}

TEST_CASE("client that sends between a session's end and its close sees end-of-file", "[session]") {
  std::atomic<bool> had_ended = true;
  std::atomic<RunningSession*> session = nullptr;
  // The session logs its end between its last look at what has arrived and the close.
  LineWatch watch([&] {
    had_ended = !session.load()->client.is_unanswered();
    session.load()->client.send("x");
  });
  RunningSession running;
  session = &running;
  running.stop.request_stop();
  CHECK(running.end() == End::stopped);
  CHECK_FALSE(had_ended);  // A session is counted out before its client sees the end.
  CHECK_FALSE(running.client.receive_until_end().error);
}

TEST_CASE("drain timeout between the end of a session and its close changes nothing", "[session]") {
  std::atomic<RunningSession*> session = nullptr;
  LineWatch watch([&] { session.load()->abort(); });
  RunningSession running;
  session = &running;
  running.client.half_close();
  CHECK(running.end() == End::no_more_data);
  CHECK_FALSE(running.client.receive_until_end().error);
}

TEST_CASE("reset before the first byte is a normal end and a later one is a failure", "[session]") {
  const auto& [greeting, sent, end] = GENERATE(table<const char*, const char*, End>(
      {{"", "", End::no_more_data}, {"hi", "", End::no_more_data}, {"", "x", End::failed}}));
  RunningSession running({.greeting = greeting});
  const std::string_view text = sent;
  running.client.send(text);
  if (*greeting != '\0')  // A client that refuses the greeting has failed.
    REQUIRE(running.client.receive(3) == "hi\n");
  CHECK(eventually([&] { return running.echoed == text.size(); }));
  running.client.reset();
  CHECK(running.end() == end);
}

TEST_CASE("byte limit is reached when the client has acknowledged every byte", "[session]") {
  const std::string data = pattern(1 << 18);
  echo::Options options{.chunk_size = 65'536, .idle_timeout = GENERATE(0ms, 100ms)};
  const int limit = GENERATE(0, 1, 2);
  std::uint64_t* const limits[] = {&options.close_after, &options.reset_after,
                                   &options.stall_after};
  *limits[limit] = data.size();
  RunningSession running(options);
  running.client.use_small_buffer(65'536);
  running.client.send(data);
  REQUIRE(eventually([&] { return running.echoed == data.size(); }));
  SECTION("and not if it resets or times out before") {
    if (options.idle_timeout == 0ms)
      running.client.reset();
    CHECK(running.end() == (options.idle_timeout == 0ms ? End::failed : End::timed_out));
  }
  SECTION("and then") {
    CHECK(same_bytes(running.client.receive(data.size()), data));
    if (options.reset_after == echo::Options::never)  // Otherwise the connection is already gone.
      running.client.half_close();
    running.client.receive_until_end();
    CHECK(running.end() == End::by_option);
  }
}

}  // namespace test
