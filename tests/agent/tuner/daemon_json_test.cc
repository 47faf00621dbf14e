#include "agent/tuner/daemon_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "agent/tuner/command.h"
#include "agent/tuner/descriptor_limit.h"

namespace loadstar::agent {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr os::DescriptorLimit kWanted = {.soft = 1000, .hard = 2000};

std::string Merged(const std::string& text, const os::DescriptorLimit& wanted = kWanted) {
  const absl::StatusOr<DaemonJson> merged = MergeDaemonJson("daemon.json", text, wanted);
  return merged.ok() ? merged->text : merged.status().ToString();
}

std::string Refusal(const std::string& text) {
  const absl::StatusOr<DaemonJson> merged = MergeDaemonJson("daemon.json", text, kWanted);
  EXPECT_EQ(merged.status().code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_EQ(ReadDaemonJson("daemon.json", text).status(), merged.status()) << text;
  return std::string(merged.status().message());
}

constexpr char kFresh[] = R"({
  "default-ulimits": {
    "nofile": {
      "Name": "nofile",
      "Soft": 1000,
      "Hard": 2000
    }
  }
}
)";

TEST(DaemonJsonTest, AFileWithoutSettingsGetsThisOneAlone) {
  for (const char* text : {"", "\n", " \r\n\t", "\xEF\xBB\xBF"}) EXPECT_EQ(Merged(text), kFresh);
  EXPECT_EQ(Merged("{}\n"), kFresh);
  EXPECT_EQ(Merged("{\n}\n"), kFresh);
}

TEST(DaemonJsonTest, WhatIsAddedIsLaidOutAsItsNeighboursAre) {
  const struct {
    const char* what;
    const char* before;
    const char* after;
  } cases[] = {
      {"two blanks", "{\n  \"debug\": true,\n  \"log-level\": \"info\"\n}\n",
       "{\n  \"debug\": true,\n  \"log-level\": \"info\",\n  \"default-ulimits\": {\n    \"nofile\": {\n"
       "      \"Name\": \"nofile\",\n      \"Soft\": 1000,\n      \"Hard\": 2000\n    }\n  }\n}\n"},
      {"tabs", "{\n\t\"debug\": true\n}\n",
       "{\n\t\"debug\": true,\n\t\"default-ulimits\": {\n\t\t\"nofile\": {\n\t\t\t\"Name\": \"nofile\",\n"
       "\t\t\t\"Soft\": 1000,\n\t\t\t\"Hard\": 2000\n\t\t}\n\t}\n}\n"},
      {"one line", R"({"debug": true, "icc": false})",
       R"({"debug": true, "icc": false, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1000, "Hard": 2000}}})"},
      {"one line, one member", R"({ "debug": true })",
       R"({ "debug": true, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1000, "Hard": 2000}} })"},
      {"as short as can be", R"({"debug":true})",
       R"({"debug":true,"default-ulimits":{"nofile":{"Name":"nofile","Soft":1000,"Hard":2000}}})"},
      {"lines that end as on Windows", "{\r\n  \"debug\": true\r\n}\r\n",
       "{\r\n  \"debug\": true,\r\n  \"default-ulimits\": {\r\n    \"nofile\": {\r\n      \"Name\": \"nofile\",\r\n"
       "      \"Soft\": 1000,\r\n      \"Hard\": 2000\r\n    }\r\n  }\r\n}\r\n"},
      {"no newline at the end", "{\n \"debug\": true\n}",
       "{\n \"debug\": true,\n \"default-ulimits\": {\n  \"nofile\": {\n   \"Name\": \"nofile\",\n   \"Soft\": 1000,\n"
       "   \"Hard\": 2000\n  }\n }\n}"},
      {"a byte order mark", "\xEF\xBB\xBF{\"debug\": true}",
       "\xEF\xBB\xBF{\"debug\": true, \"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Soft\": 1000, "
       "\"Hard\": "
       "2000}}}"},
      {"blank lines and a comma in front", "{\n\n  \"debug\": true\n\n, \"icc\" : [ 1,2 ]\n\n}\n",
       "{\n\n  \"debug\": true\n\n, \"icc\" : [ 1,2 ], \"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", "
       "\"Soft\": 1000, \"Hard\": 2000}}\n\n}\n"},
      {"what only looks like it, deeper or in a text",
       "{\n  \"x\": {\"default-ulimits\": {\"nofile\": 1}, \"y\": \"}\\\"{\"}\n}",
       "{\n  \"x\": {\"default-ulimits\": {\"nofile\": 1}, \"y\": \"}\\\"{\"},\n  \"default-ulimits\": {\n"
       "    \"nofile\": {\n      \"Name\": \"nofile\",\n      \"Soft\": 1000,\n      \"Hard\": 2000\n    }\n  }\n}"},
      {"an empty entry", "{\n  \"default-ulimits\": {},\n  \"debug\": true\n}\n",
       "{\n  \"default-ulimits\": {\n    \"nofile\": {\n      \"Name\": \"nofile\",\n      \"Soft\": 1000,\n"
       "      \"Hard\": 2000\n    }\n  },\n  \"debug\": true\n}\n"},
      {"other limits",
       "{\n  \"default-ulimits\": {\n    \"nproc\": {\"Name\": \"nproc\", \"Soft\": 1, \"Hard\": 2}\n  }\n}\n",
       "{\n  \"default-ulimits\": {\n    \"nproc\": {\"Name\": \"nproc\", \"Soft\": 1, \"Hard\": 2},\n    \"nofile\": "
       "{\n"
       "      \"Name\": \"nofile\",\n      \"Soft\": 1000,\n      \"Hard\": 2000\n    }\n  }\n}\n"},
      {"other limits on one line", "{\n  \"default-ulimits\": {\"nproc\": {}}\n}\n",
       "{\n  \"default-ulimits\": {\"nproc\": {}, \"nofile\": {\"Name\": \"nofile\", \"Soft\": 1000, \"Hard\": "
       "2000}}\n}\n"},
  };
  for (const auto& each : cases) {
    EXPECT_EQ(Merged(each.before), each.after) << each.what;
    EXPECT_EQ(Merged(each.after), each.after) << each.what;
  }
}

std::string With(const std::string& entry) { return R"({"default-ulimits": {"nofile": )" + entry + "}}"; }

TEST(DaemonJsonTest, ALowerNumberIsRaisedAndAHigherOneStays) {
  const struct {
    const char* before;
    const char* after;
  } cases[] = {
      {R"({"Name": "nofile", "Hard": 64, "Soft": 32})", R"({"Name": "nofile", "Hard": 2000, "Soft": 1000})"},
      {R"({"Name": "nofile", "Hard": 9000, "Soft": 32})", R"({"Name": "nofile", "Hard": 9000, "Soft": 1000})"},
      {R"({"Name": "nofile", "Hard": 1500, "Soft": 1500})", R"({"Name": "nofile", "Hard": 2000, "Soft": 1500})"},
      {R"({"Name": "nofile", "Hard": -1, "Soft": 5})", R"({"Name": "nofile", "Hard": -1, "Soft": 1000})"},
      {R"({"name" :"NoFile","hard" :1 , "soft": 0})", R"({"name" :"NoFile","hard" :2000 , "soft": 1000})"},
      {R"({"Hard": 9, "Soft": 3})", R"({"Hard": 2000, "Soft": 1000, "Name": "nofile"})"},
      {R"({"Name": "nofile", "Hard": 9})", R"({"Name": "nofile", "Hard": 2000, "Soft": 1000})"},
      {R"({})", R"({"Name": "nofile", "Soft": 1000, "Hard": 2000})"},
  };
  for (const auto& each : cases) EXPECT_EQ(Merged(With(each.before)), With(each.after));
}

TEST(DaemonJsonTest, WhatIsFulfilledStaysAsItIsByteForByte) {
  for (const char* entry :
       {R"({"Name": "nofile", "Hard": 2000, "Soft": 1000})", R"({"Soft":-1,"Name":"nofile","Hard":-1 })",
        R"({ "Name" : "nofile" , "Hard" : 1048576 , "Soft" : 1048576 })"}) {
    EXPECT_EQ(Merged(With(entry)), With(entry));
  }
}

TEST(DaemonJsonTest, WhatIsReadIsTheLimit) {
  EXPECT_FALSE(ReadDaemonJson("f", "")->limit.has_value());
  EXPECT_FALSE(ReadDaemonJson("f", R"({"default-ulimits": {"nproc": {}}})")->limit.has_value());
  EXPECT_EQ(ToText(*ReadDaemonJson("f", With(R"({"Name": "nofile", "Hard": -1, "Soft": 7})"))->limit), "7:infinity");
}

TEST(DaemonJsonTest, WhatIsNotUnderstoodIsRefusedWithItsPlace) {
  EXPECT_THAT(Refusal("{\n  \"debug\": true,\n}\n"), StartsWith("daemon.json:3:1: no JSON: "));
  EXPECT_THAT(Refusal("{\"a\": 1} x"), StartsWith("daemon.json:1:10: no JSON: "));
  EXPECT_THAT(Refusal("{\"a\": \"\xFF\"}"), StartsWith("daemon.json:1:8: no JSON: "));
  EXPECT_THAT(Refusal("{\n  // a comment\n}"), StartsWith("daemon.json:2:3: no JSON: "));
  EXPECT_THAT(Refusal("{\"a\": 1"), StartsWith("daemon.json:1:8: no JSON: "));
  EXPECT_EQ(Refusal(std::string("{}\n\0\0{\"", 7)), "daemon.json:2:1: no JSON: a zero byte");
  EXPECT_EQ(Refusal("  [1]"), "daemon.json:1:3: expected an object");
  EXPECT_EQ(Refusal("{\n \"\xC3\xA4\": {\"b\": 1, \"\\u0062\": 2}}"),
            "daemon.json:2:16: the key \"\\u0062\" is in this object already");
  EXPECT_EQ(Refusal(R"({"default-ulimits": {}, "default-ulimits": {}})"),
            "daemon.json:1:25: the key \"default-ulimits\" is in this object already");
  EXPECT_EQ(Refusal(R"({"default-ulimits": null})"), "daemon.json:1:21: expected an object, one entry for each limit");
  EXPECT_EQ(Refusal(With("65536")), "daemon.json:1:32: expected an object with Name, Soft and Hard");
  EXPECT_EQ(Refusal(With(R"({"Name": "nproc"})")), "daemon.json:1:41: expected \"nofile\"");
  EXPECT_EQ(Refusal(With(R"({"Soft": "64"})")), "daemon.json:1:41: expected a whole number, or -1 for no limit");
  EXPECT_EQ(Refusal(With(R"({"Soft": 64.0})")), "daemon.json:1:41: expected a whole number, or -1 for no limit");
  EXPECT_EQ(Refusal(With(R"({"Soft": 9223372036854775808})")),
            "daemon.json:1:41: expected a whole number, or -1 for no limit");
  EXPECT_EQ(Refusal(With(R"({"Soft": 9, "soft": 8})")), "daemon.json:1:44: expected Name, Soft and Hard, each once");
  EXPECT_EQ(Refusal(With(R"({"Softer": 9})")), "daemon.json:1:33: expected Name, Soft and Hard, each once");
  EXPECT_EQ(Refusal(With(R"({"Soft": 9, "Hard": 8})")),
            "daemon.json:1:32: Soft is above Hard, which no container can be started with");
  EXPECT_EQ(Refusal(R"({"default-ulimits": {"files": {"Name": "NOFILE"}}})"),
            "daemon.json:1:22: a limit of open files that is not under \"nofile\"");
  EXPECT_THAT(Refusal(std::string(100, '[') + std::string(100, ']')), HasSubstr("more than 64 levels"));
}

TEST(DaemonJsonTest, ALimitThatIsNoneIsRefused) {
  EXPECT_FALSE(MergeDaemonJson("f", "{}", {.soft = 0, .hard = 0}).ok());
  EXPECT_FALSE(MergeDaemonJson("f", "{}", {.soft = 2, .hard = 1}).ok());
  EXPECT_FALSE(MergeDaemonJson("f", "{}", {.soft = 2, .hard = kUnlimited}).ok());
}

// ---- random documents

std::string RandomText() {
  static const std::vector<std::string> pieces = {"a", "b",  "{",  "}",  "[", "]",       ":",
                                                  ",", "\"", "\\", "\n", " ", "\xC3\xA4"};
  std::string text;
  for (int i = *rc::gen::inRange(0, 6); i > 0; --i) text += *rc::gen::elementOf(pieces);
  return text;
}

json RandomValue(int levels) {
  switch (*rc::gen::inRange(0, levels > 0 ? 7 : 5)) {
    case 0:
      return nullptr;
    case 1:
      return *rc::gen::arbitrary<bool>();
    case 2:
      return *rc::gen::arbitrary<int64_t>();
    case 3:
      return *rc::gen::inRange(-1000, 1000) / 8.0;
    case 4:
      return RandomText();
    case 5: {
      json array = json::array();
      for (int i = *rc::gen::inRange(0, 4); i > 0; --i) array.push_back(RandomValue(levels - 1));
      return array;
    }
    default: {
      json object = json::object();
      for (int i = *rc::gen::inRange(0, 4); i > 0; --i) object[RandomText()] = RandomValue(levels - 1);
      return object;
    }
  }
}

// As a person might have written it: blanks anywhere.
std::string Blanks() { return *rc::gen::container<std::string>(rc::gen::elementOf(std::string(" \t\n\r"))); }
std::string Written(const json& value) {
  if (!value.is_structured()) return value.dump(-1, ' ', *rc::gen::arbitrary<bool>());
  std::string text(1, value.is_object() ? '{' : '[');
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!first) text += ",";
    first = false;
    text += Blanks();
    if (value.is_object()) {
      text += json(key).dump(-1, ' ', *rc::gen::arbitrary<bool>()) + Blanks() + ":" + Blanks();
    }
    text += Written(member) + Blanks();
  }
  return text + (first ? Blanks() : "") + (value.is_object() ? "}" : "]");
}

uint64_t NumberOf(const json& entry, const char* key) {
  const int64_t number = entry.value(key, int64_t{0});
  return number < 0 ? kUnlimited : static_cast<uint64_t>(number);
}

TEST(DaemonJsonProperty, NothingElseChangesAndNothingGoesDown) {
  EXPECT_TRUE(rc::check("daemon.json", [] {
    json document = json::object();
    const auto some = [&] {
      for (int i = *rc::gen::inRange(0, 4); i > 0; --i) document[RandomText()] = RandomValue(3);
    };
    some();
    if (*rc::gen::arbitrary<bool>()) {
      json& limits = document["default-ulimits"] = json::object();
      for (int i = *rc::gen::inRange(0, 3); i > 0; --i) limits["n" + RandomText()] = RandomValue(1);
      if (*rc::gen::arbitrary<bool>()) {
        const auto soft = *rc::gen::inRange<int64_t>(0, 3000);
        const int64_t hard = *rc::gen::arbitrary<bool>() ? -1 : soft + *rc::gen::inRange<int64_t>(0, 3000);
        limits["nofile"] = {{"Name", "nofile"}, {"Soft", soft}, {"Hard", hard}};
      }
    }
    some();
    const std::string text = Blanks() + Written(document) + Blanks();
    json before = json::parse(text, nullptr, false);
    RC_ASSERT(!before.is_discarded());
    const absl::StatusOr<DaemonJson> merged = MergeDaemonJson("f", text, kWanted);
    RC_ASSERT(merged.ok());
    json after = json::parse(merged->text, nullptr, false);
    RC_ASSERT(!after.is_discarded());
    json old_entry = json::object();
    if (before.contains("default-ulimits")) old_entry = before["default-ulimits"].value("nofile", json::object());
    const json new_entry = after.at("default-ulimits").at("nofile");
    RC_ASSERT(NumberOf(new_entry, "Soft") == std::max(NumberOf(old_entry, "Soft"), kWanted.soft));
    RC_ASSERT(NumberOf(new_entry, "Hard") == std::max(NumberOf(old_entry, "Hard"), kWanted.hard));
    RC_ASSERT((merged->text == text) == (new_entry == old_entry));
    RC_ASSERT(Merged(merged->text) == merged->text);
    after["default-ulimits"].erase("nofile");
    if (!before.contains("default-ulimits")) {
      RC_ASSERT(after["default-ulimits"].empty());
      after.erase("default-ulimits");
    } else {
      before["default-ulimits"].erase("nofile");
    }
    RC_ASSERT(after == before);
  }));
}

// ---- Docker itself

TEST(DockerTest, TakesWhatIsMerged) {
  const CommandRunner run = MakeCommandRunner(std::chrono::seconds(20));
  const absl::StatusOr<CommandResult> version = run({"dockerd", "--version"});
  if (!version.ok()) GTEST_SKIP() << version.status().message();
  std::string folder = std::filesystem::temp_directory_path() / "daemon-json-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/daemon.json";
  const auto validate = [&](const std::string& text) {
    std::ofstream(path) << text;
    return run({"dockerd", "--validate", "--config-file", path});
  };
  const absl::StatusOr<CommandResult> empty = validate("{}");
  ASSERT_TRUE(empty.ok()) << empty.status();
  if (empty->output.find("unknown flag") != std::string::npos) {
    std::filesystem::remove_all(folder);
    GTEST_SKIP() << "older than version 23: " << version->output;
  }
  for (const char* text : {"", "{}", "{\n\t\"debug\": true\n}\n", "\xEF\xBB\xBF{\"icc\": false}",
                           R"({"default-ulimits": {"nofile": {"name": "nofile", "hard": 64, "soft": 32}}})"}) {
    const absl::StatusOr<CommandResult> taken = validate(Merged(text));
    ASSERT_TRUE(taken.ok()) << taken.status();
    EXPECT_EQ(taken->code, 0) << Merged(text) << taken->output;
  }
  EXPECT_NE(validate(R"({"no-such-setting": 1})")->code, 0);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace loadstar::agent
