#include "echo/session.hpp"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"

namespace {

using echo::Options;
using test::same_bytes;
using End = echo::Session::End;

/// Calls a function at each line of the log, while it lives.
class LineWatch {
 public:
  explicit LineWatch(std::function<void()> on_line) {
    sinks_.push_back(std::make_shared<CallingSink>(std::move(on_line)));
  }
  ~LineWatch() { sinks_.pop_back(); }

 private:
  class CallingSink : public spdlog::sinks::base_sink<std::mutex> {
   public:
    explicit CallingSink(std::function<void()> on_line) : on_line_(std::move(on_line)) {}

   protected:
    void sink_it_(const spdlog::details::log_msg&) override { on_line_(); }
    void flush_() override {}

   private:
    const std::function<void()> on_line_;
  };

  std::vector<spdlog::sink_ptr>& sinks_ = spdlog::default_logger()->sinks();
};

/// A session that runs in a thread of its own, and its client.
class RunningSession {
 public:
  explicit RunningSession(const Options& options = {})
      : RunningSession(test::connected_pair(), options) {}

  ~RunningSession() {
    client.close();
    cut.request_stop();
  }

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
  RunningSession(test::Pair pair, const Options& options)
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

TEST_CASE("urgent data comes back in its place", "[session]") {
  for (const std::size_t chunk_size : {1U, 16U}) {
    CAPTURE(chunk_size);
    RunningSession running({.chunk_size = chunk_size});
    running.client.send("before ");
    running.client.send_urgent("urgent");
    running.client.send(" behind");
    running.client.half_close();
    CHECK(running.client.receive_all() == "before urgent behind");
  }
}

TEST_CASE("a session that is stopped still takes what a client sends before it reads",
          "[session]") {
  RunningSession running({.chunk_size = 4096});
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
  RunningSession running({.chunk_size = 4096, .close_after = 1 << 18});
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
  RunningSession* session = nullptr;
  // The session logs its end between its last look at what has arrived and the close.
  const LineWatch watch([&] {
    had_ended = session->client.has_end_of_file();
    session->client.send("x");
  });
  RunningSession running;
  session = &running;
  running.stop.request_stop();
  CHECK(running.end() == End::stopped);
  CHECK_FALSE(had_ended);  // A session is counted out before its client sees the end.
  CHECK_FALSE(running.client.receive_until_end().error);
}
