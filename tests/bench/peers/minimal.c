/* About the limit for a server that blocks: accept, recv and send, without handling any error.
   64 threads wait in accept, and each serves one client at a time. usage: minimal PORT CHUNK */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static int listener;
static size_t chunk;

static void echo(int fd) {
  char buffer[chunk];
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  for (ssize_t size; (size = recv(fd, buffer, chunk, 0)) > 0;)
    for (ssize_t sent = 0, count; sent < size; sent += count)
      if ((count = send(fd, buffer + sent, size - sent, MSG_NOSIGNAL)) < 0)
        break;
  close(fd);
}

static void* serve(void* unused) {
  for (;;)
    echo(accept(listener, NULL, NULL));
  return unused;
}

int main(int argc, char** argv) {
  if (argc != 3)
    return 2;
  chunk = atoi(argv[2]);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(atoi(argv[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listener, (struct sockaddr*)&address, sizeof(address)) || listen(listener, SOMAXCONN))
    return 1;
  pthread_t thread;
  for (int i = 1; i < 64; ++i)
    pthread_create(&thread, NULL, serve, NULL);
  serve(NULL);
}
