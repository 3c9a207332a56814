// With --exit-after: how many clients are served, and the verdict on them.

#include <signal.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

TEST_CASE("exit-after ends the server after exactly N connections", "[exit]") {
  const std::string connections = GENERATE("1", "2", "3", "1024");
  CAPTURE(connections);
  Server server({"--exit-after", "3", "--max-connections", connections});
  std::vector<Client> clients = queued_clients(server, 10);
  for (Client& client : clients)
    client.half_close();
  server.signal(SIGCONT);
  CHECK(server.wait() == 0);
  const auto is_served = [](Client& one) { return one.receive_until_end().data == "hello"; };
  CHECK(std::ranges::count_if(clients, is_served) == 3);
  CHECK(count_of(server.log(), "connection accepted") == 3);
  CHECK_THAT(server.log(), contains(" info stopped: 3 connections served, 15 bytes"));
}

TEST_CASE("exit-after lets no extra connection in while the listener closes", "[exit]") {
  // There is time for another accept before the shutdown of the listener, which comes first.
  Server server({"--exit-after", "3"}, with_faults("shutdown:delay_enter=500000:when=1"));
  serve_one(server.port());  // Its worker waits for another client before the next one has ended.
  serve_one(server.port());
  Client last(server.port());
  const Client too_many(server.port());
  CHECK(last.exchange("3") == "3");
  last.half_close();
  CHECK(server.wait() == 0);
  CHECK(count_of(server.log(), "connection accepted") == 3);
}

TEST_CASE("exit-after frees the port before connections end and logs no limit warning", "[exit]") {
  Server server({"--exit-after", "2", "--max-connections", "2"});
  Client first = served_client(server.port());
  Client second = served_client(server.port());
  CHECK(is_free(server.port()));
  first.half_close();
  CHECK(second.exchange("still here") == "still here");
  CHECK(server.is_running());
  second.half_close();
  CHECK(server.wait() == 0);
  CHECK_THAT(server.log(), !contains(" warn "));
}

TEST_CASE("exit status reports a failed connection even if a stop signal arrived", "[exit]") {
  const bool stops = GENERATE(false, true);
  CAPTURE(stops);
  Server server({"--exit-after", "2", "--max-connections", "1"});
  served_client(server.port()).reset();
  Client last = served_client(server.port());
  if (stops)
    server.signal(SIGTERM);
  else
    last.half_close();
  CHECK(last.receive_all().empty());
  CHECK(server.wait() == 3);
  CHECK_THAT(server.log(), contains("stopped: 2 connections served, 1 failed, 10 bytes"));
}

TEST_CASE("health checks that reset before their first byte do not count as failures", "[exit]") {
  Server server({"--exit-after", "2"});
  Client early(server.port());
  const std::string address = early.address();
  server.wait_for_clients();
  early.reset();
  Client(server.port()).reset();  // It may be gone before it is accepted.
  CHECK(server.wait() == 0);
  CHECK_THAT(server.log(), contains(" info no more data from " + address + " (0 bytes") &&
                               contains("stopped: 2 connections served, 0 bytes"));
}

TEST_CASE("greeting that cannot be delivered to a client counts as a failure", "[exit]") {
  // The client resets while the greeting is sent, or before that.
  const Setup setup = GENERATE(Setup{}, with_faults("sendto:delay_enter=500000:when=1"));
  Server server({"--exit-after", "1", "--greeting", std::string(100'000, 'x')}, setup);
  Client client(server.port());
  client.use_small_buffer();
  server.wait_for_clients();
  client.reset();
  CHECK(server.wait() == 3);
}

TEST_CASE("stop signals are not failures and give status 0 until exit-after applies", "[exit]") {
  Server all({"--exit-after", "2"});
  serve_one(all.port());
  Client last = served_client(all.port());
  CHECK(all.stop() == 0);

  Server not_all({"--exit-after", "2"});
  served_client(not_all.port()).reset();
  not_all.wait_for_log("Connection reset by peer (5 bytes");
  CHECK(not_all.stop() == 0);
}

TEST_CASE("early close by a client counts as a failure however long its message is", "[exit]") {
  const std::size_t size = GENERATE(5U, 16U, 17U);
  CAPTURE(size);
  Server server({"--exit-after", "1", "--delay", "100ms"});
  Client client(server.port());
  client.send(pattern(size));
  client.close();
  CHECK(server.wait() == 3);
  CHECK_THAT(server.log(), contains("stopped: 1 connection served, 1 failed, "));
}

TEST_CASE("slow reading by a client does not count as a failure", "[exit]") {
  Server server({"--exit-after", "1", "-c", "4k"});
  Client client(server.port());
  client.use_small_buffer(65'536);
  const std::string data = pattern(1 << 20);
  client.send(data);
  client.half_close();
  CHECK(server.is_running());
  CHECK(same_bytes(client.receive_all(), data));
  CHECK(server.wait() == 0);
}

}  // namespace test
