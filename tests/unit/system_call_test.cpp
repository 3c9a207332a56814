#include "echo/system_call.hpp"

#include <cerrno>
#include <string>
#include <system_error>

#include "matchers.hpp"  // IWYU pragma: keep

namespace {

/// A system call that fails with `error` so many times, and then returns 7.
auto failing(int error, int times, int& calls) {
  return [=, &calls] {
    errno = error;
    return ++calls <= times ? -1 : 7;
  };
}

}  // namespace

TEST_CASE("interrupted call is made again", "[system_call]") {
  int calls = 0;
  CHECK(echo::retry(failing(EINTR, 3, calls)) == 7);
  CHECK(calls == 4);
}

TEST_CASE("failed call is made once", "[system_call]") {
  int calls = 0;
  CHECK(echo::retry(failing(EAGAIN, 3, calls)) == -1);
  CHECK(errno == EAGAIN);
  CHECK(calls == 1);
}

TEST_CASE("error becomes an exception that names the action", "[system_call]") {
  errno = ENOENT;
  try {
    echo::checked(-1, "open the door");
    FAIL("no exception");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::no_such_file_or_directory);
    CHECK(std::string(error.what()) == "open the door: No such file or directory");
  }
}
