#include "echo/socket.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "client.hpp"
#include "echo/endpoint.hpp"
#include "matchers.hpp"  // IWYU pragma: keep

namespace test {
namespace {

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// The error that a call throws. Its code is 0 if the call throws nothing.
template <typename Call>
std::system_error error_of(Call call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error;
  }
  return {std::error_code(), "no error"};
}

}  // namespace

TEST_CASE("undeliverable bytes are an error even after end-of-file", "[socket]") {
  auto [connection, client] = connected_pair();
  echo::Socket& socket = connection;
  socket.send(bytes(pattern(400'000)));
  CHECK(socket.unacknowledged() > 0);
  client.half_close();
  client.close();  // Resets the connection, since there are unread bytes.
  std::system_error error = error_of([] {});
  CHECK(eventually([&] {
    error = error_of([&] { socket.throw_if_broken(); });
    return static_cast<bool>(error.code());
  }));
  CHECK(std::string(error.what()) == "send: Broken pipe");
}

TEST_CASE("listener uses the first endpoint that can be bound unless one is in use", "[socket]") {
  const echo::Endpoint free = echo::resolve("127.0.0.1", 0).front();
  const echo::Listener listener = listen_on_loopback();
  const echo::Endpoint taken = listener.local_endpoint();
  const echo::Endpoint foreign = echo::resolve("240.0.0.1", 0).front();  // No machine has it.
  CHECK(echo::listen_on_first({foreign, free, taken}).local_endpoint().port() != taken.port());
  const auto code_for = [](const std::vector<echo::Endpoint>& endpoints) {
    return error_of([&] { echo::listen_on_first(endpoints); }).code();
  };
  CHECK(code_for({taken, foreign}) == std::errc::address_in_use);
  CHECK(code_for({foreign, taken, free}) == std::errc::address_in_use);
  CHECK(code_for({foreign, foreign}) == std::errc::address_not_available);
}

}  // namespace test
