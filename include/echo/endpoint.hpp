// Where a socket is or listens: an address with its port, as a value, from a name and as text.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

namespace echo {

/// An IPv4 or IPv6 address with its port, as a value.
class Endpoint {
 public:
  /// Copies `length` bytes, at most sizeof(sockaddr_storage).
  Endpoint(const sockaddr* address, socklen_t length);

  int family() const { return storage_.ss_family; }
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t length() const { return length_; }

  /// "127.0.0.1:10000" or "[::1]:10000". An IPv4 address seen through IPv6 (RFC 4291, 2.5.5.2) is
  /// written as IPv4.
  std::string to_string() const;

 private:
  sockaddr_storage storage_{};
  socklen_t length_;
};

/// The endpoints to listen on for a host, an address or a name, in the resolver's order; at least
/// one. Blocks while a name is looked up. Throws std::system_error "resolve '<host>'", of
/// resolver_category() or, where the system failed, of the system's (getaddrinfo(3)).
std::vector<Endpoint> resolve(const std::string& host, std::uint16_t port);

/// The codes of getaddrinfo(3), EAI_NONAME and so on.
const std::error_category& resolver_category() noexcept;

}  // namespace echo
