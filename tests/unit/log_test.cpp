#include "echo/log.hpp"

#include <string>

#include "matchers.hpp"

using test::contains;

TEST_CASE("what a client sends steers no terminal and forges no line", "[log]") {
  CHECK(echo::escaped("plain, täxt 日本") == "plain, täxt 日本");
  CHECK(echo::escaped("a\nb\tc\033[31m\"\\") == R"(a\nb\tc\x1b[31m\"\\)");
  CHECK_THAT(echo::escaped("\xff\xc3"), contains("\\xff\\xc3"));
  CHECK_THAT(echo::escaped("\u202e\u200b"), contains("\\u202e\\u200b"));
  CHECK(echo::escaped("") == "");
}
