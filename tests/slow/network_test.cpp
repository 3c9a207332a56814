// A network that loses packets, or breaks.

#include <signal.h>

#include <string>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

TEST_CASE("a client that cannot be reached for a while still gets its bytes at a stop",
          "[network][slow]") {
  test::need_program("nc");
  const test::Network ours;
  const test::Network theirs;
  const auto shell = [&](const std::string& commands) {
    return test::run("sh", {"-ec", "a=" + ours.name() + " b=" + theirs.name() + "; " + commands});
  };
  const auto cable = shell(
      "ip -n $a link add v0 type veth peer name v1 netns $b;"
      "ip -n $a addr add 192.0.2.1/24 dev v0; ip -n $a link set v0 up;"
      "ip -n $b addr add 192.0.2.2/24 dev v1; ip -n $b link set v1 up");
  if (cable.status != 0)
    test::skip("no virtual cable here: " + cable.err);
  test::Server server({"--host", "192.0.2.1", "-v", "--delay", "1h", "--drain-timeout", "1h"},
                      ours.setup());
  test::Process client({"nc", "192.0.2.1", std::to_string(server.port())}, theirs.setup());
  client.write("hello\n");
  server.wait_for_log("received 6 bytes");
  // The other side no longer answers who it is, and ours forgets it.
  REQUIRE(shell("ip -n $b link set v1 arp off; ip -n $a neigh flush dev v0").status == 0);
  server.signal(SIGTERM);  // Ends the delay.
  // Until our system tells the connection: "host unreachable".
  REQUIRE(test::eventually([&] {
    const auto told = shell("ip netns exec $a nstat -as IcmpOutDestUnreachs");
    return test::count_of(told.out, "IcmpOutDestUnreachs") > 0;
  }));
  REQUIRE(shell("ip -n $b link set v1 arp on").status == 0);
  client.wait_for_out("hello\n");
  CHECK(server.wait() == 0);
  CHECK_THAT(server.log(), test::contains("closed by the stop (6 bytes"));
}

TEST_CASE("loss and reordering on the way change no byte, and the log tells of them",
          "[network][slow]") {
  test::need_program("nc");
  test::need_program("tc");
  const test::Network network;
  const auto made = test::run("tc", {"-n", network.name(), "qdisc", "add", "dev", "lo", "root",
                                     "netem", "delay", "2ms", "reorder", "25%", "loss", "5%"});
  if (made.status != 0)
    test::skip("no network with loss here: " + made.err);
  test::Server server({"-c", "4k"}, network.setup());
  // Small segments: of a few large ones none may be lost.
  REQUIRE(test::run("ip", {"-n", network.name(), "link", "set", "lo", "mtu", "1500"}).status == 0);
  const std::string data = test::pattern(1'000'000);
  const auto netcat =
      test::run("nc", {"-N", "127.0.0.1", std::to_string(server.port())}, data, network.setup());
  CHECK(test::same_bytes(netcat.out, data));
  CHECK(server.stop() == 0);
  CHECK_THAT(server.log(), test::contains("(1000000 bytes in ") && test::contains(" resent)\n"));
}
