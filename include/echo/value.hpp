// The text that an option is set to, and its conversion to a number, a time or a size.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace echo {

/// A value or an option that is not accepted. The text names it, and what is accepted.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The text that an option is set to, and the option or environment variable that it comes from.
struct Value {
  std::string source, text;
  bool is_missing = false;  ///< The option was the last argument, or another option follows it.

  /// Whether the text is `word`, in any case.
  bool is(std::string_view word) const;
  /// "--port '70000'".
  std::string shown() const;
  /// Throws UsageError "--port '70000': must be <accepted>".
  [[noreturn]] void reject(const std::string& accepted) const;
};

/// `text` with ASCII letters in lower case.
std::string lower(std::string text);

// Each of the following functions rejects a value that it cannot convert. Numbers are plain decimal
// digits, and units are accepted in any case.

using Unit = std::pair<std::string_view, std::uint64_t>;
std::uint64_t parse_number(const Value& value, std::uint64_t min, std::uint64_t max,
                           const std::string& accepted, std::span<const Unit> units = {});

/// In bytes. Units are powers of 1024: "64k", "64KB" and "64KiB" all mean 65,536.
std::uint64_t parse_size(const Value& value, std::uint64_t min, std::uint64_t max,
                         const std::string& accepted);

/// "500ms", "30s", "5m", "1h", or a number of seconds. `or_never` is added to what is accepted.
std::chrono::milliseconds parse_time(const Value& value, const std::string& or_never = "");

/// An address or a name, for the resolver: "[::1]" is returned as "::1".
std::string parse_host(const Value& value);

/// Any text, even an empty one.
std::string parse_text(const Value& value);

/// A log level in lower case; "warning" is returned as "warn".
std::string parse_level(const Value& value);

/// The number that stands for "never" and "all".
constexpr std::uint64_t never = UINT64_MAX;

/// How the log names what an option is set to: "100 s", "5 bytes". Empty for 0 s and for `never`.
std::string in_words(std::chrono::milliseconds time);
std::string in_words(std::uint64_t number, const std::string& unit);

/// `text` with each `placeholder` replaced by `value`, which is not searched again.
std::string replaced(std::string text, std::string_view placeholder, std::string_view value);

}  // namespace echo
