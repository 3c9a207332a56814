// What each option that takes a value must do with it. A new option needs a row here, from which
// its default, its forms, its variable, its errors and its place in the documents are tested.
#pragma once

#include <string>
#include <vector>

#include "echo/options.hpp"
#include "process.hpp"

namespace test {

struct Option {
  struct Value {
    std::string typed;
    std::string field;  ///< As `Option::field` shows it.
  };

  std::string name;  ///< "--port"
  Value default_value;
  Value sample;          ///< Another value.
  Words wrong;           ///< Values that are refused. (No greeting is.)
  std::string accepted;  ///< What the error says then.
  std::string fault;     ///< What the log says about the sample if the option tests a client.
  std::string (*field)(const echo::Options& options);

  std::string variable() const;  ///< "ECHO_SERVER_PORT"
};

const std::vector<Option>& options_table();

}  // namespace test
