#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/terminal/format.h"
#include "client/terminal/table.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

using terminal::Table;

constexpr uint32_t kPageMost = 1'000;

class Runs : public Verb {
 public:
  std::string name() const override { return "runs"; }
  std::string help() const override { return "Runs, newest first"; }
  void Declare(Arguments* arguments) override {
    arguments->Option("--limit", "COUNT", &limit_text_, "Most runs to show (default: 100)");
  }

  ExitCode Run(const Context& context) override {
    uint32_t limit = 100;
    if (!limit_text_.empty() && (!absl::SimpleAtoi(limit_text_, &limit) || limit == 0)) {
      return FailInvalid(context, absl::StrCat("--limit ", limit_text_, ": expected a number from 1 on"));
    }
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      v1::ListRunsResponse all;
      v1::ListRunsRequest request;
      do {
        request.set_page_size(std::min(kPageMost, limit - static_cast<uint32_t>(all.runs_size())));
        auto page = client->ListRuns(request);
        if (!page.ok()) {
          return Fail(context, page.status());
        }
        all.mutable_runs()->MergeFrom(page->runs());
        all.set_next_page_token(page->next_page_token());
        request.set_page_token(page->next_page_token());
        if (page->runs().empty()) {
          break;
        }
      } while (!all.next_page_token().empty() && static_cast<uint32_t>(all.runs_size()) < limit);
      context.output->Json(all);
      Show(context, all);
      return ExitCode::kPassed;
    });
  }

 private:
  static void Show(const Context& context, const v1::ListRunsResponse& all) {
    if (all.runs().empty()) {
      context.output->Text("No run yet. \"loadstar run TEST\" starts one.");
      return;
    }
    Table table({{"RUN"},
                 {"STATE"},
                 {"VERDICT"},
                 {"CREATED"},
                 {"CONNECTIONS", Table::Align::kRight},
                 {"P50", Table::Align::kRight},
                 {"P99", Table::Align::kRight},
                 {"MAX", Table::Align::kRight}});
    for (const v1::RunSummary& run : all.runs()) {
      const v1::Percentiles& latency = run.latency();
      table.Add({run.run_id(), terminal::Words(run.state()), terminal::Words(run.verdict()),
                 terminal::LocalTime(terminal::ToTime(run.created_at())), terminal::Grouped(run.peak_connections()),
                 terminal::Latency(latency, latency.p50_us()), terminal::Latency(latency, latency.p99_us()),
                 terminal::Latency(latency, latency.max_us())});
    }
    context.output->Raw(table.Text());
    if (!all.next_page_token().empty()) {
      context.output->Text("There are older ones; --limit shows more.");
    }
  }

  std::string limit_text_;
};

}  // namespace

std::unique_ptr<Verb> MakeRuns() { return std::make_unique<Runs>(); }

}  // namespace loadstar::client
