#include "echo/session.hpp"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>

#include "client.hpp"
#include "matchers.hpp"

namespace {

using echo::Options;
using test::contains;
using test::same_bytes;
using namespace std::chrono_literals;
using End = echo::Session::End;

/// The log while it lives: keeps the lines, and calls a function at each.
class Log {
 public:
  explicit Log(std::function<void()> on_line = [] {}) {
    auto logger = std::make_shared<spdlog::logger>("", std::make_shared<Sink>(*this));
    logger->set_level(spdlog::level::debug);
    spdlog::set_default_logger(std::move(logger));
    on_line_ = std::move(on_line);
  }
  ~Log() { spdlog::set_default_logger(before_); }

  std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  class Sink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
   public:
    explicit Sink(Log& log) : log_(log) {}

   protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
      const std::lock_guard lock(log_.mutex_);
      log_.text_ += std::string(message.payload.data(), message.payload.size()) + '\n';
      log_.on_line_();
    }
    void flush_() override {}

   private:
    Log& log_;
  };

  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
  std::mutex mutex_;
  std::string text_;
  std::function<void()> on_line_;
};

/// A session that runs in a thread of its own, and its client.
class Running {
 public:
  explicit Running(const Options& options) : Running(test::connected_pair(), options) {}
  explicit Running(std::size_t chunk_size) : Running(Options{.chunk_size = chunk_size}) {}

  ~Running() {
    client.close();
    cut.request_stop();
  }

  bool has_ended() const { return end_.wait_for(0s) == std::future_status::ready; }
  /// Waits for it.
  End end() {
    REQUIRE(end_.wait_for(test::deadline) == std::future_status::ready);
    return end_.get();
  }

  test::Client client;
  std::stop_source stop;
  std::stop_source cut;
  std::atomic<std::uint64_t> echoed = 0;

 private:
  Running(test::Pair pair, const Options& options)
      : client(std::move(pair.client)), options_(options) {
    end_ = std::async(std::launch::async, [this, socket = std::move(pair.server)]() mutable {
      echo::Session session(std::move(socket), options_, stop.get_token(), cut.get_token(), echoed);
      const End end = session.run();
      session.close();
      return end;
    });
  }

  const Options options_;
  std::future<End> end_;
};

}  // namespace

TEST_CASE("every byte comes back in order, whatever the chunk size", "[session]") {
  for (const std::size_t chunk_size : {1U, 3U, 16U, 4096U, 65'535U, 65'536U, 65'537U, 1U << 20}) {
    CAPTURE(chunk_size);
    Running running(chunk_size);
    const std::string data = test::pattern(300'000);
    CHECK(same_bytes(running.client.exchange(data), data));
    running.client.half_close();
    CHECK(running.client.receive_all().empty());
    CHECK(running.end() == End::no_more_data);
    CHECK(running.echoed == data.size());
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

TEST_CASE("a client that half-closes gets all of its bytes and the end of file", "[session]") {
  Log log;
  Running running(16);
  const std::string data = test::pattern(60'000);
  running.client.send(data);
  running.client.half_close();
  CHECK(same_bytes(running.client.receive_all(), data));
  CHECK(running.end() == End::no_more_data);
  CHECK_THAT(log.text(),
             contains("no more data from " + running.client.address() + " (60000 bytes in 0."));
}

TEST_CASE("a client that never reads blocks its session and gets everything when it reads",
          "[session]") {
  Running running(4096);
  const std::size_t sent = running.client.send_until_blocked(test::more_than_fits());
  running.client.half_close();
  CHECK(same_bytes(running.client.receive_all(), test::more_than_fits().substr(0, sent)));
  CHECK(running.end() == End::no_more_data);
}

TEST_CASE("urgent data comes back in its place", "[session]") {
  for (const std::size_t chunk_size : {1U, 4U, 16U, 4096U}) {
    CAPTURE(chunk_size);
    Running running(chunk_size);
    running.client.send("before ");
    running.client.send_urgent("urgent");
    running.client.send(" behind");
    running.client.half_close();
    CHECK(running.client.receive_all() == "before urgent behind");
  }
}

TEST_CASE("a reset is a failure of the session", "[session]") {
  Log log;
  Running running(16);
  REQUIRE(running.client.exchange("hello") == "hello");
  const std::string address = running.client.address();
  running.client.reset();
  CHECK(running.end() == End::failed);
  CHECK_THAT(log.text(), contains("connection from " + address +
                                  " failed, receive: Connection reset by peer (5 bytes in "));
}

TEST_CASE("a session whose idle timeout cannot be set fails", "[session]") {
  // A Unix socket knows nothing of TCP_USER_TIMEOUT.
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const echo::UniqueFd client(ends[0]);
  std::atomic<std::uint64_t> echoed = 0;
  const Options options{.idle_timeout = 1s};
  CHECK(echo::Session({echo::UniqueFd(ends[1]), "a client"}, options, {}, {}, echoed).run() ==
        End::failed);
}

TEST_CASE("a session for which there is no memory fails", "[session]") {
  test::need_own_memory();
  Log log;
  Running running(PTRDIFF_MAX / 128);
  CHECK(running.end() == End::failed);
  CHECK_THAT(log.text(), contains(" failed, out of memory (0 bytes in "));
}

TEST_CASE("an idle session is closed after the timeout, with nothing added", "[session]") {
  Running running({.idle_timeout = 400ms});
  REQUIRE(running.client.exchange("hello") == "hello");
  CHECK(running.client.receive_all().empty());
  CHECK(running.end() == End::idle);
}

TEST_CASE("a session whose client stopped reading is closed after the timeout", "[session]") {
  Running running({.chunk_size = 4096, .idle_timeout = 50ms});
  CHECK(running.client.try_to_send(test::more_than_fits()).is_broken_off());
  CHECK(running.end() == End::idle);
}

TEST_CASE("with exit_after a session waits until its client has everything", "[session]") {
  for (const std::uint64_t exit_after : {Options::never, std::uint64_t{1}}) {
    CAPTURE(exit_after);
    Running running({.chunk_size = 4096, .exit_after = exit_after});
    const std::string data = test::pattern(400'000);  // More than the client's system takes.
    running.client.send(data);
    running.client.half_close();
    REQUIRE(test::eventually([&] { return running.echoed == data.size(); }));
    if (exit_after == Options::never)
      CHECK(running.end() == End::no_more_data);
    else
      CHECK_FALSE(running.has_ended());
    CHECK(same_bytes(running.client.receive_all(), data));
    if (exit_after != Options::never)
      CHECK(running.end() == End::no_more_data);
  }
}

TEST_CASE("with exit_after a client that leaves before its reply has failed", "[session]") {
  for (const std::size_t size : {5U, 16U, 17U, 1000U}) {
    CAPTURE(size);
    Running running({.delay = 50ms, .exit_after = 1});
    running.client.send(test::pattern(size));
    running.client.close();
    CHECK(running.end() == End::failed);
  }
}

TEST_CASE("a session that is stopped echoes what had arrived and ends", "[session]") {
  Log log;
  Running running(16);
  const std::string data = test::pattern(10'000);
  running.client.send(data);
  running.stop.request_stop();
  CHECK(same_bytes(running.client.receive_all(), data));
  CHECK(running.end() == End::stopped);
  CHECK_THAT(log.text(), contains(" closed by the stop (10000 bytes in "));
}

TEST_CASE("a session that is stopped waits until its client has everything", "[session]") {
  Running running(4096);
  const std::size_t sent = running.client.send_until_blocked(test::more_than_fits());
  running.stop.request_stop();
  CHECK_FALSE(running.has_ended());
  CHECK(same_bytes(running.client.receive_all(), test::more_than_fits().substr(0, sent)));
  CHECK(running.end() == End::stopped);
}

TEST_CASE("a session that is stopped still takes what a client sends before it reads",
          "[session]") {
  Running running(4096);
  const std::string data = test::pattern(1'200'000);
  for (std::size_t sent = 0; sent < data.size(); sent += 100'000) {
    running.client.send(data.substr(sent, 100'000));
    REQUIRE(running.client.is_acknowledged());
    // By now more is on its way back than the client's system holds.
    if (sent == 300'000)
      running.stop.request_stop();
  }
  running.client.send("!");  // A single byte, too.
  REQUIRE(test::eventually([&] { return running.echoed == data.size() + 1; }));
  CHECK(same_bytes(running.client.receive_all(), data + '!'));
  CHECK(running.end() == End::stopped);
}

TEST_CASE("a stop costs a client none of its bytes, though it goes on sending", "[session]") {
  Running running({.chunk_size = 4096, .close_after = 1 << 18});
  const std::string data = test::pattern(300'000);
  running.client.send(data);
  REQUIRE(test::eventually([&] { return running.echoed == 1 << 18; }));
  running.stop.request_stop();
  for (int i = 0; i < 50; ++i) {
    REQUIRE_NOTHROW(running.client.send("more"));
    REQUIRE(running.client.is_acknowledged());
  }
  CHECK(same_bytes(running.client.receive_all(), data.substr(0, 1 << 18)));
  CHECK(running.end() == End::on_purpose);
}

TEST_CASE("a client that sends while the stop closes gets the end of file, and no reset",
          "[session]") {
  std::atomic<bool> had_ended = true;
  Running* session = nullptr;
  // The session logs its end between its last look at what has arrived and the close.
  Log log([&] {
    had_ended = session->client.has_end_of_file();
    session->client.send("x");
  });
  Running running(16);
  session = &running;
  running.stop.request_stop();
  CHECK(running.end() == End::stopped);
  CHECK_FALSE(had_ended);  // A session is counted out before its client sees the end.
  CHECK_FALSE(running.client.receive_until_end().error);
}

TEST_CASE("a session that is cut ends at once, also while it sends", "[session]") {
  Running idle(16);
  idle.stop.request_stop();
  idle.cut.request_stop();
  CHECK(idle.end() == End::stopped);

  Running sending(4096);
  sending.client.send_until_blocked(test::more_than_fits());
  sending.cut.request_stop();
  CHECK(sending.end() == End::stopped);

  Running draining(4096);
  draining.client.send_until_blocked(test::more_than_fits());
  draining.stop.request_stop();
  draining.cut.request_stop();
  CHECK(draining.end() == End::stopped);
}
