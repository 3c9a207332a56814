// Prints beside each failed check what the processes of the test have said, and why a test was
// skipped.

#include "matchers.hpp"
#if __has_include(<catch2/catch_test_macros.hpp>)
  #include <catch2/catch_assertion_info.hpp>
  #include <catch2/catch_test_case_info.hpp>
  #include <catch2/reporters/catch_reporter_event_listener.hpp>
  #include <catch2/reporters/catch_reporter_registrars.hpp>
#endif

#include <stdlib.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <regex>
#include <set>
#include <string>

#include "process.hpp"

namespace test {
namespace {

#if __has_include(<catch2/catch_test_macros.hpp>)
using EventListener = Catch::EventListenerBase;
using AssertionEnded = void;
#else
using EventListener = Catch::TestEventListenerBase;
using AssertionEnded = bool;
#endif

std::set<std::string> skip_reasons;  ///< Of this test.

class FailureReport : public EventListener {
 public:
  using EventListener::EventListener;

  void testRunStarting(const Catch::TestRunInfo& run) override {
    EventListener::testRunStarting(run);
    // This is where ip, tc and ss are, but not every user's PATH leads there.
    const char* const path = std::getenv("PATH");
    ::setenv("PATH",
             ((path == nullptr ? "/usr/bin:/bin" : path) + std::string(":/usr/sbin:/sbin")).c_str(),
             1);
  }

  void testCaseStarting(const Catch::TestCaseInfo& test) override {
    EventListener::testCaseStarting(test);
    name_ = test.name;
    told_.clear();
    skip_reasons.clear();
    forget_stories();
  }

  AssertionEnded assertionEnded(const Catch::AssertionStats& stats) override {
    if (!stats.assertionResult.isOk())
      for (const std::string& story : stories())
        if (told_.insert(story).second)
          std::cout << story << std::flush;
    return AssertionEnded();
  }

  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    EventListener::testCaseEnded(stats);
    if (stats.totals.assertions.failed > 0)
      return;
    const char* const file = std::getenv("ECHO_SKIPPED");
    for (const std::string& reason : skip_reasons) {
      std::cout << "skipped: " << reason << std::endl;
      if (file != nullptr)  // In one write, since tests run in parallel.
        std::ofstream(file, std::ios::app) << "skipped: " + name_ + ": " + reason + '\n';
    }
  }

 private:
  std::string name_;
  std::set<std::string> told_;
};

CATCH_REGISTER_LISTENER(FailureReport)

}  // namespace

void note_skip(const std::string& reason) {
  if (const char* const file = std::getenv("ECHO_SKIPS_ALLOWED")) {
    std::ifstream allowed(file);
    bool is_allowed = false;
    for (std::string line; std::getline(allowed, line);)
      is_allowed = is_allowed || std::regex_search(reason, std::regex(line));
    if (!is_allowed)
      FAIL_CHECK("this test may not be left out: " << reason);
  }
  skip_reasons.insert(reason);
}

}  // namespace test
