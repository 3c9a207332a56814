#include "options_table.hpp"

#include <cctype>
#include <chrono>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "echo/options.hpp"
#include "process.hpp"

namespace test {
namespace {

using Fields = const echo::Options&;

std::string number_text(std::uint64_t number) {
  return number == echo::Options::never ? "never" : std::to_string(number);
}

std::string time_text(std::chrono::milliseconds time) {
  return std::to_string(time.count()) + " ms";
}

/// The parts of a list with commas.
Words values(const std::string& list) {
  Words words;
  std::istringstream rest(list);
  for (std::string word; std::getline(rest, word, ',');)
    words.push_back(word);
  return words;
}

const std::string no_number = "0x10,+5,-5,1e3,0.5, 5,5 ,1'000,abc,0b1,١,";
const std::string no_time = no_number + "0.5s,1d,s,1 s,5mm,100001h,360000001,99999999999999999h,";
const std::string no_size =
    no_number + "2T,1025G,18014398509481984k,1099511627777,k,64 k,64kk,1.5k,nev,all";
const std::string no_count = no_number + "0,1k,99999999999999999999,";
const std::string times = "500ms, 30s, 5m or 1h";

}  // namespace

std::string Option::variable() const {
  std::string variable = "ECHO_SERVER";
  for (const char c : name.substr(1))
    variable += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return variable;
}

const std::vector<Option>& options_table() {
  static const std::vector<Option> table = {
      {.name = "--host",
       .default_value = {"0.0.0.0", "0.0.0.0"},
       .sample = {"[::1]", "::1"},
       .wrong = values("127.0.0.1:10000,localhost:10000,[::1]:10000,http://localhost,:10000,10000,"
                       "*,[]"),
       .accepted = "(:: or 0.0.0.0 for all addresses; give the port with --port)",
       .field = [](Fields fields) { return fields.host; }},
      {.name = "--port",
       .default_value = {"10000", "10000"},
       .sample = {"080", "80"},
       .wrong = values(no_number + "65536,4294967296,99999999999999999999999,never,1k"),
       .accepted = "0 to 65535",
       .field = [](Fields fields) { return number_text(fields.port); }},
      {.name = "--chunk-size",
       .default_value = {"16", "16"},
       .sample = {"64k", "65536"},
       .wrong = values(no_size + ",0,0k,17M,16777217,never,4294967296,"
                                 "18446744073709551615M"),
       .accepted = "1 to 16M, such as 64k",
       .field = [](Fields fields) { return number_text(fields.chunk_size); }},
      {.name = "--max-connections",
       .default_value = {"1024", "1024"},
       .sample = {"2147483647", "2147483647"},
       .wrong = values(no_number + "2147483648,4294967296,4294967297,1k,never"),
       .accepted = "0 to 2147483647",
       .field = [](Fields fields) { return number_text(fields.max_connections); }},
      {.name = "--idle-timeout",
       .default_value = {"never", "0 ms"},
       .sample = {"5m", "300000 ms"},
       .wrong = values(no_time + "360000000001ms,nev"),
       .accepted = times,
       .field = [](Fields fields) { return time_text(fields.idle_timeout); }},
      {.name = "--drain-timeout",
       .default_value = {"5s", "5000 ms"},
       .sample = {"100000h", "360000000000 ms"},
       .wrong = values(no_time + "never"),
       .accepted = times,
       .field = [](Fields fields) { return time_text(fields.drain_timeout); }},
      {.name = "--greeting",
       .default_value = {"", ""},
       .sample = {"{client}\\n=", "{client}\\n="},
       .field = [](Fields fields) { return fields.greeting; }},
      {.name = "--delay",
       .default_value = {"0", "0 ms"},
       .sample = {"20MS", "20 ms"},
       .wrong = values(no_time + "never"),
       .accepted = times,
       .fault = "20 ms",
       .field = [](Fields fields) { return time_text(fields.delay); }},
      {.name = "--close-after",
       .default_value = {"never", "never"},
       .sample = {"0", "0"},
       .wrong = values(no_size),
       .accepted = "0 to 1T, or never",
       .fault = "0 bytes",
       .field = [](Fields fields) { return number_text(fields.close_after); }},
      {.name = "--reset-after",
       .default_value = {"never", "never"},
       .sample = {"1T", "1099511627776"},
       .wrong = values(no_size),
       .accepted = "0 to 1T, or never",
       .fault = "1099511627776 bytes",
       .field = [](Fields fields) { return number_text(fields.reset_after); }},
      {.name = "--stall-after",
       .default_value = {"never", "never"},
       .sample = {"1", "1"},
       .wrong = values(no_size),
       .accepted = "0 to 1T, or never",
       .fault = "1 byte",
       .field = [](Fields fields) { return number_text(fields.stall_after); }},
      {.name = "--only-first",
       .default_value = {"all", "never"},
       .sample = {"2", "2"},
       .wrong = values(no_count + "never"),
       .accepted = "1 or more, or all",
       .fault = "2 connections",
       .field = [](Fields fields) { return number_text(fields.only_first); }},
      {.name = "--exit-after",
       .default_value = {"never", "never"},
       .sample = {"4294967296", "4294967296"},
       .wrong = values(no_count + "all,18446744073709551615"),
       .accepted = "1 or more, or never",
       .fault = "4294967296 connections",
       .field = [](Fields fields) { return number_text(fields.exit_after); }},
      {.name = "--log-level",
       .default_value = {"info", "info"},
       .sample = {"Warning", "warn"},
       .wrong = values("bogus,1,critical,info ,never,err"),
       .accepted = "trace, debug, info, warn, error or off",
       .field = [](Fields fields) { return fields.log_level; }},
  };
  return table;
}

}  // namespace test
