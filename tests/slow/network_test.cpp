// A network that loses packets, or breaks.

#include <signal.h>

#include <string>

#include "client.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

TEST_CASE("unreachable client gets its bytes on shutdown once it is reachable again",
          "[network][slow]") {
  need_program("nc");
  const Network ours;
  const Network theirs;
  ours.shell("ip link add v0 type veth peer name v1 netns " + std::to_string(theirs.pid()) +
             "; ip addr add 192.0.2.1/24 dev v0; ip link set v0 up");
  theirs.shell("ip addr add 192.0.2.2/24 dev v1; ip link set v1 up");
  Server server({"--host", "192.0.2.1", "-v", "--delay", "1h", "--drain-timeout", "1h"},
                ours.setup());
  Process client({"nc", "192.0.2.1", std::to_string(server.port())}, theirs.setup());
  client.write("hello\n");
  server.wait_for_log("received 6 bytes");
  // The other side no longer answers ARP requests, and ours forgets its address.
  theirs.shell("ip link set v1 arp off");
  ours.shell("ip neigh flush dev v0");
  server.signal(SIGTERM);  // Ends the delay.
  // Our kernel now tells the connection that the host is unreachable.
  REQUIRE(eventually([&] {
    return count_of(ours.shell("nstat -as IcmpOutDestUnreachs"), "IcmpOutDestUnreachs") > 0;
  }));
  theirs.shell("ip link set v1 arp on");
  client.wait_for_out("hello\n");
  CHECK(server.wait() == 0);
  CHECK_THAT(server.log(), contains("closed by shutdown (6 bytes"));
}

TEST_CASE("packet loss and reordering change no byte and retransmissions are logged",
          "[network][slow]") {
  need_program("nc");
  need_program("tc");
  const Network network;
  network.shell("tc qdisc add dev lo root netem delay 2ms reorder 25% loss 5%");
  Server server({"-c", "4k"}, network.setup());
  // If there were only a few large segments, perhaps none would be lost.
  network.shell("ip link set lo mtu 1500");
  const std::string data = pattern(1'000'000);
  const auto netcat =
      run("nc", {"-N", "127.0.0.1", std::to_string(server.port())}, data, network.setup());
  CHECK(same_bytes(netcat.out, data));
  CHECK(server.stop() == 0);
  CHECK_THAT(server.log(), contains("(1000000 bytes in ") && contains(" retransmitted)\n"));
}

}  // namespace test
