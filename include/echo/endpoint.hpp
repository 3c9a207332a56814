// Where a socket is or listens: an address with its port, as a value, from a name and as text.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

namespace echo {

/// An IPv4 or IPv6 address with its port, as a value that system calls read and write.
struct Endpoint {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);

  sockaddr* address() { return reinterpret_cast<sockaddr*>(&storage); }

  /// "127.0.0.1:10000" or "[::1]:10000". An IPv4 address seen through IPv6 (RFC 4291, 2.5.5.2) is
  /// written as IPv4.
  std::string to_string() const;
};

/// The endpoints to listen on for a host, an address or a name, in the resolver's order; at least
/// one. Blocks while a name is looked up. Throws std::runtime_error "resolve '<host>': <reason>",
/// since the codes of getaddrinfo(3) are not those of errno.
std::vector<Endpoint> resolve(const std::string& host, std::uint16_t port);

}  // namespace echo
