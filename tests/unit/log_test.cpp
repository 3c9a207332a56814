#include "echo/log.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <regex>
#include <string>

#include "echo/unique_fd.hpp"
#include "matchers.hpp"
#include "sandbox.hpp"

namespace {

using test::contains;

/// This process's log, sent to a descriptor in the place of stderr.
class Log {
 public:
  explicit Log(const echo::UniqueFd& fd, const std::string& level = "info") {
    ::dup2(fd.get(), STDERR_FILENO);
    echo::set_up_log(level);
  }
  ~Log() {
    ::dup2(stderr_.get(), STDERR_FILENO);
    spdlog::set_default_logger(logger_);
  }

 private:
  const echo::UniqueFd stderr_{::dup(STDERR_FILENO)};
  const std::shared_ptr<spdlog::logger> logger_ = spdlog::default_logger();
};

/// What is in the pipe now; at least a byte must be.
std::string read_some(const test::Pipe& pipe) {
  std::string text(65'536, '\0');
  const auto count = ::read(pipe.read_end.get(), text.data(), text.size());
  REQUIRE(count > 0);
  text.resize(static_cast<std::size_t>(count));
  return text;
}

bool matches(const std::string& text, const std::string& pattern) {
  return std::regex_match(text, std::regex(pattern));
}

}  // namespace

TEST_CASE("a line has date, time and the word of its level", "[log]") {
  const test::Pipe pipe;
  const Log log(pipe.write_end, "trace");
  const std::string time = R"(\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] )";
  for (const std::string level : {"trace", "debug", "info", "warn", "error"}) {
    spdlog::log(spdlog::level::from_str(level), "hello");
    const std::string line = read_some(pipe);
    CAPTURE(line);
    CHECK(matches(line, time + "\\[" + level + "\\] hello\n"));
  }
}

TEST_CASE("a level keeps the lines below it away", "[log]") {
  const test::Pipe pipe;
  const Log log(pipe.write_end, "warn");
  spdlog::info("below");
  spdlog::warn("above");
  spdlog::critical("in any case");
  const std::string text = read_some(pipe);
  CHECK_THAT(text,
             !contains("below") && contains("[warn] above\n") && contains("[info] in any case\n"));
}

TEST_CASE("a log that is off is silent in any case", "[log]") {
  const test::Pipe pipe;
  const Log log(pipe.write_end, "off");
  spdlog::error("hello");
  spdlog::critical("hello");
  REQUIRE(::write(pipe.write_end.get(), "!", 1) == 1);
  CHECK(read_some(pipe) == "!");
}

TEST_CASE("what a client sends steers no terminal and forges no line", "[log]") {
  CHECK(echo::escaped("plain, täxt 日本") == "plain, täxt 日本");
  CHECK(echo::escaped("a\nb\tc\033[31m\"\\") == R"(a\nb\tc\x1b[31m\"\\)");
  CHECK_THAT(echo::escaped("\xff\xc3"), contains("\\xff\\xc3"));
  CHECK_THAT(echo::escaped("\u202e\u200b"), contains("\\u202e\\u200b"));
  CHECK(echo::escaped("") == "");
}

TEST_CASE("one of a thing is no plural", "[log]") {
  CHECK(std::string(echo::plural(0)) == "s");
  CHECK(std::string(echo::plural(1)).empty());
  CHECK(std::string(echo::plural(2)) == "s");
}
