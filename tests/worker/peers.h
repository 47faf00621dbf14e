// Far sides for a SimLoop.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>

#include "tests/worker/sim_loop.h"
#include "tests/worker/sim_run.h"

namespace loadstar::worker {

// Answers after a delay, or when a stall is over, in either protocol (a line that begins with '{' is JSON-RPC).
class GoodPeer : public SimPeer {
 public:
  // What a test may change, before or during the run.
  int64_t delay_ns = 200'000;
  int64_t stall_from_ns = INT64_MAX;  // on the loop's clock
  int64_t stall_until_ns = INT64_MAX;
  uint64_t requests = 0;
  std::map<std::string, uint64_t> connects;  // by endpoint
  std::map<std::string, uint64_t> sources;

  Connect OnConnect(SimLoop* /*loop*/, const std::string& endpoint, const std::string& source) override {
    ++connects[endpoint];
    ++sources[source];
    return {};
  }
  void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
    const int64_t now = SimLoop::Clock();
    const int64_t wait = now >= stall_from_ns && now < stall_until_ns ? stall_until_ns - now : 0;
    const std::string answer = AnswerTo(bytes);
    if (!answer.empty()) loop->Answer(id, delay_ns + wait, answer);
  }

 protected:
  static bool IsRequest(const std::string& bytes) {
    return bytes[0] != '{' ||
           (bytes.find("\"initialize\"") == std::string::npos && bytes.find("notifications/") == std::string::npos);
  }
  static std::string IdOf(const std::string& line) {
    const size_t at = line.find("\"id\":") + 5;
    return line.substr(at, line.find_first_not_of("0123456789", at) - at);
  }
  std::string AnswerTo(const std::string& bytes) {
    if (IsRequest(bytes)) ++requests;
    if (bytes[0] != '{') return bytes;
    if (bytes.find("notifications/") != std::string::npos) return "";
    return "{\"jsonrpc\":\"2.0\",\"id\":" + IdOf(bytes) + ",\"result\":{}}\n";
  }
};

// Does everything wrong at random, repeatably: refuses, hangs, resets, closes, answers garbage, late, twice or not at
// all.
class BadPeer final : public GoodPeer {
 public:
  explicit BadPeer(uint64_t seed) : random_(seed) {}

  Connect OnConnect(SimLoop* loop, const std::string& endpoint, const std::string& source) override {
    GoodPeer::OnConnect(loop, endpoint, source);
    loop->FailConnects(Percent(2) ? EMFILE : 0);
    if (Percent(10)) return {ECONNREFUSED, 100'000};
    if (Percent(3)) return {0, -1};
    return {0, static_cast<int64_t>(random_() % (50 * kMs))};
  }
  void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
    const auto delay = static_cast<int64_t>(random_() % (20 * kMs));
    if (Percent(1)) return loop->End(id, delay, ECONNRESET);
    if (Percent(1)) return loop->End(id, delay, 0);
    if (Percent(1)) return loop->Answer(id, delay, "garbage\n");
    if (Percent(2)) return;
    const std::string answer = AnswerTo(bytes);
    if (answer.empty()) return;
    if (Percent(2)) return loop->Answer(id, delay + 3 * kS, answer);
    if (bytes[0] == '{' && IsRequest(bytes) && Percent(5)) {
      return loop->Answer(id, delay, "{\"jsonrpc\":\"2.0\",\"id\":" + IdOf(bytes) + ",\"error\":{\"code\":-32000}}\n");
    }
    const size_t cut = random_() % answer.size();
    if (cut > 0) loop->Answer(id, delay, answer.substr(0, cut));
    loop->Answer(id, delay, answer.substr(cut));
    if (Percent(1)) loop->Answer(id, delay, answer);
  }

 private:
  bool Percent(uint64_t percent) { return random_() % 100 < percent; }
  std::mt19937_64 random_;
};

}  // namespace loadstar::worker
