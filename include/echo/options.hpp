// The command line and the environment, checked.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <variant>

namespace echo {

/// What the command line and the environment ask for, checked.
struct Options {
  std::string host;
  std::uint16_t port = 0;
  std::size_t chunk_size = 0;  ///< Bytes.
  std::size_t max_connections = 0;
  std::chrono::milliseconds idle_timeout{};  ///< 0 is never.
  std::chrono::milliseconds drain_timeout{};
  std::string log_level;  ///< In lower case.
};

/// Text for --help or --version, to be printed instead of serving.
using Information = std::string;

/// Its text names the flag or variable and what it accepts.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// For each option the flag counts, else the environment variable unless it is empty, else the
/// default. Throws UsageError.
std::variant<Options, Information> parse_options(int argc, const char* const* argv);

}  // namespace echo
