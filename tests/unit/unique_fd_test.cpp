#include "echo/unique_fd.hpp"

#include <fcntl.h>

#include <utility>

#include "matchers.hpp"  // IWYU pragma: keep

namespace {

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) != -1;
}
echo::UniqueFd open_one() {
  return echo::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

}  // namespace

TEST_CASE("descriptor is closed with its owner", "[unique_fd]") {
  int number = -1;
  {
    const echo::UniqueFd fd = open_one();
    number = fd.get();
    REQUIRE(is_open(number));
  }
  REQUIRE_FALSE(is_open(number));
}

TEST_CASE("descriptor that is moved has one owner", "[unique_fd]") {
  echo::UniqueFd first = open_one();
  const int number = first.get();
  echo::UniqueFd second = std::move(first);
  REQUIRE_FALSE(first);  // NOLINT(bugprone-use-after-move): this is what the test is about.
  REQUIRE(second.get() == number);

  echo::UniqueFd third = open_one();
  const int closed_by_assignment = third.get();
  third = std::move(second);
  REQUIRE(third.get() == number);
  REQUIRE(is_open(number));
  REQUIRE_FALSE(is_open(closed_by_assignment));
}
