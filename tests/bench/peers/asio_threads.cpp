// asio, blocking, a thread per connection. usage: asio_threads PORT CHUNK

#include <asio.hpp>
#include <cstddef>
#include <cstdlib>
#include <thread>
#include <vector>

using asio::ip::tcp;

static void echo(tcp::socket socket, std::size_t chunk) {
  std::vector<char> buffer(chunk);
  asio::error_code error;
  socket.set_option(tcp::no_delay(true), error);
  while (!error) {
    const std::size_t size = socket.read_some(asio::buffer(buffer), error);
    if (!error)
      asio::write(socket, asio::buffer(buffer.data(), size), error);
  }
}

int main(int, char** argv) {
  const auto port = static_cast<asio::ip::port_type>(std::atoi(argv[1]));
  const auto chunk = static_cast<std::size_t>(std::atoi(argv[2]));
  asio::io_context context;
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), port});
  for (;;)
    std::thread(echo, acceptor.accept(), chunk).detach();
}
