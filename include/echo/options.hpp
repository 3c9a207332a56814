// What the user asks for.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace echo {

/// What the command line and the environment ask for, checked.
struct Options {
  static constexpr std::uint64_t never = UINT64_MAX;

  std::string information;  ///< For --help or --version: what to print instead of serving.
  std::string host;
  std::uint16_t port = 0;
  std::size_t chunk_size = 16;  ///< Bytes, 1 or more.
  std::size_t max_connections = 1024;
  std::chrono::milliseconds idle_timeout{};   ///< 0 is never.
  std::chrono::milliseconds drain_timeout{};  ///< 0 cuts at once.
  std::chrono::milliseconds delay{};          ///< Before each chunk goes back.
  std::uint64_t close_after = never;          ///< Bytes that go back before the end of file.
  std::uint64_t reset_after = never;          ///< Bytes that go back before a reset.
  std::uint64_t only_first = never;           ///< Clients for whom the three above hold.
  std::uint64_t exit_after = never;           ///< Clients.
  std::string log_level;                      ///< In lower case.

  /// The bytes that go back to a client before the server ends the connection on purpose.
  std::uint64_t limit() const { return close_after < reset_after ? close_after : reset_after; }
  bool ends_by_reset() const { return reset_after < close_after; }
};

/// Its text names the flag or variable, the value and what is accepted.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// For each option the flag counts, else the environment variable, else the default. Throws
/// UsageError.
Options parse_options(int argc, const char* const* argv);

}  // namespace echo
