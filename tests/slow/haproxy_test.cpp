// Two servers behind a load balancer, with the packaged configuration.

#include <cstdint>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {
namespace {

/// The packaged configuration for other ports. The servers take turns, so that each gets its share.
std::string configuration(std::uint16_t port, std::uint16_t one, std::uint16_t two) {
  const auto address = [](std::uint16_t number) { return "127.0.0.1:" + std::to_string(number); };
  return run("sed",
             {"-e", "s/bind :7/bind " + address(port) + '/', "-e",
              "s/192.0.2.1:10000/" + address(one) + '/', "-e",
              "s/192.0.2.2:10000/" + address(two) + '/', "-e", "s/leastconn/roundrobin/"},
             contents_of("src/packaging/haproxy.cfg"))
      .out;
}

/// Receives the greeting: the address of the server that the balancer chose, and that of the
/// balancer, as this server sees it.
std::string greeting_of(Client& client) {
  std::string greeting;
  for (std::string byte = " "; !byte.empty() && byte != "\n"; greeting += byte)
    byte = client.receive(1);
  return greeting;
}

}  // namespace

TEST_CASE("HAProxy keeps the other server's connections when one server is stopped",
          "[haproxy][slow]") {
  need_program("haproxy");
  const Words options = {"--greeting", "{server} {client}"};
  Server one(options);
  Server two(options);
  const std::uint16_t port = listen_on_loopback().local_endpoint().port();
  Process haproxy({"haproxy", "-db", "-f", "/dev/stdin"});
  haproxy.write(configuration(port, one.port(), two.port()));
  haproxy.close_input();
  // The balancer may not listen yet, or may not know yet that a server is there.
  REQUIRE(eventually([&] {
    try {
      Client client(port);
      return !greeting_of(client).empty();
    } catch (const std::system_error&) {
      return false;
    }
  }));

  std::vector<Client> clients;
  std::vector<Client> clients_of_one;
  for (int i = 0; i < 8; ++i) {
    Client client(port);
    const std::string greeting = greeting_of(client);
    CHECK_THAT(greeting, !contains(client.address()));  // The server sees the balancer's address.
    const std::string address = "127.0.0.1:" + std::to_string(one.port()) + ' ';
    (greeting.starts_with(address) ? clients_of_one : clients).push_back(std::move(client));
  }
  CHECK(clients.size() == 4);
  CHECK(one.stop() == 0);
  for (Client& client : clients_of_one)
    CHECK(client.receive_all().empty());
  for (int i = 0; i < 20; ++i)
    greeting_of(clients.emplace_back(port));
  for (Client& client : clients)
    CHECK(client.exchange("still here") == "still here");
}

}  // namespace test
