// With --idle-timeout: which connections are closed, and which are not.

#include <chrono>
#include <future>
#include <regex>
#include <string>
#include <thread>

#include "client.hpp"
#include "matchers.hpp"
#include "server.hpp"

namespace test {

using namespace std::chrono_literals;

TEST_CASE("idle timeout closes idle and deadlocked connections but not busy ones", "[idle][slow]") {
  // Making it may take long, so no client idles meanwhile.
  const std::string& data = more_than_fits();
  Server server({"--idle-timeout", "2s", "-c", "4k"});
  Client stalled(server.port());
  stalled.send_until_blocked(data);
  Client idle(server.port());
  Client busy(server.port());  // The last one, since setting up the others takes time.
  const auto is_closed = [&](const Client& client) {
    return count_of(server.log(), " info connection from " + client.address() + " timed out (") > 0;
  };
  CHECK(eventually(
      [&] { return busy.exchange("busy") == "busy" && is_closed(idle) && is_closed(stalled); }));
  CHECK(idle.receive_all().empty());
  CHECK(busy.exchange("busy") == "busy");
  CHECK(server.stop() == 0);
  CHECK(std::regex_search(
      server.log(),
      std::regex("stopped: 3 connections served, 2 timed out, .* uptime 0*([2-9]|\\d\\d)")));
}

TEST_CASE("idle timeout can be as short as 1 ms or longer than any test could wait", "[idle]") {
  Server soon({"--idle-timeout", "1ms"});
  Client idle(soon.port());
  CHECK(idle.receive_all().empty());
  soon.wait_for_log("timed out (0 bytes");

  Server late({"--idle-timeout", "100000h"});
  Client client = served_client(late.port());
  client.reset();
  late.wait_for_log("Connection reset by peer (5 bytes");
}

TEST_CASE("idle timeout spares a client that reads slowly", "[idle][slow]") {
  const std::string data = pattern(16 << 20);
  Server server({"--idle-timeout", "1s", "-c", "64k"});
  Client client(server.port());
  client.use_small_buffer(65'536);
  auto sent = std::async(std::launch::async, [&] { return client.try_to_send(data); });
  std::string received;
  for (int i = 0; i < 125; ++i) {
    received += client.receive(10'000);
    std::this_thread::sleep_for(20ms);  // Half a megabyte per second.
  }
  received += client.receive(data.size() - received.size());
  CHECK(sent.get().size == data.size());
  CHECK(same_bytes(received, data));
}

}  // namespace test
