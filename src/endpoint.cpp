#include "echo/endpoint.hpp"

#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace echo {

std::uint16_t Endpoint::port() const {
  // The port is at the same place in sockaddr_in and sockaddr_in6.
  return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}

std::string Endpoint::to_string() const {
  const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(storage);
  const auto& ipv6 = reinterpret_cast<const sockaddr_in6&>(storage);
  const bool is_mapped = storage.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr);
  // getnameinfo would do for IPv4 as well, but its printf touches 10 KiB of a worker's stack, which
  // would then stay allocated for each connection.
  if (storage.ss_family == AF_INET || is_mapped) {
    const auto* bytes = is_mapped ? &ipv6.sin6_addr.s6_addr[12]
                                  : reinterpret_cast<const unsigned char*>(&ipv4.sin_addr);
    return fmt::format("{}.{}.{}.{}:{}", bytes[0], bytes[1], bytes[2], bytes[3], port());
  }
  std::array<char, INET6_ADDRSTRLEN + IF_NAMESIZE> host{};
  // Not checked: if it fails, the address stays empty.
  ::getnameinfo(reinterpret_cast<const sockaddr*>(&storage), length, host.data(), host.size(),
                nullptr, 0, NI_NUMERICHOST);
  return fmt::format("[{}]:{}", host.data(), port());
}

std::vector<Endpoint> resolve(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) {
    const char* const reason = code == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(code);
    throw std::runtime_error(fmt::format("resolve '{}': {}", host, reason));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);

  std::vector<Endpoint> endpoints;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    endpoints.emplace_back().length = entry->ai_addrlen;
    std::memcpy(endpoints.back().address(), entry->ai_addr, entry->ai_addrlen);
  }
  return endpoints;
}

}  // namespace echo
