// The process's descriptors as a whole: the three it begins with, and how many it may have.
#pragma once

#include <cstddef>

namespace echo {

/// Makes sure that descriptors 0 to 2 are open, before the first other one is: otherwise a client's
/// socket could become "stderr", and the log be sent to it. A write to one that was closed fails.
void hold_standard_streams();

/// Raises the soft limit of open files as far as `connections` need and the hard limit allows, and
/// warns how many can be served if that is not enough (getrlimit(2)). Whatever else is to stay open
/// has to be open by then.
void raise_descriptor_limit(std::size_t connections);

}  // namespace echo
