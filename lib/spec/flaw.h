#pragma once

#include <optional>
#include <string>

namespace loadstar::spec {

// What is wrong with a value and what to write instead. Reading functions return one, or nothing on success.
struct Flaw {
  std::string message;
  std::string remedy;
};
using MaybeFlaw = std::optional<Flaw>;

}  // namespace loadstar::spec
