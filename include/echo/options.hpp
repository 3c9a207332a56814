// The command line and the environment, checked.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace echo {

/// What the command line and the environment ask for, checked.
struct Options {
  std::string information;  ///< For --help or --version: what to print instead of serving.
  std::string host;
  std::uint16_t port = 0;
  std::size_t chunk_size = 0;  ///< Bytes.
  std::size_t max_connections = 0;
  std::chrono::milliseconds idle_timeout{};  ///< 0 is never.
  std::chrono::milliseconds drain_timeout{};
  std::chrono::milliseconds delay{};
  std::uint64_t close_after = 0;  ///< Bytes; the largest number is never, also for the next two.
  std::uint64_t reset_after = 0;  ///< Bytes.
  std::uint64_t exit_after = 0;   ///< Clients.
  std::string log_level;          ///< In lower case.
};

/// Its text names the flag or variable, the value and what is accepted.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// For each option the flag counts, else the environment variable unless it is empty, else the
/// default. Throws UsageError.
Options parse_options(int argc, const char* const* argv);

}  // namespace echo
