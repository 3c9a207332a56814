// An address with its port, as a value: from a host name, and as text.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

namespace echo {

/// An IPv4 or IPv6 address with its port. System calls read it, and write it through `address()`.
struct Endpoint {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);

  sockaddr* address() { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t port() const;

  /// "127.0.0.1:10000" or "[::1]:10000". An IPv4 address that an IPv6 socket sees as
  /// ::ffff:127.0.0.1 (RFC 4291, 2.5.5.2) is written as IPv4.
  std::string to_string() const;
};

/// The endpoints to listen on for a host, which is an address or a name, in the order in which the
/// resolver returns them. There is at least one. Blocks while a name is looked up. Throws
/// std::runtime_error "resolve '<host>': <reason>", because the error codes of getaddrinfo(3) are
/// not those of errno.
std::vector<Endpoint> resolve(const std::string& host, std::uint16_t port);

}  // namespace echo
