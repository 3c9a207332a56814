// asio, asynchronous, one thread for all connections. usage: asio_async PORT CHUNK

#include <asio.hpp>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

using asio::ip::tcp;

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, std::size_t chunk) : socket_(std::move(socket)), buffer_(chunk) {
    socket_.set_option(tcp::no_delay(true));
  }

  void read() {
    socket_.async_read_some(asio::buffer(buffer_),
                            [self = shared_from_this()](auto error, std::size_t size) {
                              if (!error)
                                self->write(size);
                            });
  }

 private:
  void write(std::size_t size) {
    asio::async_write(socket_, asio::buffer(buffer_.data(), size),
                      [self = shared_from_this()](auto error, std::size_t) {
                        if (!error)
                          self->read();
                      });
  }

  tcp::socket socket_;
  std::vector<char> buffer_;
};

static void accept_next(tcp::acceptor& acceptor, std::size_t chunk) {
  acceptor.async_accept([&acceptor, chunk](auto error, tcp::socket socket) {
    if (!error)
      std::make_shared<Session>(std::move(socket), chunk)->read();
    accept_next(acceptor, chunk);
  });
}

int main(int, char** argv) {
  const auto port = static_cast<asio::ip::port_type>(std::atoi(argv[1]));
  asio::io_context context(1);
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), port});
  accept_next(acceptor, static_cast<std::size_t>(std::atoi(argv[2])));
  context.run();
}
