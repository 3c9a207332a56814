// System calls that fail, are interrupted, or are refused by a sandbox (injected by strace).

#include <string>
#include <vector>

#include "client.hpp"
#include "matchers.hpp"
#include "process.hpp"
#include "sandbox.hpp"
#include "server.hpp"

namespace test {

TEST_CASE("interrupted system calls neither cause an error nor end a wait", "[failing_calls]") {
  // SIGSTOP with SIGCONT, or a tracer, interrupts calls like this.
  const std::string tamper =
      GENERATE("poll,ppoll:error=EINTR:when=1..3", "write:error=EINTR:when=1+2",
               "accept4:error=EINTR:when=1..3", "recvfrom:error=EINTR:when=1+2",
               "sendto:error=EINTR:when=1+2", "rt_sigtimedwait:error=EINTR:when=1..3");
  CAPTURE(tamper);
  Server server({"-v"}, with_faults(tamper));
  Client client(server.port());
  const std::string data = pattern(2000);
  CHECK(same_bytes(client.exchange(data), data));
  CHECK(client.finish().empty());
  CHECK(server.stop() == 0);
  CHECK_THAT(server.log(), !contains(" error ") && !contains(" warn "));
  CHECK_THAT(server.log(), contains(" info stopped: "));
}

TEST_CASE("accept is retried after every error unless the listener was shut down",
          "[failing_calls]") {
  const auto& [error, words] =
      GENERATE(table<std::string, std::string>({{"ENFILE", "Too many open files in system"},
                                                {"ENOBUFS", "No buffer space available"},
                                                {"ENOMEM", "Cannot allocate memory"},
                                                {"EPERM", "Operation not permitted"},
                                                {"ECONNABORTED", ""},
                                                {"EPROTO", ""}}));
  CAPTURE(error);
  Server server({}, with_faults("accept4:error=" + error + ":when=1..3"));
  CHECK(Client(server.port()).exchange("hello") == "hello");
  // A client that is gone before it is accepted is no trouble.
  const bool is_trouble = !words.empty();
  if (is_trouble)
    server.wait_for_log(" error accepting connections again\n");
  CHECK(server.stop() == 0);
  CHECK(count_of(server.log(), " error cannot accept: " + words) == (is_trouble ? 1 : 0));
  CHECK(count_of(server.log(), " error ") == (is_trouble ? 2 : 0));
}

TEST_CASE("listener that is shut down from outside ends the server with status 1",
          "[failing_calls]") {
  const std::string lost = " error cannot accept: the listening socket was shut down from outside";
  // This is the second call of each worker, so only those that have served a client make it.
  Server server({}, with_faults("accept4:error=EINVAL:when=2+"));
  Client client = served_client(server.port());
  Client next = served_client(server.port());
  CHECK(next.finish().empty());
  server.wait_for_log(lost);
  CHECK(client.exchange("still here") == "still here");
  CHECK(client.finish().empty());
  CHECK(server.wait() == 1);
  CHECK_THAT(server.log(), contains("stopped: 2 connections served, 20 bytes echoed"));
  CHECK(count_of(server.log(), " error ") == 1);

  Server with_verdict({"--exit-after", "5"}, with_faults("accept4:error=EINVAL"));
  CHECK(with_verdict.wait() == 1);
  CHECK_THAT(with_verdict.log(), contains(lost));
}

TEST_CASE("network timeout counts as a failure if no idle timeout is set", "[failing_calls]") {
  // Keep-alive probes cause this error.
  Server server({}, with_faults("recvfrom:error=ETIMEDOUT:when=1"));
  Client client(server.port());
  CHECK(client.receive_all().empty());
  server.wait_for_log(" warn connection from " + client.address() + " failed: ");
  CHECK_THAT(server.log(), contains("Connection timed out (0 bytes"));
}

TEST_CASE("startup errors name the system call that failed", "[failing_calls]") {
  const auto& [tamper, text] = GENERATE(table<std::string, std::string>({
      {"setsockopt:error=ENOBUFS:when=1", "set SO_REUSEADDR: No buffer space available"},
      {"setsockopt:error=ENOBUFS:when=2", "set IPV6_V6ONLY: No buffer space available"},
      {"setsockopt:error=ENOBUFS:when=3", "set TCP_NODELAY: No buffer space available"},
      {"setsockopt:error=ENOBUFS:when=4", "set SO_OOBINLINE: No buffer space available"},
      {"setsockopt:error=ENOBUFS:when=5", "set SO_KEEPALIVE: No buffer space available"},
      {"socket:error=EAFNOSUPPORT", "listen on [::]:0: Address family not supported by protocol"},
      {"listen:error=EADDRINUSE", "listen on [::]:0: Address already in use"},
      {"clone,clone3:error=EAGAIN", "start a thread: Resource temporarily unavailable"},
  }));
  CAPTURE(tamper);
  const auto finished = run_server({"--host", "::", "--port", "0"}, with_faults(tamper));
  CHECK(finished.status == 1);
  CHECK(finished.out.empty());
  CHECK(finished.err == "echo-server: cannot " + text + '\n');
}

TEST_CASE("open-file limit that cannot be read or raised affects nothing else", "[failing_calls]") {
  need_own_memory();
  for (const std::string calls : {"prlimit64,setrlimit", "prlimit64,getrlimit"}) {
    Server server({},
                  with_limit("nofile=64:333", with_faults("?" + calls + ":error=EPERM:when=2+")));
    std::vector<Client> clients;
    for (int i = 0; i < 20; ++i)
      CHECK(clients.emplace_back(server.port()).exchange("hello") == "hello");
    CHECK(server.stop() == 0);
  }
}

TEST_CASE("sandbox denying a system call cannot cause a busy loop or prevent a stop",
          "[failing_calls]") {
  const std::string call = GENERATE("ioctl", "getsockopt", "recvfrom", "sendto", "accept4");
  CAPTURE(call);
  Server server({"--drain-timeout", "1h"}, with_faults(call + ":error=EPERM"));
  Client client(server.port());
  client.try_to_send("hello");
  if (call == "ioctl" || call == "getsockopt")
    CHECK(client.receive(5) == "hello");
  CHECK(server.is_at_rest());
  CHECK(server.stop() == 0);
}

TEST_CASE("proc file system is not needed", "[failing_calls]") {
  need_own_memory();  // A sanitizer needs /proc.
  const Setup setup{
      .prefix = {"unshare", "--mount", "sh", "-c", "umount -l /proc && exec \"$0\" \"$@\""}};
  if (run("true", {}, "", setup).status != 0)
    skip("no mount namespaces here");
  Server server({"-v"}, setup);
  const std::string data = pattern(1 << 20);
  CHECK(same_bytes(Client(server.port()).exchange(data), data));
  server.wait_for_log("connection accepted");
  CHECK(server.stop() == 0);
}

}  // namespace test
