#include "echo/command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "echo/value.hpp"

namespace echo {
namespace {

/// The value that CLI11 returns for an option without one. No argument can contain this character.
const std::string missing{'\0'};

std::string long_name(std::string_view names) {
  return std::string(names.substr(names.find("--")));
}

}  // namespace

// CLI11 splits the arguments, and does nothing else here. It could convert values, read environment
// variables and print help, but not in the same way in all of its versions from 2.1.2 to 2.7, and
// not always as it is right for this program:
// - `envname`: up to 2.3.2, an error names the option instead of the variable, and even --help then
//   fails; from 2.4.0 on, a wrong value in the environment is silently ignored.
// - Typed options and `AsNumberWithUnit` read 010 as 8, and accept 0x10 and "64 k".
// - `excludes` sees only that an option is present, so `--reset-after never` would be an error.
// - `set_help_flag`: up to 2.4.2, `--port x --help` is an error.
// - `Formatter` and `footer` wrap lines differently, or not at all.
CommandLine::CommandLine(std::span<const Option> options, int argc, const char* const* argv)
    : app_(std::make_unique<CLI::App>()) {
  app_->set_help_flag();
  app_->allow_extras();
  app_->option_defaults()->take_last();
  for (const Option& option : options) {
    const std::string names(option.names);
    if (option.takes_value)  // But without one, it is `value` that says so, and not CLI11.
      app_->add_option(names)->expected(0, 1)->default_str(missing);
    else
      app_->add_flag(names);
  }
  for (const std::string argument : std::span(argv + 1, argv + argc))
    add(argument, options);
  std::ranges::reverse(arguments_);  // CLI11 takes them from the end.
  app_->parse(std::move(arguments_));
}

CommandLine::~CommandLine() = default;

/// Adds an argument for CLI11, or notes a misuse that CLI11 would understand as something else.
void CommandLine::add(const std::string& argument, std::span<const Option> options) {
  for (const Option& option : options) {
    const std::string name = long_name(option.names);
    const std::string one_dash = name.substr(1);
    std::string misuse;
    if (option.takes_value && argument == name + '=') {
      // CLI11 would take the next argument as the value.
      arguments_.insert(arguments_.end(), {name, ""});
      return;
    }
    if (!option.takes_value && argument.starts_with(name + '='))
      misuse = name + " takes no value";
    else if (argument == one_dash || argument.starts_with(one_dash + '='))
      misuse = "use two dashes, as in -" + argument;  // CLI11 would read -host as -h, for help.
    if (misuse.empty())
      continue;
    if (misuse_.empty())
      misuse_ = "'" + argument + "': " + misuse;
    return;
  }
  arguments_.push_back(argument);
}

bool CommandLine::has(const std::string& name) const {
  return app_->count(name) > 0;
}

Value CommandLine::value(const std::string& name) const {
  const std::string text = app_->get_option(name)->results().back();
  return text == missing ? Value{name, "", true} : Value{name, text};
}

void CommandLine::check() const {
  if (!misuse_.empty())
    throw UsageError(misuse_);
  for (const std::string& argument : app_->remaining()) {
    if (argument == "--")
      continue;
    if (argument.size() > 1 && argument.starts_with('-'))
      throw UsageError("unknown option '" + argument + "'");
    const bool is_port =
        !argument.empty() && argument.find_first_not_of("0123456789") == argument.npos;
    throw UsageError("unexpected argument '" + argument + "': " +
                     (is_port ? "use --port " + argument
                              : "use --host HOST and --port PORT; "
                                "a value is one word, such as 100ms"));
  }
}

}  // namespace echo
