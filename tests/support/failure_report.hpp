// What is printed beside the result of a test.
#pragma once

#include <string>

namespace test {

/// Has the report say at the end of the test why it was skipped, unless it has failed.
void report_skip(const std::string& reason);

}  // namespace test
