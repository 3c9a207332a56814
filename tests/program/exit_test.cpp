// --exit-after: how many clients, and the verdict on them.

#include <cstddef>
#include <string>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

using namespace test;

TEST_CASE("the server accepts exactly so many clients, gives the port back and ends with them",
          "[exit]") {
  for (const std::string connections : {"1", "2", "1024"}) {
    CAPTURE(connections);
    Server server({"--exit-after", "3", "--max-connections", connections});
    CHECK(count_served(server.port(), 10) == 3);
    CHECK(server.wait() == 0);
    CHECK(count_of(server.log(), "connection accepted") == 3);
    CHECK_THAT(server.log(), contains("] stopped: 3 connections served, 15 bytes"));
  }
}

TEST_CASE("not one client too many is accepted while the listener closes", "[exit]") {
  // There is time for another accept before the shutdown of the listener, which comes first.
  Server server({"--exit-after", "3"}, with_faults("shutdown:delay_enter=500000:when=1"));
  serve_one(server.port());  // By the end of the next one its worker would wait again.
  serve_one(server.port());
  Client last(server.port());
  const Client too_many(server.port());
  CHECK(last.exchange("3") == "3");
  last.half_close();
  CHECK(server.wait() == 0);
  CHECK(count_of(server.log(), "connection accepted") == 3);
}

TEST_CASE("the port is free while the last clients are still served", "[exit]") {
  Server server({"--exit-after", "2"});
  Client first = served_client(server.port());
  Client second = served_client(server.port());
  CHECK(is_free(server.port()));
  first.half_close();
  CHECK(second.exchange("still here") == "still here");
  CHECK(server.is_running());
  second.half_close();
  CHECK(server.wait() == 0);
}

TEST_CASE("the exit status tells whether a client failed, whether a stop came or not", "[exit]") {
  for (const bool stops : {false, true}) {
    CAPTURE(stops);
    Server server({"--exit-after", "2", "--max-connections", "1"});
    Client(server.port()).reset();
    Client last = served_client(server.port());
    if (stops)
      server.signal(SIGTERM);
    else
      last.half_close();
    CHECK(last.receive_all().empty());
    CHECK(server.wait() == 3);
    CHECK_THAT(server.log(), contains("stopped: 2 connections served, 1 failed, 5 bytes"));
  }
}

TEST_CASE("the exit status tells whether a client idled", "[exit]") {
  Server server({"--exit-after", "1", "--idle-timeout", "100ms"});
  const Client client(server.port());
  CHECK(server.wait() == 3);
  CHECK_THAT(server.log(), contains("stopped: 1 connection served, 1 idled, 0 bytes"));
}

TEST_CASE("a stop is no failure of its clients, and before all were there no verdict", "[exit]") {
  Server all({"--exit-after", "2"});
  serve_one(all.port());
  Client last = served_client(all.port());
  CHECK(all.stop() == 0);

  Server not_all({"--exit-after", "2"});
  Client(not_all.port()).reset();
  not_all.wait_for_log("failed, receive: Connection reset by peer (0 bytes");
  CHECK(not_all.stop() == 0);
}

TEST_CASE("a client that closes before its reply has failed, whatever its length", "[exit]") {
  for (const std::size_t size : {5U, 16U, 17U}) {
    CAPTURE(size);
    Server server({"--exit-after", "1", "--delay", "100ms"});
    Client client(server.port());
    client.send(pattern(size));
    client.close();
    CHECK(server.wait() == 3);
    CHECK_THAT(server.log(), contains("stopped: 1 connection served, 1 failed, "));
  }
}

TEST_CASE("a client that takes its time to read ends well", "[exit]") {
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
