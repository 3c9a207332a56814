#include "echo/endpoint.hpp"

#include <netdb.h>
#include <netinet/in.h>

#include <system_error>

#include "catch.hpp"

namespace {

std::string text_of(const std::string& host, std::uint16_t port) {
  return echo::resolve(host, port).front().to_string();
}

}  // namespace

TEST_CASE("an endpoint is written as a user types it", "[endpoint]") {
  CHECK(text_of("127.0.0.1", 10000) == "127.0.0.1:10000");
  CHECK(text_of("0.0.0.0", 0) == "0.0.0.0:0");
  CHECK(text_of("::1", 65535) == "[::1]:65535");
  CHECK(text_of("::", 7) == "[::]:7");
  CHECK(text_of("2001:db8:1111:2222:3333:4444:5555:6666", 65535) ==
        "[2001:db8:1111:2222:3333:4444:5555:6666]:65535");
}

TEST_CASE("an IPv4 address seen through IPv6 is written as IPv4", "[endpoint]") {
  CHECK(text_of("::ffff:192.0.2.7", 80) == "192.0.2.7:80");
  CHECK(text_of("::ffff:0:1", 80) == "0.0.0.1:80");
  CHECK(text_of("::fffe:192.0.2.7", 80) != "192.0.2.7:80");
}

TEST_CASE("an address that is valid on one link only is written with that link", "[endpoint]") {
  CHECK(text_of("fe80::1%lo", 7) == "[fe80::1%lo]:7");
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr.s6_addr[0] = 0xfe;
  address.sin6_addr.s6_addr[1] = 0x80;
  address.sin6_scope_id = 0x7fffffff;
  const echo::Endpoint nowhere(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  CHECK(nowhere.to_string() == "[fe80::%2147483647]:0");
}

TEST_CASE("an endpoint that is no internet address is written without a crash", "[endpoint]") {
  sockaddr address{};
  CHECK(echo::Endpoint(&address, sizeof(address)).to_string() == "unknown address");
}

TEST_CASE("a name is resolved to its addresses", "[endpoint]") {
  const auto endpoints = echo::resolve("localhost", 10000);
  REQUIRE_FALSE(endpoints.empty());
  for (const auto& endpoint : endpoints)
    CHECK((endpoint.to_string() == "127.0.0.1:10000" || endpoint.to_string() == "[::1]:10000"));
}

TEST_CASE("a host that does not exist is an error that names it", "[endpoint]") {
  try {
    echo::resolve("no.such.host.invalid", 10000);
    FAIL("resolved");
  } catch (const std::system_error& error) {
    CHECK(error.code().category() == echo::resolver_category());
    CHECK(std::string(error.code().category().name()) == "resolver");
    CHECK(std::string(error.what()) ==
          "resolve 'no.such.host.invalid': " + std::string(::gai_strerror(error.code().value())));
  }
}
