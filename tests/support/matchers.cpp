#include "matchers.hpp"

#include <algorithm>
#include <cstddef>
#include <sstream>
#include <string>
#include <string_view>

#include "echo/log.hpp"

namespace test {

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

Comparison same_bytes(std::string_view actual, std::string_view expected) {
  if (actual == expected)
    return {};
  const auto at =
      static_cast<std::size_t>(std::ranges::mismatch(actual, expected).in1 - actual.begin());
  std::ostringstream out;
  out << actual.size() << " bytes instead of " << expected.size() << ", from byte " << at
      << " on:\n  \"" << echo::escaped(actual.substr(at, 32)) << "\"\n  instead of\n  \""
      << echo::escaped(expected.substr(at, 32)) << '"';
  return {out.str()};
}

void skip(const std::string& reason) {
  note_skip(reason);
  throw Catch::TestFailureException();  // Ends the test without being a failure.
}

}  // namespace test
