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
    // expected(0, 1): a missing value is not an error of CLI11. `value` reports it.
    const CLI::Option* const added =
        option.takes_value ? app_->add_option(names)->expected(0, 1)->default_str(missing)
                           : app_->add_flag(names);
    known_.push_back({option.names.substr(option.names.find("--")), option.takes_value, added});
  }
  for (int i = 1; i < argc; ++i)
    add(argv[i]);
  std::ranges::reverse(arguments_);  // CLI11 takes them from the end.
  app_->parse(std::move(arguments_));
}

CommandLine::~CommandLine() = default;

/// Adds an argument for CLI11, or notes a misuse that CLI11 would understand as something else.
void CommandLine::add(const std::string& argument) {
  const std::string_view name = std::string_view(argument).substr(0, argument.find('='));
  const bool has_value = name.size() < argument.size();
  for (const Known& known : known_) {
    std::string misuse;
    if (name == known.name.substr(1))  // "-host", which CLI11 would read as -h.
      misuse = "use two dashes, as in -" + argument;
    else if (name == known.name && has_value && !known.takes_value)
      misuse = std::string(name) + " takes no value";
    if (!misuse.empty()) {
      misuse_ = misuse_.empty() ? "'" + argument + "': " + misuse : misuse_;
      return;
    }
    if (name == known.name && argument.size() == name.size() + 1) {
      // CLI11 would take the next argument as the value of --host=.
      arguments_.insert(arguments_.end(), {std::string(name), ""});
      return;
    }
  }
  arguments_.push_back(argument);
}

const CLI::Option& CommandLine::option(std::string_view name) const {
  return *std::ranges::find(known_, name, &Known::name)->option;
}

bool CommandLine::has(std::string_view name) const {
  return option(name).count() > 0;
}

Value CommandLine::value(std::string_view name) const {
  const std::string text = option(name).results().back();
  return text == missing ? Value{std::string(name), "", true} : Value{std::string(name), text};
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
