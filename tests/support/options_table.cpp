#include "options_table.hpp"

#include <cctype>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <sstream>

namespace test {
namespace {

using Fields = const echo::Options&;

std::string text_of(std::uint64_t number) {
  return number == echo::Options::never ? "never" : std::to_string(number);
}

std::string text_of(std::chrono::milliseconds time) {
  return std::to_string(time.count()) + " ms";
}

/// A flag that takes no value.
Option flag(const std::string& usage) {
  Option option{};
  option.usage = usage;
  option.flag = usage.substr(usage.find("--"));
  option.short_flag = usage.substr(0, usage.find("--") == 0 ? 0 : 2);
  return option;
}

/// `wrong` is a list with commas.
Option row(const std::string& usage, const std::string& default_value,
           const std::string& default_field, const std::string& sample,
           const std::string& sample_field, const std::string& wrong, const std::string& accepts,
           const std::string& completions, std::string (*field)(Fields)) {
  const std::size_t space = usage.rfind(' ');
  Option option = flag(usage.substr(0, space));
  option.usage = usage;
  option.placeholder = usage.substr(space + 1);
  option.variable = "ECHO_SERVER";
  for (const char c : option.flag.substr(1))
    option.variable +=
        c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::istringstream values(wrong);
  for (std::string value; std::getline(values, value, ',');)
    option.wrong.push_back(value);
  option.default_value = default_value;
  option.default_field = default_field;
  option.sample = sample;
  option.sample_field = sample_field;
  option.accepts = accepts;
  option.completions = completions;
  option.field = field;
  return option;
}

}  // namespace

const std::vector<Option>& options_table() {
  const std::string no_number = "0x10,+5,-5,1e3,0.5, 5,5 ,1'000,abc,0b1,١,";
  const std::string no_time = no_number + "0.5s,1d,s,1 s,5mm,100001h,360000001,99999999999999999h,";
  const std::string no_size = no_number + "2T,1025G,1099511627777,k,64 k,64kk,1.5k,nev,all";
  const std::string time = "a time such as 500ms, 30s, 5m or 1h, or whole seconds";
  const std::string size = "0 to 1T, or never";
  // Usage; the default, and what its field is then; the same of another value; wrong values; what
  // the error says; completions of the value; the field.
  static const std::vector<Option> table = {
      row("--host HOST", "0.0.0.0", "0.0.0.0", "::1", "::1",
          "127.0.0.1:10000,localhost:10000,[::1]:10000,http://localhost,:10000",
          "an IPv4 or IPv6 address, or a name; the port is given by --port",
          "0.0.0.0 127.0.0.1 ::", [](Fields fields) { return fields.host; }),
      row("-p, --port PORT", "10000", "10000", "080", "80",
          no_number + "65536,4294967296,99999999999999999999999,never,1k", "0 to 65535", "",
          [](Fields fields) { return text_of(fields.port); }),
      row("-c, --chunk-size SIZE", "16", "16", "64k", "65536",
          no_size + ",0,0k,17M,16777217,never,4294967296,18014398509481984k,18446744073709551615M",
          "1 to 16M, such as 64k", "", [](Fields fields) { return text_of(fields.chunk_size); }),
      row("--max-connections N", "1024", "1024", "2147483647", "2147483647",
          no_number + "0,2147483648,4294967296,4294967297,1k,never", "1 to 2147483647", "",
          [](Fields fields) { return text_of(fields.max_connections); }),
      row("--idle-timeout TIME", "never", "0 ms", "5m", "300000 ms", no_time + "360000000001ms,nev",
          time + ", or never", "never", [](Fields fields) { return text_of(fields.idle_timeout); }),
      row("--drain-timeout TIME", "5s", "5000 ms", "100000h", "360000000000 ms", no_time + "never",
          time, "", [](Fields fields) { return text_of(fields.drain_timeout); }),
      row("--delay TIME", "0", "0 ms", "20MS", "20 ms", no_time + "never", time, "",
          [](Fields fields) { return text_of(fields.delay); }),
      row("--close-after SIZE", "never", "never", "0", "0", no_size, size, "never",
          [](Fields fields) { return text_of(fields.close_after); }),
      row("--reset-after SIZE", "never", "never", "1T", "1099511627776", no_size, size, "never",
          [](Fields fields) { return text_of(fields.reset_after); }),
      row("--only-first N", "all", "never", "2", "2", no_number + "0,1k,never,99999999999999999999",
          "1 or more, or all", "all", [](Fields fields) { return text_of(fields.only_first); }),
      row("--exit-after N", "never", "never", "4294967296", "4294967296",
          no_number + "0,1k,all,18446744073709551615", "1 or more, or never", "never",
          [](Fields fields) { return text_of(fields.exit_after); }),
      row("--log-level LEVEL", "info", "info", "Warning", "warn",
          "bogus,1,critical,info ,never,err", "trace, debug, info, warn, error or off",
          "trace debug info warn error off", [](Fields fields) { return fields.log_level; }),
      flag("-v, --verbose"),
      flag("--version"),
      flag("-h, --help"),
  };
  return table;
}

}  // namespace test
