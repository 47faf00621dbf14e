#include "agent/observer/prometheus.h"

#include <gtest/gtest.h>

#include <string>

namespace loadstar::agent {
namespace {

v1::NodeFigures Read(const std::string& text) {
  v1::NodeFigures figures;
  ReadPrometheus(text, &figures);
  return figures;
}

TEST(Prometheus, PrefersTheTotalOverItsParts) {
  const v1::NodeFigures figures = Read(
      "# HELP loadstar_target_connections Connections open.\n"
      "# TYPE loadstar_target_connections gauge\n"
      "loadstar_target_connections{process=\"0\"} 10\n"
      "loadstar_target_connections{process=\"1\"} 15\n"
      "loadstar_target_connections{process=\"total\"} 25\n"
      "loadstar_target_accepted_total{process=\"0\"} 7\n"
      "loadstar_target_accepted_total{process=\"1\"} 8\n"
      "process_cpu_seconds_total 1.25\n"
      "loadstar_target_clock_seconds{process=\"parent\"} 86400.125\n"
      "process_resident_memory_bytes 1.048576e+06\n");
  EXPECT_EQ(figures.connections(), 25u);
  EXPECT_EQ(figures.accepted_total(), 15u);
  EXPECT_DOUBLE_EQ(figures.cpu_seconds_total(), 1.25);
  EXPECT_DOUBLE_EQ(figures.clock_s(), 86'400.125);
  EXPECT_EQ(figures.rss_bytes(), 1'048'576u);
  EXPECT_FALSE(figures.has_requests_total());
  EXPECT_FALSE(figures.has_errors_total());
}

TEST(Prometheus, AddsUpErrorsOverTheirKinds) {
  EXPECT_EQ(Read("loadstar_target_errors_total{process=\"total\",kind=\"accept\"} 2\n"
                 "loadstar_target_errors_total{process=\"total\",kind=\"protocol\"} 3\n"
                 "loadstar_target_errors_total{process=\"0\",kind=\"protocol\"} 3\n")
                .errors_total(),
            5u);
}

TEST(Prometheus, ReadsAwkwardButValidLines) {
  EXPECT_EQ(
      Read("  loadstar_target_connections{ a=\"x\\\"} 1\" , process = \"total\" , } 4 1700000000000\r\n").connections(),
      4u);
  EXPECT_EQ(Read("loadstar_target_connections\t6").connections(), 6u);
  EXPECT_EQ(Read("loadstar_target_connections 0\n").connections(), 0u);
}

TEST(Prometheus, SkipsWhatItDoesNotUnderstand) {
  for (const char* line :
       {"loadstar_target_connections", "loadstar_target_connections NaN", "loadstar_target_connections -1",
        "loadstar_target_connections +Inf", "loadstar_target_connections 4x",
        "loadstar_target_connections{process=\"a 4", "loadstar_target_connections{process=\"a\\",
        "loadstar_target_connections{process} 4", "{} 4", "\xff\xfe 4", "loadstar_target_connections_more 4",
        "# loadstar_target_connections 4"}) {
    EXPECT_FALSE(Read(line).has_connections()) << line;
  }
}

}  // namespace
}  // namespace loadstar::agent
