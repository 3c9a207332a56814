// The options, one row each. Tests of flag, variable, default, error, help, manual page, README and
// completions go through this table.
#pragma once

#include <string>
#include <vector>

#include "echo/options.hpp"
#include "process.hpp"

namespace test {

struct Option {
  std::string usage;        ///< "-p, --port PORT"
  std::string flag;         ///< "--port"
  std::string short_flag;   ///< "-p", or empty.
  std::string placeholder;  ///< "PORT"; empty for a flag that takes no value, and so is all below.
  std::string variable;     ///< "ECHO_SERVER_PORT"

  std::string default_value;  ///< As it would be typed.
  std::string default_field;  ///< As `field` shows it.
  std::string sample;         ///< Another value, as it would be typed.
  std::string sample_field;
  Words wrong;              ///< Values that are refused,
  std::string accepts;      ///< with these words.
  std::string completions;  ///< What a shell offers for the value, if it knows.
  std::string (*field)(const echo::Options& options);
};

const std::vector<Option>& options_table();

}  // namespace test
