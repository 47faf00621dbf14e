// The contract of lib/net/loop.h, held against every backend. Client and server live in one loop and one thread, so
// that every order of events is the loop's own doing. A wait is a bounded number of turns, never a sleep.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lib/net/loop.h"
#include "lib/os/limits.h"

namespace loadstar::net {
namespace {

constexpr int64_t kMillisecond_ns = 1'000'000;
constexpr int64_t kPatience_ns = 60'000 * kMillisecond_ns;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// One end of a connection: records what it is told and does what the test hangs in.
struct End : SocketHandler {
  explicit End(Loop* owner) : loop(owner) {}

  void OnConnected(uint64_t tag, SocketId socket, int error) override {
    EXPECT_FALSE(in_call) << "OnConnected came from within another callback";
    connects += 1;
    connect_error = error;
    connected_tag = tag;
    id = socket;
    Call(on_connected);
  }
  void OnReceived(uint64_t /*tag*/, SocketId socket, std::span<const std::byte> bytes) override {
    EXPECT_EQ(socket, id);
    EXPECT_EQ(closes, 0) << "bytes after the end";
    received_bytes += bytes.size();
    if (keep) {
      received.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    chunk = bytes;
    Call(on_received);
  }
  void OnDrained(uint64_t /*tag*/, SocketId socket) override {
    EXPECT_EQ(socket, id);
    drains += 1;
    EXPECT_EQ(loop->QueuedBytes(id), 0U);
    Call(on_drained);
  }
  void OnClosed(uint64_t /*tag*/, SocketId socket, int error) override {
    EXPECT_EQ(socket, id);
    closes += 1;
    close_error = error;
    Call(on_closed);
  }
  void Call(const std::function<void()>& hook) {
    if (hook) {
      in_call = true;
      hook();
      in_call = false;
    }
  }

  Loop* loop;
  SocketId id = kNoSocket;
  bool keep = true;
  bool in_call = false;
  std::function<void()> on_connected, on_received, on_drained, on_closed;
  int connects = 0, connect_error = -1, closes = 0, close_error = -1, drains = 0;
  uint64_t connected_tag = 0;
  std::string received;
  size_t received_bytes = 0;
  std::span<const std::byte> chunk;
};

struct Server : SocketHandler {
  explicit Server(Loop* owner) : loop(owner) {}
  Accepted OnAccepted(uint64_t tag, SocketId id) override {
    EXPECT_EQ(tag, kTag);
    accepts += 1;
    if (refuse) {
      return {};
    }
    ends.push_back(std::make_unique<End>(loop));
    ends.back()->id = id;
    if (prepare) {
      prepare(ends.back().get());
    }
    return {ends.back().get(), 7};
  }
  void OnAcceptFailed(uint64_t tag, int error) override {
    EXPECT_EQ(tag, kTag);
    failures.push_back(error);
  }
  void OnReceived(uint64_t, SocketId, std::span<const std::byte>) override { ADD_FAILURE() << "a listener got bytes"; }
  void OnClosed(uint64_t, SocketId, int) override { ADD_FAILURE() << "a listener closed"; }

  static constexpr uint64_t kTag = 4711;
  Loop* loop;
  bool refuse = false;
  int accepts = 0;
  std::function<void(End*)> prepare;
  std::vector<int> failures;
  std::vector<std::unique_ptr<End>> ends;
};

struct Backend {
  const char* name;
  const char* backend;
  LoopOptions::Batching batching = LoopOptions::Batching::kWhenBusy;
};
void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

class LoopTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override { Start(LoopOptions{}); }

  void Start(LoopOptions options) {
    options.batching = GetParam().batching;
    absl::StatusOr<std::unique_ptr<Loop>> made = Loop::Create(options, GetParam().backend);
    ASSERT_TRUE(made.ok()) << made.status();
    loop = std::move(*made);
    server = std::make_unique<Server>(loop.get());
    listener = Listen("127.0.0.1:0");
    peer = *loop->LocalAddress(listener);
  }
  SocketId Listen(const std::string& address) {
    absl::StatusOr<SocketId> id = loop->Listen(*ParseAddress(address), false, 4096, server.get(), Server::kTag);
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or(kNoSocket);
  }
  bool Connect(End* end, uint64_t tag = 1, const Address* source = nullptr) {
    return loop->Connect({.peer = &peer, .source = source, .handler = end, .tag = tag}, &end->id, &last_error);
  }
  [[nodiscard]] bool Until(const std::function<bool()>& done) {
    const int64_t deadline_ns = Loop::ReadClock() + kPatience_ns;
    while (!done()) {
      if (Loop::ReadClock() > deadline_ns) {
        return false;
      }
      loop->RunOnce(5 * kMillisecond_ns);
    }
    return true;
  }
  // Lets everything that is under way arrive: so many turns without waiting.
  void Settle(int turns = 20) {
    for (int i = 0; i < turns; ++i) {
      loop->RunOnce(kMillisecond_ns);
    }
  }
  // Connects `end` and returns the server's side of it.
  End* Establish(End* end) {
    const size_t before = server->ends.size();
    EXPECT_TRUE(Connect(end));
    EXPECT_TRUE(Until([&] { return end->connects == 1 && server->ends.size() == before + 1; }));
    EXPECT_EQ(end->connect_error, 0);
    return server->ends.back().get();
  }

  std::unique_ptr<Loop> loop;
  std::unique_ptr<Server> server;
  SocketId listener = kNoSocket;
  Address peer;
  int last_error = 0;
};

INSTANTIATE_TEST_SUITE_P(Backends, LoopTest,
                         ::testing::Values(Backend{"io_uring", "io_uring"},
                                           Backend{"io_uring_batching", "io_uring", LoopOptions::Batching::kAlways},
                                           Backend{"epoll", "epoll"}),
                         [](const auto& backend) { return std::string(backend.param.name); });

// --- connecting ---

TEST_P(LoopTest, ConnectIsToldOnceAndNotFromWithinTheCall) {
  End client(loop.get());
  ASSERT_TRUE(Connect(&client, 99));
  EXPECT_EQ(client.connects, 0);
  ASSERT_TRUE(Until([&] { return client.connects > 0 && server->accepts == 1; }));
  EXPECT_EQ(client.connect_error, 0);
  EXPECT_EQ(client.connected_tag, 99U);
  Settle();
  EXPECT_EQ(client.connects, 1);
  EXPECT_EQ(client.closes, 0);
}

TEST_P(LoopTest, PeerThatSpeaksFirstIsHeardAfterTheConnect) {
  server->prepare = [](End* end) { EXPECT_TRUE(end->loop->Send(end->id, Bytes("welcome"))); };
  End client(loop.get()), paused(loop.get());
  client.on_received = [&] { EXPECT_EQ(client.connects, 1); };
  paused.on_connected = [&] { loop->PauseReceive(paused.id); };
  ASSERT_TRUE(Connect(&client));
  ASSERT_TRUE(Connect(&paused));
  ASSERT_TRUE(Until([&] { return client.received == "welcome" && paused.connects == 1; }));
  Settle();
  EXPECT_EQ(paused.received, "");
  loop->ResumeReceive(paused.id);
  ASSERT_TRUE(Until([&] { return paused.received == "welcome"; }));
}

// A connection that is closed the moment it stands gives its descriptor's number to the next one, which must get its
// bytes.
TEST_P(LoopTest, AConnectionMadeWhileAnotherIsClosedGetsItsBytes) {
  server->prepare = [](End* end) { EXPECT_TRUE(end->loop->Send(end->id, Bytes("welcome"))); };
  for (int round = 0; round < 200; ++round) {
    End first(loop.get()), second(loop.get());
    first.on_connected = [&] {
      round % 2 == 0 ? loop->Close(first.id) : loop->Reset(first.id);
      EXPECT_TRUE(Connect(&second));
    };
    ASSERT_TRUE(Connect(&first));
    ASSERT_TRUE(Until([&] { return second.received == "welcome"; })) << "round " << round;
    EXPECT_EQ(first.received, "");
    loop->Close(second.id);
    Settle(2);
  }
}

TEST_P(LoopTest, RefusedConnectIsToldWithItsErrnoAndFreesTheId) {
  loop->Close(listener);
  End client(loop.get());
  ASSERT_TRUE(Connect(&client));
  const SocketId first = client.id;
  ASSERT_TRUE(Until([&] { return client.connects == 1; }));
  EXPECT_EQ(client.connect_error, ECONNREFUSED);
  EXPECT_EQ(client.closes, 0);
  EXPECT_FALSE(loop->Send(first, Bytes("x")));
  End second(loop.get());
  ASSERT_TRUE(Connect(&second));
  EXPECT_EQ(second.id, first);
}

TEST_P(LoopTest, ErrorKnownAtOnceIsStillToldByCallback) {
  // A TCP connect to an address of no network: the kernel answers within connect().
  peer = *ParseAddress("[ff02::1]:9");
  End client(loop.get());
  if (!Connect(&client)) {
    GTEST_SKIP() << "this host has no IPv6: errno " << last_error;
  }
  EXPECT_EQ(client.connects, 0);
  ASSERT_TRUE(Until([&] { return client.connects == 1; }));
  EXPECT_GT(client.connect_error, 0);
}

TEST_P(LoopTest, SourceAddressIsUsedAndItsPortIsShared) {
  const Address source = *ParseHost("127.7.7.7");
  End first(loop.get());
  End second(loop.get());
  ASSERT_TRUE(Connect(&first, 1, &source));
  ASSERT_TRUE(Connect(&second, 2, &source));
  ASSERT_TRUE(Until([&] { return first.connects == 1 && second.connects == 1; }));
  EXPECT_EQ(first.connect_error, 0);
  EXPECT_THAT(ToString(*loop->LocalAddress(first.id)), ::testing::StartsWith("127.7.7.7:"));
}

TEST_P(LoopTest, SourceThatIsNotOursIsRefusedAtOnce) {
  const Address source = *ParseHost("192.0.2.1");
  End client(loop.get());
  EXPECT_FALSE(Connect(&client, 1, &source));
  EXPECT_EQ(last_error, EADDRNOTAVAIL);
  Settle(3);
  EXPECT_EQ(client.connects, 0);
}

// An option of one of this process's own sockets; -1 when it has none that is bound to that address and connected.
int OptionOf(const Address& local, int level, int option) {
  for (int fd = 3; fd < 1024; ++fd) {
    Address found;
    Address far;
    found.length = far.length = sizeof(found.storage);
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&found.storage), &found.length) != 0 ||
        ToString(found) != ToString(local) ||
        getpeername(fd, reinterpret_cast<sockaddr*>(&far.storage), &far.length) != 0) {
      continue;
    }
    int value = -1;
    socklen_t length = sizeof(value);
    return getsockopt(fd, level, option, &value, &length) == 0 ? value : -1;
  }
  return -1;
}

TEST_P(LoopTest, KeepaliveIsSetOnlyWhereItIsAskedFor) {
  End probed(loop.get());
  End plain(loop.get());
  const Keepalive keepalive{.idle_s = 77, .interval_s = 13, .probes = 5};
  ASSERT_TRUE(
      loop->Connect({.peer = &peer, .keepalive = &keepalive, .handler = &probed, .tag = 1}, &probed.id, &last_error));
  ASSERT_TRUE(Connect(&plain));
  ASSERT_TRUE(Until([&] { return probed.connects == 1 && plain.connects == 1; }));
  const Address local = *loop->LocalAddress(probed.id);
  EXPECT_EQ(OptionOf(local, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(OptionOf(local, IPPROTO_TCP, TCP_KEEPIDLE), 77);
  EXPECT_EQ(OptionOf(local, IPPROTO_TCP, TCP_KEEPINTVL), 13);
  EXPECT_EQ(OptionOf(local, IPPROTO_TCP, TCP_KEEPCNT), 5);
  EXPECT_EQ(OptionOf(*loop->LocalAddress(plain.id), SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST_P(LoopTest, KeepaliveOutOfBoundsIsRefusedAtOnce) {
  End client(loop.get());
  const Keepalive keepalive{.idle_s = 77, .interval_s = 13, .probes = 128};
  EXPECT_FALSE(
      loop->Connect({.peer = &peer, .keepalive = &keepalive, .handler = &client, .tag = 1}, &client.id, &last_error));
  EXPECT_EQ(last_error, EINVAL);
}

TEST_P(LoopTest, CloseWhileConnectingTellsNothing) {
  End client(loop.get());
  ASSERT_TRUE(Connect(&client));
  loop->Close(client.id);
  Settle();
  EXPECT_EQ(client.connects, 0);
  EXPECT_EQ(client.closes, 0);
}

TEST_P(LoopTest, FullSocketTableIsRefusedWithEmfile) {
  Start(LoopOptions{.max_sockets = 3});
  End a(loop.get());
  End b(loop.get());
  End c(loop.get());
  loop->PauseReceive(listener);
  ASSERT_TRUE(Connect(&a));
  ASSERT_TRUE(Connect(&b));
  EXPECT_FALSE(Connect(&c));
  EXPECT_EQ(last_error, EMFILE);
  loop->Close(a.id);
  EXPECT_TRUE(Connect(&c));
}

TEST_P(LoopTest, BytesSentBeforeTheConnectIsDoneArriveInOrder) {
  End client(loop.get());
  ASSERT_TRUE(Connect(&client));
  ASSERT_TRUE(loop->Send(client.id, Bytes("one ")));
  client.on_connected = [&] { EXPECT_TRUE(loop->Send(client.id, Bytes("two"))); };
  ASSERT_TRUE(Until([&] { return server->ends.size() == 1 && server->ends[0]->received == "one two"; }));
}

// --- bytes ---

TEST_P(LoopTest, SmallMessagesAreEchoed) {
  server->prepare = [](End* end) { end->on_received = [end] { EXPECT_TRUE(end->loop->Send(end->id, end->chunk)); }; };
  End client(loop.get());
  Establish(&client);
  for (int i = 0; i < 50; ++i) {
    const std::string message = "message " + std::to_string(i);
    client.received.clear();
    ASSERT_TRUE(loop->Send(client.id, Bytes(message)));
    ASSERT_TRUE(Until([&] { return client.received.size() >= message.size(); }));
    EXPECT_EQ(client.received, message);
  }
}

TEST_P(LoopTest, MegabytesAreEchoedUnderBackPressureByteForByte) {
  constexpr size_t kTotal = 12 * 1024 * 1024;
  std::string pattern(kTotal, '\0');
  for (size_t i = 0; i < kTotal; ++i) {
    pattern[i] = static_cast<char>((i * 2654435761U) >> 13);
  }
  int pauses = 0;
  server->prepare = [&pauses](End* end) {
    end->keep = false;
    end->on_received = [end, &pauses] {
      ASSERT_TRUE(end->loop->Send(end->id, end->chunk));
      if (end->loop->QueuedBytes(end->id) > 0) {
        ++pauses;
        end->loop->PauseReceive(end->id);
      }
    };
    end->on_drained = [end] { end->loop->ResumeReceive(end->id); };
  };
  End client(loop.get());
  size_t sent = 0;
  const auto pump = [&] {
    while (sent < kTotal && loop->QueuedBytes(client.id) == 0) {
      const size_t piece = std::min<size_t>(100'000, kTotal - sent);
      ASSERT_TRUE(loop->Send(client.id, Bytes(std::string_view(pattern).substr(sent, piece))));
      sent += piece;
    }
  };
  client.on_drained = pump;
  End* served = Establish(&client);
  // The client does not read at first, so that every buffer in between fills up.
  loop->PauseReceive(client.id);
  pump();
  ASSERT_TRUE(Until([&] { return pauses > 0; }));
  Settle();
  EXPECT_LT(served->received_bytes, kTotal);
  EXPECT_EQ(client.received_bytes, 0U);
  loop->ResumeReceive(client.id);
  ASSERT_TRUE(Until([&] { return client.received_bytes >= kTotal; }));
  EXPECT_TRUE(client.received == pattern);
  EXPECT_GT(client.drains, 0);
}

TEST_P(LoopTest, SendLimitRefusesWholeAndWhatWasTakenArrives) {
  Start(LoopOptions{.send_queue_limit = 64 * 1024});
  End client(loop.get());
  End* served = Establish(&client);
  loop->PauseReceive(served->id);
  const std::string piece(10'000, 'p');
  size_t taken = 0;
  while (loop->Send(client.id, Bytes(piece))) {
    taken += piece.size();
    ASSERT_LT(taken, size_t{100} * 1024 * 1024) << "nothing ever stops the sender";
  }
  EXPECT_LE(loop->QueuedBytes(client.id), 64U * 1024);
  EXPECT_GT(loop->QueuedBytes(client.id), 64U * 1024 - piece.size());
  EXPECT_FALSE(loop->Send(client.id, Bytes(std::string(65 * 1024, 'x')))) << "a message above the limit";
  served->keep = false;
  loop->ResumeReceive(served->id);
  ASSERT_TRUE(Until([&] { return served->received_bytes == taken; }));
  Settle();
  EXPECT_EQ(loop->QueuedBytes(client.id), 0U);
  EXPECT_EQ(client.drains, 1);
  EXPECT_TRUE(loop->Send(client.id, Bytes(piece)));
}

TEST_P(LoopTest, PausedSocketGetsNothingUntilResumed) {
  End client(loop.get());
  End* served = Establish(&client);
  loop->PauseReceive(served->id);
  ASSERT_TRUE(loop->Send(client.id, Bytes("held")));
  Settle();
  EXPECT_EQ(served->received, "");
  loop->ResumeReceive(served->id);
  ASSERT_TRUE(Until([&] { return served->received == "held"; }));
}

TEST_P(LoopTest, PauseInsideOnReceivedHoldsTheRestBack) {
  Start(LoopOptions{.receive_buffer = 8});
  End client(loop.get());
  End* served = Establish(&client);
  served->on_received = [&] { loop->PauseReceive(served->id); };
  ASSERT_TRUE(loop->Send(client.id, Bytes("0123456789abcdef")));
  ASSERT_TRUE(Until([&] { return served->received_bytes == 8; }));
  Settle();
  EXPECT_EQ(served->received_bytes, 8U);
  loop->ResumeReceive(served->id);
  ASSERT_TRUE(Until([&] { return served->received == "0123456789abcdef"; }));
}

TEST_P(LoopTest, FloodOnOneSocketDoesNotStarveAnother) {
  // More than any backend takes from one socket in one turn.
  Start(LoopOptions{.send_queue_limit = 16 * 1024 * 1024, .receive_buffer = 1024});
  End flood(loop.get());
  End polite(loop.get());
  End* flooded = Establish(&flood);
  End* served = Establish(&polite);
  flooded->keep = false;
  const std::string block(8'000'000, 'f');
  ASSERT_TRUE(loop->Send(flood.id, Bytes(block)));
  ASSERT_TRUE(loop->Send(polite.id, Bytes("hello")));
  ASSERT_TRUE(Until([&] { return served->received == "hello"; }));
  EXPECT_LT(flooded->received_bytes, block.size()) << "the flood was read to its end first";
  ASSERT_TRUE(Until([&] { return flooded->received_bytes == block.size(); }));
}

// --- ends ---

TEST_P(LoopTest, OrderlyCloseIsToldWithZeroAfterTheLastBytes) {
  End client(loop.get());
  End* served = Establish(&client);
  ASSERT_TRUE(loop->Send(client.id, Bytes("last words")));
  loop->Close(client.id);
  ASSERT_TRUE(Until([&] { return served->closes == 1; }));
  EXPECT_EQ(served->close_error, 0);
  EXPECT_EQ(served->received, "last words");
  Settle();
  EXPECT_EQ(client.closes, 0) << "the owner's own Close is not told";
}

TEST_P(LoopTest, ResetIsToldAsConnectionReset) {
  End client(loop.get());
  End* served = Establish(&client);
  loop->Reset(client.id);
  ASSERT_TRUE(Until([&] { return served->closes == 1; }));
  EXPECT_EQ(served->close_error, ECONNRESET);
}

TEST_P(LoopTest, ResetIsToldEvenWhilePaused) {
  End client(loop.get());
  End* served = Establish(&client);
  loop->PauseReceive(served->id);
  loop->Reset(client.id);
  ASSERT_TRUE(Until([&] { return served->closes == 1; }));
  EXPECT_EQ(served->close_error, ECONNRESET);
}

TEST_P(LoopTest, OrderlyCloseWhilePausedWaitsForTheReader) {
  End client(loop.get());
  End* served = Establish(&client);
  loop->PauseReceive(served->id);
  ASSERT_TRUE(loop->Send(client.id, Bytes("unread")));
  loop->Close(client.id);
  Settle();
  EXPECT_EQ(served->closes, 0);
  loop->ResumeReceive(served->id);
  ASSERT_TRUE(Until([&] { return served->closes == 1; }));
  EXPECT_EQ(served->received, "unread");
  EXPECT_EQ(served->close_error, 0);
}

TEST_P(LoopTest, SendingToAPeerThatClosedInOrderEndsAsCloseByPeer) {
  End client(loop.get());
  End* served = Establish(&client);
  loop->PauseReceive(client.id);  // the FIN stays unread, as when it arrives after the batch
  loop->Close(served->id);
  bool refused = false;
  ASSERT_TRUE(Until([&] {
    refused = refused || (client.closes == 0 && !loop->Send(client.id, Bytes("into the void")));
    return client.closes == 1;
  }));
  EXPECT_EQ(client.close_error, 0) << "EPIPE is not an answer that a user can read";
}

TEST_P(LoopTest, SendAfterAResetIsRefusedOnceTheLoopKnows) {
  End client(loop.get());
  End* served = Establish(&client);
  loop->Reset(served->id);
  // The loop has not turned: where a send is tried at once it meets the reset itself, else its completion tells.
  EXPECT_EQ(loop->Send(client.id, Bytes("x")), loop->backend() == "io_uring");
  EXPECT_EQ(client.closes, 0) << "told from within Send";
  ASSERT_TRUE(Until([&] { return client.closes == 1; }));
  EXPECT_EQ(client.close_error, ECONNRESET);
  EXPECT_FALSE(loop->Send(client.id, Bytes("x")));
}

TEST_P(LoopTest, HalfCloseDeliversEverythingQueuedAndStillReceives) {
  End client(loop.get());
  End* served = Establish(&client);
  served->keep = false;
  loop->PauseReceive(served->id);
  const std::string piece(50'000, 'h');
  size_t sent = 0;
  while (loop->QueuedBytes(client.id) == 0) {
    ASSERT_TRUE(loop->Send(client.id, Bytes(piece)));
    sent += piece.size();
  }
  loop->FinishSending(client.id);
  EXPECT_FALSE(loop->Send(client.id, Bytes("more")));
  ASSERT_TRUE(loop->Send(served->id, Bytes("answer to a half-closed client")));
  ASSERT_TRUE(Until([&] { return client.received == "answer to a half-closed client"; }));
  loop->ResumeReceive(served->id);
  ASSERT_TRUE(Until([&] { return served->closes == 1; }));
  EXPECT_EQ(served->received_bytes, sent);
  EXPECT_EQ(served->close_error, 0);
  ASSERT_TRUE(Until([&] { return client.closes == 1; }));
  EXPECT_EQ(client.close_error, 0);
}

TEST_P(LoopTest, FinishSendingBeforeTheConnectIsDoneWaitsForIt) {
  End client(loop.get());
  ASSERT_TRUE(Connect(&client));
  ASSERT_TRUE(loop->Send(client.id, Bytes("all")));
  loop->FinishSending(client.id);
  ASSERT_TRUE(Until([&] { return server->ends.size() == 1 && server->ends[0]->closes == 1; }));
  EXPECT_EQ(server->ends[0]->received, "all");
  EXPECT_EQ(server->ends[0]->close_error, 0);
}

// --- closing inside callbacks ---

TEST_P(LoopTest, CloseInsideOnConnected) {
  End client(loop.get());
  client.on_connected = [&] { loop->Close(client.id); };
  ASSERT_TRUE(Connect(&client));
  ASSERT_TRUE(Until([&] { return client.connects == 1; }));
  ASSERT_TRUE(Until([&] { return server->ends.size() == 1 && server->ends[0]->closes == 1; }));
  EXPECT_EQ(client.closes, 0);
}

TEST_P(LoopTest, CloseInsideOnAccepted) {
  server->prepare = [&](End* end) { loop->Close(end->id); };
  End client(loop.get());
  ASSERT_TRUE(Connect(&client));
  ASSERT_TRUE(Until([&] { return client.closes == 1; }));
  EXPECT_EQ(client.connect_error, 0);
}

TEST_P(LoopTest, NullHandlerClosesTheAcceptedConnection) {
  server->refuse = true;
  End client(loop.get());
  ASSERT_TRUE(Connect(&client));
  ASSERT_TRUE(Until([&] { return client.closes == 1; }));
  EXPECT_EQ(client.close_error, 0);
}

TEST_P(LoopTest, CloseInsideOnReceivedStopsReadingAndKeepsTheSpan) {
  Start(LoopOptions{.receive_buffer = 16});
  End client(loop.get());
  End* served = Establish(&client);
  std::string after_close;
  served->on_received = [&] {
    loop->Close(served->id);
    after_close.assign(reinterpret_cast<const char*>(served->chunk.data()), served->chunk.size());
  };
  ASSERT_TRUE(loop->Send(client.id, Bytes("0123456789abcdefREST THAT NOBODY READS")));
  ASSERT_TRUE(Until([&] { return client.closes == 1; }));
  EXPECT_EQ(served->received_bytes, 16U);
  EXPECT_EQ(after_close, "0123456789abcdef");
  EXPECT_EQ(served->closes, 0);
}

TEST_P(LoopTest, CloseInsideOnDrained) {
  End client(loop.get());
  End* served = Establish(&client);
  served->keep = false;
  loop->PauseReceive(served->id);
  client.on_drained = [&] { loop->Close(client.id); };
  while (loop->QueuedBytes(client.id) == 0) {
    ASSERT_TRUE(loop->Send(client.id, Bytes(std::string(50'000, 'd'))));
  }
  loop->ResumeReceive(served->id);
  ASSERT_TRUE(Until([&] { return served->closes == 1; }));
  EXPECT_EQ(client.drains, 1);
  EXPECT_EQ(client.closes, 0);
}

TEST_P(LoopTest, CloseInsideOnClosedDoesNothing) {
  End client(loop.get());
  End* served = Establish(&client);
  End next(loop.get());
  SocketId inside = kNoSocket;
  served->on_closed = [&] {
    loop->Close(served->id);
    EXPECT_FALSE(loop->Send(served->id, Bytes("x")));
    ASSERT_TRUE(Connect(&next));
    inside = next.id;
    EXPECT_NE(inside, served->id) << "the id is in use until OnClosed has returned";
  };
  loop->Close(client.id);
  ASSERT_TRUE(Until([&] { return served->closes == 1 && next.connects == 1; }));
  EXPECT_EQ(next.connect_error, 0);
}

TEST_P(LoopTest, CloseOfAnotherSocketWithEventsInTheSameBatchSilencesIt) {
  End a(loop.get());
  End b(loop.get());
  End* served_a = Establish(&a);
  End* served_b = Establish(&b);
  // Whichever is served first closes the other one: its event of this batch must not be delivered any more.
  served_a->on_received = [&] { loop->Close(served_b->id); };
  served_b->on_received = [&] { loop->Close(served_a->id); };
  ASSERT_TRUE(loop->Send(a.id, Bytes("a")));
  ASSERT_TRUE(loop->Send(b.id, Bytes("b")));
  ASSERT_TRUE(Until([&] { return served_a->received_bytes + served_b->received_bytes > 0; }));
  Settle();
  EXPECT_EQ(served_a->received_bytes + served_b->received_bytes, 1U);
}

TEST_P(LoopTest, IdReusedWithinABatchDoesNotInheritTheOldOwnersEvents) {
  End a(loop.get());
  End b(loop.get());
  End* served_a = Establish(&a);
  End* served_b = Establish(&b);
  End fresh(loop.get());
  const auto replace = [&](End* other) {
    if (fresh.id == kNoSocket) {
      loop->Close(other->id);
      ASSERT_TRUE(Connect(&fresh));
      EXPECT_EQ(fresh.id, other->id) << "this test needs the id to be reused";
    }
  };
  served_a->on_received = [&] { replace(served_b); };
  served_b->on_received = [&] { replace(served_a); };
  ASSERT_TRUE(loop->Send(a.id, Bytes("a")));
  ASSERT_TRUE(loop->Send(b.id, Bytes("b")));
  ASSERT_TRUE(Until([&] { return fresh.connects == 1; }));
  Settle();
  EXPECT_EQ(fresh.connect_error, 0);
  EXPECT_EQ(fresh.received_bytes, 0U);
  EXPECT_EQ(fresh.closes, 0);
}

TEST_P(LoopTest, ClosedIdIsDeafToEveryCall) {
  End client(loop.get());
  Establish(&client);
  const SocketId id = client.id;
  loop->Close(id);
  loop->Close(id);
  loop->Reset(id);
  loop->PauseReceive(id);
  loop->ResumeReceive(id);
  loop->FinishSending(id);
  EXPECT_FALSE(loop->Send(id, Bytes("x")));
  EXPECT_EQ(loop->QueuedBytes(id), 0U);
  EXPECT_FALSE(loop->LocalAddress(id).ok());
  loop->Close(123);
  EXPECT_FALSE(loop->Send(kNoSocket, Bytes("x")));
}

// --- listening ---

TEST_P(LoopTest, PortTakenIsAnErrorThatNamesTheAddress) {
  const absl::StatusOr<SocketId> second = loop->Listen(peer, false, 16, server.get(), Server::kTag);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), ::testing::HasSubstr(ToString(peer)));
}

TEST_P(LoopTest, SharedPortIsSplitOverItsListeners) {
  Address shared = *ParseAddress("127.0.0.1:0");
  const absl::StatusOr<SocketId> first = loop->Listen(shared, true, 64, server.get(), Server::kTag);
  ASSERT_TRUE(first.ok()) << first.status();
  peer = *loop->LocalAddress(*first);
  Server other(loop.get());
  const absl::StatusOr<SocketId> second = loop->Listen(peer, true, 64, &other, Server::kTag);
  ASSERT_TRUE(second.ok()) << second.status();
  std::vector<std::unique_ptr<End>> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<End>(loop.get()));
    ASSERT_TRUE(Connect(clients.back().get()));
  }
  ASSERT_TRUE(Until([&] { return server->accepts + other.accepts == 64; }));
  EXPECT_GT(server->accepts, 0);
  EXPECT_GT(other.accepts, 0);
}

TEST_P(LoopTest, PausedListenerAcceptsNothingUntilResumed) {
  loop->PauseReceive(listener);
  End client(loop.get());
  ASSERT_TRUE(Connect(&client));
  ASSERT_TRUE(Until([&] { return client.connects == 1; }));  // by the kernel's backlog
  Settle();
  EXPECT_EQ(server->accepts, 0);
  loop->ResumeReceive(listener);
  ASSERT_TRUE(Until([&] { return server->accepts == 1; }));
}

// Lowers the descriptor limit to what is in use now plus `spare`, and puts it back.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t spare) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    rlimit lowered = before_;
    lowered.rlim_cur = static_cast<rlim_t>(next) + spare;
    close(next);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &lowered), 0);
  }
  ~DescriptorLimit() { Lift(); }
  void Lift() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// A connection that the loop under test does not know: its own limits do not bind it.
int ConnectOutside(const Address& peer) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_GE(fd, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&peer.storage), peer.length), 0) << "errno " << errno;
  return fd;
}

TEST_P(LoopTest, FinishSendingDoesNotWaitForSomethingElseToHappen) {
  constexpr int64_t kLongWait_ns = 10'000 * kMillisecond_ns;
  const int fd = ConnectOutside(peer);
  ASSERT_TRUE(Until([&] { return server->ends.size() == 1; }));
  // The peer ends when it has read the end, and that is what wakes the loop.
  std::thread reader([fd] {
    char bytes[16];
    while (recv(fd, bytes, sizeof(bytes), 0) > 0) {
    }
    close(fd);
  });
  ASSERT_TRUE(loop->Send(server->ends[0]->id, Bytes("all")));
  loop->FinishSending(server->ends[0]->id);
  const int64_t begun_ns = Loop::ReadClock();
  for (int turn = 0; turn < 4 && server->ends[0]->closes == 0; ++turn) {
    loop->RunOnce(kLongWait_ns);
  }
  reader.join();
  EXPECT_EQ(server->ends[0]->closes, 1);
  EXPECT_LT(Loop::ReadClock() - begun_ns, kLongWait_ns / 2);
}

// The peer takes everything and says nothing: only the loop itself can find that there is room again.
TEST_P(LoopTest, DrainedIsToldWithoutSomethingElseHappening) {
  constexpr int64_t kLongWait_ns = 10'000 * kMillisecond_ns;
  const std::string large(200'000, 'l');
  const std::string small(1'000, 's');
  for (const bool until_refused : {false, true}) {
    const int fd = ConnectOutside(peer);
    server->ends.clear();
    ASSERT_TRUE(Until([&] { return server->ends.size() == 1; }));
    End* served = server->ends[0].get();
    if (until_refused) {
      while (loop->Send(served->id, Bytes(small))) {
      }
    } else {
      ASSERT_TRUE(loop->Send(served->id, Bytes(large)));
      ASSERT_TRUE(loop->Send(served->id, Bytes(small)));
      if (loop->QueuedBytes(served->id) == 0) {
        served->drains = 1;  // the kernel had room for it all
      }
    }
    std::thread reader([fd] {
      std::vector<char> bytes(65'536);
      while (recv(fd, bytes.data(), bytes.size(), 0) > 0) {
      }
      close(fd);
    });
    const int64_t begun_ns = Loop::ReadClock();
    for (int turn = 0; turn < 100 && served->drains == 0; ++turn) {
      loop->RunOnce(kLongWait_ns);
    }
    EXPECT_EQ(served->drains, 1);
    EXPECT_LT(Loop::ReadClock() - begun_ns, kLongWait_ns / 2);
    loop->Close(served->id);
    reader.join();
  }
}

TEST_P(LoopTest, AtTheDescriptorLimitConnectionsAreTurnedAwayWithoutSpinning) {
  // UBSan opens a pipe when it meets a type for the first time: it has to have met them all before the limit.
  End first(loop.get());
  Establish(&first);
  // A listener whose first accept is yet to come: io_uring accepts under the limit that held when it was asked to.
  listener = Listen("127.0.0.1:0");
  peer = *loop->LocalAddress(listener);
  std::vector<int> outside;
  outside.reserve(8);
  for (int i = 0; i < 8; ++i) {
    outside.push_back(ConnectOutside(peer));  // they wait in the backlog: the loop has not turned yet
  }
  DescriptorLimit limit(3);
  ASSERT_TRUE(Until([&] { return !server->failures.empty(); }));
  EXPECT_EQ(server->ends.size(), 4U);
  EXPECT_EQ(server->failures, std::vector<int>(5, EMFILE)) << "each of the others was turned away";
  for (const int fd : outside) {
    char byte = 0;
    const ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    const int error = errno;
    if (n < 0) {
      EXPECT_TRUE(error == EAGAIN || error == ECONNRESET) << "errno " << error;
    }
  }
  // While the listener waits, a turn really waits: no event keeps coming back.
  int turns = 0;
  const int64_t until_ns = Loop::ReadClock() + Loop::kAcceptPause_ns / 2;
  while (Loop::ReadClock() < until_ns) {
    loop->RunOnce(20 * kMillisecond_ns);
    ++turns;
  }
  EXPECT_LE(turns, 10);
  // With descriptors again, the listener goes on by itself.
  limit.Lift();
  outside.push_back(ConnectOutside(peer));
  ASSERT_TRUE(Until([&] { return server->ends.size() == 5; }));
  for (const int fd : outside) {
    close(fd);
  }
}

TEST_P(LoopTest, LastDescriptorIsUsedWithoutAFalseAlarm) {
  End first(loop.get());  // as above
  Establish(&first);
  const int client = ConnectOutside(peer);
  DescriptorLimit limit(1);
  const bool accepted = Until([&] { return server->ends.size() == 2; });
  Settle(3);
  limit.Lift();
  EXPECT_TRUE(accepted);
  EXPECT_THAT(server->failures, ::testing::IsEmpty()) << "nobody was turned away, so nothing failed";
  close(client);
}

TEST_P(LoopTest, FullSocketTableTurnsConnectionsAwayToo) {
  Start(LoopOptions{.max_sockets = 3});
  std::vector<int> outside;
  outside.reserve(5);
  for (int i = 0; i < 5; ++i) {
    outside.push_back(ConnectOutside(peer));
  }
  ASSERT_TRUE(Until([&] { return !server->failures.empty(); }));
  EXPECT_EQ(server->ends.size(), 2U);
  EXPECT_EQ(server->failures, std::vector<int>(3, EMFILE));
  for (const int fd : outside) {
    close(fd);
  }
}

TEST_P(LoopTest, ConnectWithoutDescriptorsSaysEmfile) {
  End client(loop.get());
  DescriptorLimit limit(0);
  const bool begun = Connect(&client);
  limit.Lift();
  EXPECT_FALSE(begun);
  EXPECT_EQ(last_error, EMFILE);
}

// --- adopted descriptors ---

TEST_P(LoopTest, AdoptedSocketPairCarriesBytesBothWaysAndTellsItsEnd) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  ASSERT_EQ(write(pair[1], "early", 5), 5);
  End end(loop.get());
  const absl::StatusOr<SocketId> id = loop->Adopt(pair[0], &end, 5);
  ASSERT_TRUE(id.ok()) << id.status();
  end.id = *id;
  ASSERT_TRUE(Until([&] { return end.received == "early"; }));
  ASSERT_TRUE(loop->Send(end.id, Bytes("back")));
  char buffer[8] = {};
  ASSERT_TRUE(Until([&] { return recv(pair[1], buffer, sizeof(buffer), MSG_DONTWAIT) == 4; }));
  EXPECT_STREQ(buffer, "back");
  close(pair[1]);
  ASSERT_TRUE(Until([&] { return end.closes == 1; }));
  EXPECT_EQ(end.close_error, 0);
}

TEST_P(LoopTest, OnlyStreamSocketsAreAdopted) {
  End end(loop.get());
  EXPECT_FALSE(loop->Adopt(open("/dev/null", O_RDONLY | O_CLOEXEC), &end, 0).ok());
  EXPECT_FALSE(loop->Adopt(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), &end, 0).ok());
  EXPECT_FALSE(loop->Adopt(-1, &end, 0).ok());
}

// --- many ---

TEST_P(LoopTest, ThousandsOfSocketsComeTalkAndGoAndTheirIdsAreDense) {
  constexpr uint32_t kPairs = 2000;
  // Both ends of a pair are this process's, and a login begins with 1024 descriptors.
  const absl::StatusOr<os::DescriptorLimit> limit = os::RaiseDescriptorLimit();
  ASSERT_TRUE(limit.ok()) << limit.status();
  ASSERT_GT(limit->soft, 2 * kPairs) << "the hard limit of descriptors (ulimit -Hn) is too low for this test";
  Start(LoopOptions{.max_sockets = 2 * kPairs + 1});
  server->prepare = [](End* end) { end->on_received = [end] { EXPECT_TRUE(end->loop->Send(end->id, end->chunk)); }; };
  for (int round = 0; round < 2; ++round) {
    server->ends.clear();
    std::vector<std::unique_ptr<End>> clients;
    std::set<SocketId> ids;
    for (uint32_t i = 0; i < kPairs; ++i) {
      clients.push_back(std::make_unique<End>(loop.get()));
      End* client = clients.back().get();
      client->on_connected = [client] { EXPECT_TRUE(client->loop->Send(client->id, Bytes("ping"))); };
      ASSERT_TRUE(Connect(client)) << "errno " << last_error;
      EXPECT_LE(client->id, 2 * kPairs);
      ids.insert(client->id);
    }
    EXPECT_EQ(ids.size(), kPairs);
    ASSERT_TRUE(Until([&] {
      return std::all_of(clients.begin(), clients.end(), [](const auto& c) { return c->received == "ping"; });
    }));
    for (const auto& client : clients) {
      loop->Close(client->id);
    }
    ASSERT_TRUE(Until([&] {
      return std::all_of(server->ends.begin(), server->ends.end(), [](const auto& e) { return e->closes == 1; });
    }));
  }
}

TEST_P(LoopTest, DestroyingTheLoopClosesWhatIsOpenWithoutCallbacks) {
  End client(loop.get());
  End* served = Establish(&client);
  const int outside = ConnectOutside(peer);
  ASSERT_TRUE(Until([&] { return server->ends.size() == 2; }));
  loop.reset();
  char byte = 0;
  EXPECT_LE(recv(outside, &byte, 1, 0), 0);
  EXPECT_EQ(client.closes + served->closes, 0);
  close(outside);
}

// --- time ---

struct Ticker : TickHandler {
  int64_t OnTick(int64_t now_ns) override {
    ticks.push_back(now_ns);
    return hook ? hook(now_ns) : INT64_MAX;
  }
  std::function<int64_t(int64_t)> hook;
  std::vector<int64_t> ticks;
};

TEST_P(LoopTest, WakesAtTheTicksDeadlineNotBefore) {
  Ticker ticker;
  loop->SetTickHandler(&ticker);
  const int64_t due_ns = Loop::ReadClock() + 20 * kMillisecond_ns + 123'456;
  ticker.hook = [&](int64_t now_ns) {
    if (now_ns >= due_ns) {
      loop->Stop();
    }
    return due_ns;
  };
  loop->Run();
  ASSERT_FALSE(ticker.ticks.empty());
  EXPECT_GE(ticker.ticks.back(), due_ns);
  EXPECT_LT(ticker.ticks.back(), due_ns + 1000 * kMillisecond_ns);
  EXPECT_LE(ticker.ticks.size(), 5U) << "waited by spinning";
}

TEST_P(LoopTest, MaxWaitBoundsATurnWithoutADeadline) {
  Settle();  // the kernel's taking down of another test's ring may interrupt a wait
  const int64_t before_ns = Loop::ReadClock();
  loop->RunOnce(10 * kMillisecond_ns);
  const int64_t spent_ns = Loop::ReadClock() - before_ns;
  EXPECT_GE(spent_ns, 10 * kMillisecond_ns);
  loop->RunOnce(-5);  // in the past: does not wait
  loop->RunOnce(0);
}

TEST_P(LoopTest, TickComesBeforeTheWaitAndTheBatchSharesOneClockReading) {
  Ticker ticker;
  loop->SetTickHandler(&ticker);
  End a(loop.get());
  End b(loop.get());
  End* served_a = Establish(&a);
  End* served_b = Establish(&b);
  std::vector<int64_t> readings;
  served_a->on_received = [&] { readings.push_back(loop->now_ns()); };
  served_b->on_received = served_a->on_received;
  ASSERT_TRUE(loop->Send(a.id, Bytes("x")));
  ASSERT_TRUE(loop->Send(b.id, Bytes("x")));
  const size_t ticks_before = ticker.ticks.size();
  loop->RunOnce(100 * kMillisecond_ns);
  ASSERT_EQ(readings.size(), 2U);
  EXPECT_EQ(readings[0], readings[1]);
  ASSERT_EQ(ticker.ticks.size(), ticks_before + 1);
  EXPECT_LE(ticker.ticks.back(), readings[0]);
}

TEST_P(LoopTest, StopInsideACallbackEndsRun) {
  End client(loop.get());
  client.on_connected = [&] { loop->Stop(); };
  ASSERT_TRUE(Connect(&client));
  loop->Run();
  EXPECT_EQ(client.connects, 1);
}

TEST(LoopCreateTest, BadOptionsAndUnknownBackendsAreErrors) {
  EXPECT_FALSE(Loop::Create(LoopOptions{.max_sockets = 0}).ok());
  EXPECT_FALSE(Loop::Create(LoopOptions{.receive_buffer = 0}).ok());
  EXPECT_FALSE(Loop::Create(LoopOptions{}, "kqueue").ok());
}

}  // namespace
}  // namespace loadstar::net
