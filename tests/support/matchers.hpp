// Catch2, and what tests of every kind check about a text.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
  #include <catch2/catch_test_macros.hpp>
  #include <catch2/generators/catch_generators.hpp>
  #include <catch2/internal/catch_test_failure_exception.hpp>
  #include <catch2/matchers/catch_matchers.hpp>
  #include <catch2/matchers/catch_matchers_string.hpp>
#else  // Version 2, as in Debian 12. The macro is for the listener in failure_report.cpp.
  #define CATCH_CONFIG_EXTERNAL_INTERFACES
  #include <catch2/catch.hpp>
#endif

#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>

namespace test {

/// For CHECK_THAT: matches a text that contains `part`. `!contains(part)` matches the others.
inline auto contains(const std::string& part) {
#if __has_include(<catch2/catch_test_macros.hpp>)
  return Catch::Matchers::ContainsSubstring(part);
#else
  return Catch::Matchers::Contains(part);
#endif
}

/// How often `part` is in `text`.
std::size_t count_of(std::string_view text, std::string_view part);

/// What `same_bytes` found; true if there is no difference.
struct Comparison {
  std::string difference;

  explicit operator bool() const { return difference.empty(); }
  friend std::ostream& operator<<(std::ostream& out, const Comparison& comparison) {
    return out << comparison.difference;
  }
};

/// For CHECK and REQUIRE, where texts are too long or too binary to be printed: a failure tells
/// both lengths and shows the first bytes that differ.
[[nodiscard]] Comparison same_bytes(std::string_view actual, std::string_view expected);

/// Has ctest count this test as skipped, unless a check fails. The reason is printed when the test
/// ends, and added to the file that the variable ECHO_SKIPPED names. If the variable
/// ECHO_SKIPS_ALLOWED names a file of regular expressions, one per line, and none of them matches
/// the reason, the test fails.
void note_skip(const std::string& reason);

/// The same, and ends the test now.
[[noreturn]] void skip(const std::string& reason);

#ifndef __has_feature
  #define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool sanitized = true;  // Memory and time are then not the program's own.
#else
constexpr bool sanitized = false;
#endif

/// Skips the test where a sanitizer owns the memory.
inline void need_own_memory() {
  if (sanitized)
    skip("a sanitizer uses memory in its own way");
}

}  // namespace test
