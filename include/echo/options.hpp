// What the user asks for.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "echo/value.hpp"

namespace echo {

/// What the command line and the environment ask for, checked. The defaults that users see are in
/// the table in options.cpp; those here only keep a field from being undefined.
struct Options {
  static constexpr std::uint64_t never = echo::never;

  std::string host;
  std::uint16_t port = 0;
  std::size_t chunk_size = 1;  ///< Bytes, at least 1.
  std::size_t max_connections = 1;
  std::chrono::milliseconds idle_timeout{};  ///< 0 means never.
  std::chrono::milliseconds drain_timeout{};
  std::string log_level = "info";     ///< In lower case.
  std::string greeting;               ///< With its placeholders, without the newline.
  std::chrono::milliseconds delay{};  ///< Before each chunk is sent back.
  std::uint64_t close_after = never;  ///< Bytes. At most one of these three is set.
  std::uint64_t reset_after = never;  ///< Bytes.
  std::uint64_t stall_after = never;  ///< Bytes.
  std::uint64_t only_first = never;   ///< Connections to which --delay and the limits apply.
  std::uint64_t exit_after = never;   ///< Connections.

  /// The options that test a client and were set, as the log names them: "--delay 100 s".
  std::string test_settings;
  /// What to print instead of serving: the text for --help or --version.
  std::string information;

  /// How many bytes are sent back before --close-after, --reset-after or --stall-after acts.
  std::uint64_t limit() const { return std::min({close_after, reset_after, stall_after}); }
};

/// Each option has the value from the command line, otherwise the one of its environment variable,
/// otherwise its default. Throws UsageError.
Options parse_options(int argc, const char* const* argv);

}  // namespace echo
