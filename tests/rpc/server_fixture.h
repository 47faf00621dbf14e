// A service of a test behind the real gRPC stack on a port of the kernel's choice, and a stub of it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "lib/rpc/rpc.h"

namespace loadstar::rpc {

constexpr absl::Duration kSoon = absl::Seconds(20);

// `Api` is the generated service, `Service` the test's implementation of it.
template <typename Api, typename Service>
class ServerFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    ConfigureServer(&builder);
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = Api::NewStub(MakeChannel("127.0.0.1:" + std::to_string(port_)));
  }
  void TearDown() override {
    if (server_) ShutDown();
  }

  // Every reactor ends when it is cancelled, or this would wait for ever (see lib/rpc/bidi_server.h).
  void ShutDown() {
    const absl::Time begin = absl::Now();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  }

  Service service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<typename Api::Stub> stub_;
};

}  // namespace loadstar::rpc
