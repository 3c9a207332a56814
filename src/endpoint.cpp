#include "echo/endpoint.hpp"

#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

namespace echo {
namespace {

class ResolverCategory : public std::error_category {
 public:
  const char* name() const noexcept override { return "resolver"; }
  std::string message(int code) const override { return ::gai_strerror(code); }
};

}  // namespace

Endpoint::Endpoint(const sockaddr* address, socklen_t length)
    : length_(std::min<socklen_t>(length, sizeof(storage_))) {
  std::memcpy(&storage_, address, length_);
}

std::string Endpoint::to_string() const {
  std::array<char, INET6_ADDRSTRLEN + IF_NAMESIZE> host{};
  std::array<char, sizeof("65535")> port{};
  if (::getnameinfo(address(), length_, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "unknown address";

  constexpr std::string_view mapped = "::ffff:";
  std::string text = host.data();
  if (text.starts_with(mapped) && text.find('.') != text.npos)
    text.erase(0, mapped.size());
  if (text.find(':') != text.npos)
    text.insert(0, 1, '[').append(1, ']');
  return text.append(1, ':').append(port.data());
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
