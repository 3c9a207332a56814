#pragma once

#include <string>
#include <vector>

namespace test {

/// A file of the project, by its path from the top.
std::string contents_of(const std::string& file);

/// A fenced block of README.md.
struct Block {
  std::string language;
  std::string text;
};

/// Those of `language` in their order; at least one.
std::vector<Block> readme_blocks(const std::string& language);

}  // namespace test
