// Tells beside each check that fails what the processes of the test have said.

#if __has_include(<catch2/catch_test_macros.hpp>)
  #include <catch2/catch_assertion_info.hpp>
  #include <catch2/catch_test_case_info.hpp>
  #include <catch2/reporters/catch_reporter_event_listener.hpp>
  #include <catch2/reporters/catch_reporter_registrars.hpp>
#else
  #define CATCH_CONFIG_EXTERNAL_INTERFACES
  #include <catch2/catch.hpp>
#endif

#include <iostream>
#include <set>
#include <string>

#include "process.hpp"

namespace test {
namespace {

#if __has_include(<catch2/catch_test_macros.hpp>)
using Listener = Catch::EventListenerBase;
using AssertionEnded = void;
#else
using Listener = Catch::TestEventListenerBase;
using AssertionEnded = bool;
#endif

class FailureReport : public Listener {
 public:
  using Listener::Listener;

  void testCaseStarting(const Catch::TestCaseInfo& test) override {
    Listener::testCaseStarting(test);
    told_.clear();
    forget_stories();
  }

  AssertionEnded assertionEnded(const Catch::AssertionStats& stats) override {
    if (!stats.assertionResult.isOk())
      for (const std::string& story : stories())
        if (told_.insert(story).second)
          std::cout << story << std::flush;
    return AssertionEnded();
  }

 private:
  std::set<std::string> told_;
};

CATCH_REGISTER_LISTENER(FailureReport)

}  // namespace
}  // namespace test
