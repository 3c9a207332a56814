// The command line, split into options and values. The only module that knows CLI11.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "echo/value.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace echo {

class CommandLine {
 public:
  /// What can be given: "-p,--port", and whether it takes a value.
  struct Option {
    std::string_view names;
    bool takes_value;
  };

  /// Reads the arguments that follow argv[0]. Throws nothing for what is wrong in them, because
  /// --help works even next to a wrong option; `check` does.
  CommandLine(std::span<const Option> options, int argc, const char* const* argv);
  ~CommandLine();

  /// Whether an option was given. Options are named by their long name: "--port".
  bool has(std::string_view name) const;

  /// The last value that was given to an option. Only if `has(name)`.
  Value value(std::string_view name) const;

  /// Throws UsageError for the first argument that is no option and no value of one.
  void check() const;

 private:
  /// An option by its long name.
  struct Known {
    std::string_view name;
    bool takes_value;
    const CLI::Option* option;
  };

  void add(const std::string& argument);
  const CLI::Option& option(std::string_view name) const;

  std::unique_ptr<CLI::App> app_;
  std::vector<Known> known_;
  std::vector<std::string> arguments_;
  std::string misuse_;  ///< What `check` throws, if it is already known.
};

}  // namespace echo
