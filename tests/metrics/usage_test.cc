#include "lib/metrics/usage.h"

#include <gtest/gtest.h>

namespace loadstar::metrics {
namespace {

// Every field of HostFigures, so that one that is added and not merged shows.
v1::HostFigures Host(uint64_t value) {
  v1::HostFigures host;
  const auto* descriptor = v1::HostFigures::descriptor();
  const auto* reflection = v1::HostFigures::GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    switch (field->cpp_type()) {
      case google::protobuf::FieldDescriptor::CPPTYPE_UINT64:
        reflection->SetUInt64(&host, field, value);
        break;
      case google::protobuf::FieldDescriptor::CPPTYPE_UINT32:
        reflection->SetUInt32(&host, field, static_cast<uint32_t>(value));
        break;
      case google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE:
        reflection->SetDouble(&host, field, static_cast<double>(value));
        break;
      default:
        break;  // the agent's name
    }
  }
  return host;
}

TEST(HostFigures, CountersAddUpAndOfGaugesTheWorstIsKept) {
  v1::HostFigures sum;
  AddLater(Host(3), &sum);
  EXPECT_EQ(sum.SerializeAsString(), Host(3).SerializeAsString());
  AddLater(Host(5), &sum);
  v1::HostFigures expected = Host(8);
  for (auto set : {&v1::HostFigures::set_sockets_time_wait, &v1::HostFigures::set_conntrack_count,
                   &v1::HostFigures::set_slab_bytes, &v1::HostFigures::set_tcp_memory_bytes}) {
    (expected.*set)(5);
  }
  expected.set_busiest_core_ratio(5);
  expected.set_cores(5);
  expected.set_conntrack_max(3);
  expected.set_memory_unused_bytes(3);
  EXPECT_EQ(sum.SerializeAsString(), expected.SerializeAsString());
}

TEST(HostFigures, WhatOneLacksIsTheOthersAndWhatBothLackStaysAbsent) {
  v1::HostFigures sum;
  v1::HostFigures some;
  some.set_seconds(1);
  some.set_listen_drops(4);
  AddLater(some, &sum);
  some.clear_listen_drops();
  some.set_tcp_timeouts(0);
  AddLater(some, &sum);
  EXPECT_EQ(sum.seconds(), 2u);
  EXPECT_EQ(sum.listen_drops(), 4u);
  EXPECT_TRUE(sum.has_tcp_timeouts());
  EXPECT_FALSE(sum.has_conntrack_drops());
}

TEST(WorkerUsage, WhatIsSpentAddsUp) {
  v1::WorkerUsage usage;
  usage.set_worker_index(4);
  usage.set_cpu_ns(1);
  usage.set_interval_ns(2);
  usage.set_core_wait_ns(3);
  usage.set_loop_max_ns(7);
  usage.set_loop_turns(4);
  usage.set_queue_overflows(5);
  usage.set_rss_bytes(6);
  usage.set_rss_anon_bytes(7);
  v1::WorkerUsage sum;
  AddLater(usage, &sum);
  EXPECT_EQ(sum.SerializeAsString(), usage.SerializeAsString());
  usage.set_rss_bytes(5);
  usage.clear_core_wait_ns();
  AddLater(usage, &sum);
  EXPECT_EQ(sum.cpu_ns(), 2u);
  EXPECT_EQ(sum.interval_ns(), 4u);
  EXPECT_EQ(sum.core_wait_ns(), 3u);
  EXPECT_EQ(sum.loop_max_ns(), 7u);
  EXPECT_EQ(sum.loop_turns(), 8u);
  EXPECT_EQ(sum.queue_overflows(), 10u);
  EXPECT_EQ(sum.rss_bytes(), 5u);
}

}  // namespace
}  // namespace loadstar::metrics
