#include "readme.hpp"

#include <fstream>
#include <iterator>
#include <sstream>

#include "catch.hpp"

namespace test {

std::string contents_of(const std::string& file) {
  std::ifstream in(ECHO_SOURCE_DIR "/" + file);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<Block> readme_blocks(const std::string& language) {
  std::vector<Block> blocks;
  std::istringstream readme(contents_of("README.md"));
  for (std::string line; std::getline(readme, line);) {
    if (line.rfind("```", 0) != 0)
      continue;
    Block block{line.substr(3), ""};
    while (std::getline(readme, line) && line != "```")
      block.text += line + "\n";
    if (block.language == language)
      blocks.push_back(block);
  }
  REQUIRE_FALSE(blocks.empty());
  return blocks;
}

}  // namespace test
