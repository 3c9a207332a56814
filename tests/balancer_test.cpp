#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

#include "catch.hpp"
#include "client.hpp"
#include "program.hpp"
#include "readme.hpp"

namespace {

using test::Client;
using test::on_loopback;
using test::Program;

/// The README's configuration, for other ports; in turn, so that a test knows who gets a client.
std::string configuration(std::uint16_t port, std::uint16_t one, std::uint16_t two) {
  std::string text = test::readme_blocks("haproxy").front().text;
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

bool is_served(std::uint16_t port) {
  try {
    return Client(port).exchange("x") == "x";
  } catch (const std::system_error&) {
    return false;
  }
}

}  // namespace

TEST_CASE("behind HAProxy a stop of one server ends only the connections that it had",
          "[program]") {
  Program one(on_loopback());
  Program two(on_loopback());
  const std::uint16_t port =
      test::port_of(echo::Listener(echo::resolve("127.0.0.1", 0).front()).local_endpoint());
  const std::string file = "haproxy" + std::to_string(port) + ".cfg";
  const std::shared_ptr<void> at_the_end(nullptr, [&](void*) { std::filesystem::remove(file); });
  std::ofstream(file) << configuration(port, one.port(), two.port());
  std::optional<Program> haproxy;
  try {
    haproxy.emplace(test::command("haproxy", {"-db", "-f", file}));
  } catch (const std::system_error& error) {
    std::cout << "skipped: cannot " << error.what() << std::endl;
    return;
  }
  REQUIRE(test::eventually([&] { return is_served(port); }));

  const std::string data = test::pattern(1 << 20);
  Client bulk(port);
  CHECK((bulk.exchange(data) == data));
  bulk.half_close();
  CHECK(bulk.receive_all().empty());

  std::vector<Client> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back(port);
    REQUIRE(clients.back().exchange("hello") == "hello");
  }
  one.signal(SIGTERM);
  CHECK(one.wait() == 0);
  const auto ended = [](const Client& client) {
    char byte = 0;
    return ::recv(client.fd(), &byte, 1, MSG_DONTWAIT) == 0;
  };
  CHECK(
      test::eventually([&] { return std::count_if(clients.begin(), clients.end(), ended) == 4; }));
  for (Client& client : clients)
    if (!ended(client))
      CHECK(client.exchange("still here") == "still here");
  for (int i = 0; i < 20; ++i)
    CHECK(Client(port).exchange("new") == "new");
}
