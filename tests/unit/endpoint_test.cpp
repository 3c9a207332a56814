#include "echo/endpoint.hpp"

#include <netinet/in.h>

#include <cstdint>
#include <string>

#include "matchers.hpp"  // IWYU pragma: keep

namespace {

std::string text_of(const std::string& host, std::uint16_t port) {
  return echo::resolve(host, port).front().to_string();
}

}  // namespace

TEST_CASE("endpoint is written as a user types it", "[endpoint]") {
  CHECK(text_of("127.0.0.1", 10000) == "127.0.0.1:10000");
  CHECK(text_of("0.0.0.0", 0) == "0.0.0.0:0");
  CHECK(text_of("::1", 65535) == "[::1]:65535");
  CHECK(text_of("::", 7) == "[::]:7");
  CHECK(text_of("2001:db8:1111:2222:3333:4444:5555:6666", 65535) ==
        "[2001:db8:1111:2222:3333:4444:5555:6666]:65535");
}

TEST_CASE("IPv4-mapped IPv6 address is written as IPv4", "[endpoint]") {
  CHECK(text_of("::ffff:192.0.2.7", 80) == "192.0.2.7:80");
  CHECK(text_of("::ffff:0:1", 80) == "0.0.0.1:80");
  CHECK(text_of("::fffe:192.0.2.7", 80) != "192.0.2.7:80");
}

TEST_CASE("link-local address is written with its zone", "[endpoint]") {
  CHECK(text_of("fe80::1%lo", 7) == "[fe80::1%lo]:7");
  echo::Endpoint nowhere = echo::resolve("fe80::", 0).front();
  reinterpret_cast<sockaddr_in6&>(nowhere.storage).sin6_scope_id = 0x7fffffff;
  CHECK(nowhere.to_string() == "[fe80::%2147483647]:0");
}

TEST_CASE("endpoint that is not an internet address is written without a crash", "[endpoint]") {
  CHECK(echo::Endpoint{}.to_string() == "[]:0");
}
