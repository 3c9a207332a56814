#include "echo/endpoint.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

namespace echo {
namespace {

class ResolverCategory : public std::error_category {
 public:
  const char* name() const noexcept override { return "resolver"; }
  std::string message(int code) const override { return ::gai_strerror(code); }
};

/// The printf in getnameinfo(3) and inet_ntop(3) touches 10 KiB of a worker's stack, which stays
/// resident.
std::string ipv4_text(const unsigned char* bytes, in_port_t port) {
  return fmt::format("{}.{}.{}.{}:{}", bytes[0], bytes[1], bytes[2], bytes[3], ntohs(port));
}

/// The link of an address that has a meaning on one link only (RFC 4007, 11).
std::string zone_text(std::uint32_t zone) {
  if (zone == 0)
    return "";
  std::array<char, IF_NAMESIZE> name{};
  if (::if_indextoname(zone, name.data()) == nullptr)
    return fmt::format("%{}", zone);
  return fmt::format("%{}", name.data());
}

}  // namespace

Endpoint::Endpoint(const sockaddr* address, socklen_t length)
    : length_(std::min<socklen_t>(length, sizeof(storage_))) {
  std::memcpy(&storage_, address, length_);
}

std::string Endpoint::to_string() const {
  if (family() == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(storage_);
    return ipv4_text(reinterpret_cast<const unsigned char*>(&ipv4.sin_addr), ipv4.sin_port);
  }
  if (family() != AF_INET6)
    return "unknown address";

  const auto& ipv6 = reinterpret_cast<const sockaddr_in6&>(storage_);
  if (IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr))
    return ipv4_text(&ipv6.sin6_addr.s6_addr[12], ipv6.sin6_port);
  std::array<char, INET6_ADDRSTRLEN> host{};
  ::inet_ntop(AF_INET6, &ipv6.sin6_addr, host.data(), host.size());
  return fmt::format("[{}{}]:{}", host.data(), zone_text(ipv6.sin6_scope_id),
                     ntohs(ipv6.sin6_port));
}

std::vector<Endpoint> resolve(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) {
    const std::error_code error = code == EAI_SYSTEM
                                      ? std::error_code(errno, std::system_category())
                                      : std::error_code(code, resolver_category());
    throw std::system_error(error, "resolve '" + host + "'");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);

  std::vector<Endpoint> endpoints;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next)
    endpoints.emplace_back(entry->ai_addr, entry->ai_addrlen);
  return endpoints;
}

const std::error_category& resolver_category() noexcept {
  static const ResolverCategory category;
  return category;
}

}  // namespace echo
