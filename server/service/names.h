#pragma once

#include <string>

#include "absl/status/status.h"

namespace loadstar::server {

// [a-z0-9][a-z0-9-]{0,62}
bool IsValidName(const std::string& text);
// A run's id: a name with its time, at most 128 bytes.
bool IsRunId(const std::string& text);

// INVALID_ARGUMENT with BadRequest: `field` is not such a name.
absl::Status NameError(const std::string& field, const std::string& value);
absl::Status RunIdError(const std::string& value);
// INVALID_ARGUMENT with BadRequest about one field.
absl::Status FieldError(const std::string& field, const std::string& description);

}  // namespace loadstar::server
