#include "lib/metrics/figures.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

namespace loadstar::metrics {
namespace {

void AddError(v1::LoadFigures* figures, v1::ErrorKind kind, const std::string& detail, uint64_t count) {
  v1::ErrorCount* error = figures->add_errors();
  error->set_phase(v1::ERROR_PHASE_REQUEST);
  error->set_kind(kind);
  error->set_detail(detail);
  error->set_count(count);
}

v1::LoadFigures SecondOf(uint64_t latency_us, uint64_t established) {
  v1::LoadFigures figures;
  figures.mutable_counters()->set_requests_sent(1);
  figures.mutable_gauges()->set_connections_established(established);
  Histogram histogram;
  histogram.Record(latency_us);
  histogram.ToProto(figures.mutable_latency());
  histogram.ToProto(figures.mutable_service_time());
  return figures;
}

// Every field of a message, so that a counter that is added later cannot be forgotten in the sum.
template <typename Message>
Message AllFieldsSetTo(uint64_t value) {
  Message message;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    message.GetReflection()->SetUInt64(&message, message.GetDescriptor()->field(i), value + static_cast<uint64_t>(i));
  }
  return message;
}

TEST(FiguresTest, EveryCounterAndGaugeAddsUp) {
  auto counters = AllFieldsSetTo<v1::Counters>(10);
  AddCounters(AllFieldsSetTo<v1::Counters>(100), &counters);
  auto gauges = AllFieldsSetTo<v1::Gauges>(10);
  AddGauges(AllFieldsSetTo<v1::Gauges>(100), &gauges);
  for (const google::protobuf::Message* sum : {static_cast<const google::protobuf::Message*>(&counters),
                                               static_cast<const google::protobuf::Message*>(&gauges)}) {
    for (int i = 0; i < sum->GetDescriptor()->field_count(); ++i) {
      const auto* field = sum->GetDescriptor()->field(i);
      EXPECT_EQ(sum->GetReflection()->GetUInt64(*sum, field), 110u + 2 * static_cast<uint64_t>(i)) << field->name();
    }
  }
}

TEST(FiguresTest, SourcesAddGaugesAndLaterSecondsReplaceThem) {
  FiguresMerger merger;
  ASSERT_TRUE(merger.AddSource(SecondOf(100, 5)));
  ASSERT_TRUE(merger.AddSource(SecondOf(200, 7)));
  EXPECT_EQ(merger.gauges().connections_established(), 12u);
  ASSERT_TRUE(merger.AddLater(SecondOf(300, 9)));
  EXPECT_EQ(merger.gauges().connections_established(), 9u);
  EXPECT_EQ(merger.counters().requests_sent(), 3u);
  EXPECT_EQ(merger.latency().count(), 3u);
  EXPECT_EQ(merger.latency().max_us(), 300u);
}

TEST(FiguresTest, ErrorsOfOneKindAndDetailBecomeOneAndAreSorted) {
  v1::LoadFigures first;
  AddError(&first, v1::ERROR_KIND_RPC_ERROR, "-32601", 2);
  AddError(&first, v1::ERROR_KIND_RESET, "", 1);
  v1::LoadFigures second;
  AddError(&second, v1::ERROR_KIND_RPC_ERROR, "-32601", 3);
  AddError(&second, v1::ERROR_KIND_RPC_ERROR, "-32600", 1);
  FiguresMerger merger;
  ASSERT_TRUE(merger.AddSource(first));
  ASSERT_TRUE(merger.AddLater(second));
  v1::LoadFigures merged;
  merger.ToProto(&merged);
  ASSERT_EQ(merged.errors_size(), 3);
  EXPECT_EQ(merged.errors(0).kind(), v1::ERROR_KIND_RESET);
  EXPECT_EQ(merged.errors(1).detail(), "-32600");
  EXPECT_EQ(merged.errors(2).detail(), "-32601");
  EXPECT_EQ(merged.errors(2).count(), 5u);
}

TEST(FiguresTest, KindsOfErrorsAreBoundedAndNoneIsLost) {
  FiguresMerger merger;
  for (int i = 0; i < 5000; ++i) {
    v1::LoadFigures figures;
    AddError(&figures, v1::ERROR_KIND_RPC_ERROR, std::to_string(i), 2);
    ASSERT_TRUE(merger.AddSource(figures));
  }
  v1::LoadFigures merged;
  merger.ToProto(&merged);
  EXPECT_EQ(merged.errors_size(), static_cast<int>(FiguresMerger::kMaxErrors) + 1);
  uint64_t sum = 0;
  for (const v1::ErrorCount& error : merged.errors()) sum += error.count();
  EXPECT_EQ(sum, 10'000u);
}

TEST(FiguresTest, MalformedHistogramLeavesNothingBehind) {
  FiguresMerger merger;
  ASSERT_TRUE(merger.AddSource(SecondOf(100, 5)));
  v1::LoadFigures spoiled = SecondOf(200, 7);
  spoiled.mutable_handshake_time()->add_counts(1);  // the last of the five to be merged
  EXPECT_FALSE(merger.AddSource(spoiled));
  EXPECT_FALSE(merger.AddLater(spoiled));
  EXPECT_EQ(merger.counters().requests_sent(), 1u);
  EXPECT_EQ(merger.gauges().connections_established(), 5u);
  EXPECT_EQ(merger.latency().count(), 1u);
}

TEST(FiguresTest, GoingRoundTheWireChangesNothing) {
  FiguresMerger merger;
  ASSERT_TRUE(merger.AddSource(SecondOf(100, 5)));
  v1::LoadFigures once;
  merger.ToProto(&once);
  FiguresMerger again;
  ASSERT_TRUE(again.AddSource(once));
  v1::LoadFigures twice;
  again.ToProto(&twice);
  EXPECT_EQ(once.SerializeAsString(), twice.SerializeAsString());
}

TEST(FiguresTest, EndpointKeepsItsNames) {
  v1::EndpointFigures endpoint;
  endpoint.set_endpoint("127.0.0.1:9100");
  endpoint.set_node("node1");
  endpoint.mutable_counters()->set_requests_answered(4);
  FiguresMerger merger;
  ASSERT_TRUE(merger.AddSource(endpoint));
  ASSERT_TRUE(merger.AddLater(endpoint));
  merger.ToProto(&endpoint);
  EXPECT_EQ(endpoint.endpoint(), "127.0.0.1:9100");
  EXPECT_EQ(endpoint.node(), "node1");
  EXPECT_EQ(endpoint.counters().requests_answered(), 8u);
}

}  // namespace
}  // namespace loadstar::metrics
