// Two servers behind a balancer, with the README's configuration.

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace {

using test::Client;
using test::Server;

/// The packaged configuration, for other ports; in turn, so that a test knows who gets a client.
std::string configuration(std::uint16_t port, std::uint16_t one, std::uint16_t two) {
  std::string text = test::contents_of("src/packaging/haproxy.cfg");
  const auto replace = [&text](const std::string& old, const std::string& with) {
    const auto at = text.find(old);
    REQUIRE(at != text.npos);
    text.replace(at, old.size(), with);
  };
  replace("bind :7", "bind 127.0.0.1:" + std::to_string(port));
  replace("192.0.2.1:10000", "127.0.0.1:" + std::to_string(one));
  replace("192.0.2.2:10000", "127.0.0.1:" + std::to_string(two));
  replace("leastconn", "roundrobin");
  return text;
}

}  // namespace

TEST_CASE("behind HAProxy a stop of one server ends only the connections that it had",
          "[haproxy][slow]") {
  test::need_program("haproxy");
  Server one;
  Server two;
  const std::uint16_t port = test::port_of(test::listen_on_loopback().local_endpoint());
  const test::TemporaryFile file;
  std::ofstream(file.path()) << configuration(port, one.port(), two.port());
  test::Process haproxy({"haproxy", "-db", "-f", file.path()});
  // Not yet, as long as the balancer does not listen, or knows of no server.
  REQUIRE(test::eventually([&] { return test::count_served(port, 1) == 1; }));

  const std::string data = test::pattern(1 << 20);
  Client bulk(port);
  CHECK(test::same_bytes(bulk.exchange(data), data));
  bulk.half_close();
  CHECK(bulk.receive_all().empty());

  std::vector<Client> clients;
  for (int i = 0; i < 8; ++i)
    REQUIRE(clients.emplace_back(port).exchange("hello") == "hello");
  CHECK(one.stop() == 0);
  const auto has_ended = [](const Client& client) { return client.has_end_of_file(); };
  CHECK(test::eventually([&] { return std::ranges::count_if(clients, has_ended) == 4; }));
  for (Client& client : clients)
    if (!has_ended(client))
      CHECK(client.exchange("still here") == "still here");
  for (int i = 0; i < 20; ++i)
    CHECK(Client(port).exchange("new") == "new");
}
