#include "lib/net/uring_loop.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/os/clock.h"

namespace loadstar::net {
namespace {

// More than this is not copied through the turn's list: it goes to the kernel as a send of its own that may wait.
constexpr size_t kLargeSend = 32 * 1024;
// What the turn's list keeps of its memory from one turn to the next.
constexpr size_t kOutgoingKept = 1024 * 1024;

// So often the kernel repeats a multishot receive before the next socket has its turn (io_uring/net.c,
// MULTISHOT_MAX_RETRY). One flooded socket must not be able to take all buffers in that time: the others would find
// none, turn after turn.
constexpr uint32_t kReceivesInARow = 32;

// Names of linux/io_uring.h that liburing 2.3 does not have yet.
constexpr uint16_t kBufferRingIncremental = 2;       // IOU_PBUF_RING_INC, Linux 6.12
constexpr unsigned kFeatureMinimumWait = 1U << 15U;  // IORING_FEAT_MIN_TIMEOUT, Linux 6.12

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> UringLoop::Create(const LoopOptions& options) {
  const absl::StatusOr<int> reserve_fd = OpenReserve();
  if (!reserve_fd.ok()) {
    return reserve_fd.status();
  }
  std::unique_ptr<UringLoop> loop(new UringLoop(options, *reserve_fd));
  if (absl::Status started = loop->Start(); !started.ok()) {
    return started;
  }
  return std::unique_ptr<Loop>(std::move(loop));
}

UringLoop::UringLoop(const LoopOptions& options, int reserve_fd)
    : SocketLoop(options, reserve_fd), peers_(std::make_unique<sockaddr_in6[]>(kSubmissions)) {}

UringLoop::~UringLoop() {
  for (uint32_t id = 0; id < used_; ++id) {
    if (sockets_[id].fd >= 0) {
      CloseDescriptor(&sockets_[id], false);
    }
  }
  for (const HeldAccept& held : held_accepts_) {
    CloseWithReset(held.fd);
  }
  if (started_) {
    io_uring_queue_exit(&ring_);
  }
  if (buffers_.ring != nullptr) {
    munmap(buffers_.ring, buffers_.mapped);
  }
}

// --- the start ---

absl::Status UringLoop::Start() {
  io_uring_params params{};
  constexpr unsigned kAlways = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
  params.flags = kAlways | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  params.cq_entries = kCompletions;
  int error = -io_uring_queue_init_params(kSubmissions, &ring_, &params);
  if (error == EINVAL) {
    reason_ = "the kernel does not defer task work (before 6.1)";
    params = {};
    params.flags = kAlways | IORING_SETUP_COOP_TASKRUN;
    // Without deferring, completions come at every system call and not only when they are asked for.
    params.cq_entries = std::max(kCompletions, 2 * options_.max_sockets);
    error = -io_uring_queue_init_params(kSubmissions, &ring_, &params);
  }
  if (error != 0) {
    return absl::ErrnoToStatus(error, "io_uring_setup failed");
  }
  started_ = true;
  constexpr unsigned kNeeded = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG |
                               IORING_FEAT_CQE_SKIP | IORING_FEAT_FAST_POLL;
  if ((params.features & kNeeded) != kNeeded) {
    return absl::UnimplementedError("the kernel's io_uring is too old (before 5.17)");
  }
  can_batch_ = (params.features & kFeatureMinimumWait) != 0;
  if (!can_batch_) {
    absl::StrAppend(&reason_, reason_.empty() ? "" : "; ", "the kernel has no minimum wait (before 6.12)");
  }
  // Entries are used in the order of their places.
  for (unsigned i = 0; i < *ring_.sq.kring_entries; ++i) {
    ring_.sq.array[i] = i;
  }
  ring_fd_ = ring_.ring_fd;
  if (io_uring_register_ring_fd(&ring_) == 1) {
    ring_fd_ = ring_.enter_ring_fd;
    enter_flags_ = IORING_ENTER_REGISTERED_RING;
  }
  if (absl::Status buffers = StartBuffers(); !buffers.ok()) {
    return buffers;
  }
  return ProbeReceive();
}

absl::Status UringLoop::StartBuffers() {
  const auto start = [this](bool shared) {
    buffers_.shared = shared;
    buffers_.count = shared ? 2 * kReceivesInARow : 512;
    buffers_.size = shared ? 8 * 1024 : 2 * 1024;
    const size_t head = buffers_.count * sizeof(io_uring_buf);
    buffers_.mapped = head + static_cast<size_t>(buffers_.count) * buffers_.size;
    void* memory = mmap(nullptr, buffers_.mapped, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (memory == MAP_FAILED) {
      return errno;
    }
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<uint64_t>(memory);
    registration.ring_entries = buffers_.count;
    registration.bgid = kBufferGroup;
    registration.pad = shared ? kBufferRingIncremental : 0;
    const int error = -io_uring_register_buf_ring(&ring_, &registration, 0);
    if (error != 0) {
      munmap(memory, buffers_.mapped);
      return error;
    }
    buffers_.ring = static_cast<io_uring_buf_ring*>(memory);
    buffers_.memory = static_cast<std::byte*>(memory) + head;
    return 0;
  };
  int error = start(true);
  if (error == EINVAL) {
    absl::StrAppend(&reason_, reason_.empty() ? "" : "; ", "receives do not share buffers (kernel before 6.12)");
    error = start(false);
  }
  if (error != 0) {
    return absl::ErrnoToStatus(error, "io_uring: no ring of receive buffers");
  }
  io_uring_buf_ring_init(buffers_.ring);
  buffers_.used.assign(buffers_.count, 0);
  for (uint32_t i = 0; i < buffers_.count; ++i) {
    Recycle(i);
  }
  return absl::OkStatus();
}

// Receives twice from one multishot receive on a socket pair: what the kernel says it can and what it does are two
// things.
absl::Status UringLoop::ProbeReceive() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
    return absl::ErrnoToStatus(errno, "io_uring: no socket pair for the probe");
  }
  const absl::Cleanup close_pair = [&pair] {
    close(pair[0]);
    close(pair[1]);
  };
  io_uring_sqe* entry = NextEntry();
  io_uring_prep_recv_multishot(entry, pair[0], nullptr, 0, 0);
  entry->flags |= IOSQE_BUFFER_SELECT;
  entry->buf_group = kBufferGroup;
  absl::Status result = absl::OkStatus();
  for (int i = 0; i < 3 && result.ok(); ++i) {
    // The third round is the end of the pair, and with it of the receive.
    const bool last = i == 2;
    if (last ? shutdown(pair[1], SHUT_RDWR) != 0 : send(pair[1], "x", 1, MSG_NOSIGNAL) != 1) {
      return absl::ErrnoToStatus(errno, "io_uring: the probe cannot send");
    }
    constexpr int64_t kPatience_ns = 5'000'000'000;
    const int64_t until_ns = ReadClock() + kPatience_ns;
    while (io_uring_cq_ready(&ring_) == 0 && ReadClock() < until_ns) {
      Enter(kPatience_ns);
    }
    io_uring_cqe* completion = nullptr;
    if (io_uring_peek_cqe(&ring_, &completion) != 0) {
      return absl::DeadlineExceededError("io_uring: the probe's receive does not complete");
    }
    const bool more = (completion->flags & IORING_CQE_F_MORE) != 0;
    if (completion->res < 0) {
      result = absl::ErrnoToStatus(-completion->res, "io_uring: multishot receive failed (kernel before 6.0?)");
    } else if (!last && (completion->res != 1 || !more || (completion->flags & IORING_CQE_F_BUFFER) == 0)) {
      result = absl::UnimplementedError("io_uring: a multishot receive ended after one completion");
    } else if (!last) {
      const uint32_t buffer = completion->flags >> IORING_CQE_BUFFER_SHIFT;
      if (buffers_.shared) {
        buffers_.used[buffer] += 1;
      } else {
        Recycle(buffer);
      }
    }
    io_uring_cqe_seen(&ring_, completion);
    resolved_to_ = *ring_.cq.khead;
  }
  return result;
}

void UringLoop::Recycle(uint32_t buffer) {
  buffers_.used[buffer] = 0;
  io_uring_buf_ring_add(buffers_.ring, buffers_.memory + static_cast<size_t>(buffer) * buffers_.size, buffers_.size,
                        static_cast<uint16_t>(buffer), io_uring_buf_ring_mask(buffers_.count), 0);
  io_uring_buf_ring_advance(buffers_.ring, 1);
}

// --- submitting ---

io_uring_sqe* UringLoop::NextEntry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    ++stats_.queue_overflows;
    Enter(-1);
    entry = io_uring_get_sqe(&ring_);
  }
  return entry;
}

void UringLoop::Enter(int64_t wait_ns, bool batch) {
  constexpr int64_t kSecond_ns = 1'000'000'000;
  constexpr int64_t kLongest_ns = 3600 * kSecond_ns;  // an idle loop wakes once an hour
  io_uring_sq& queue = ring_.sq;
  if (queue.sqe_head != queue.sqe_tail) {
    queue.sqe_head = queue.sqe_tail;
    io_uring_smp_store_release(queue.ktail, queue.sqe_tail);
  }
  const unsigned to_submit = queue.sqe_tail - io_uring_smp_load_acquire(queue.khead);
  const auto fd = static_cast<unsigned>(ring_fd_);
  if (wait_ns < 0) {
    (void)io_uring_enter2(fd, to_submit, 0, enter_flags_, nullptr, 0);
  } else if (wait_ns == 0) {
    (void)io_uring_enter2(fd, to_submit, 0, enter_flags_ | IORING_ENTER_GETEVENTS, nullptr, 0);
  } else {
    const int64_t bounded = std::min(wait_ns, kLongest_ns);
    __kernel_timespec timeout{.tv_sec = bounded / kSecond_ns, .tv_nsec = bounded % kSecond_ns};
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<uint64_t>(&timeout);
    unsigned completions = 1;
    if (batch && can_batch_) {
      // As long as this it waits for that many; then one is enough. liburing 2.3 does not name the field yet.
      completions = BatchWait::Completions(InUse());
      argument.pad = static_cast<uint32_t>(std::min(wait_ns, BatchWait::kLongest_ns) / 1000);
    }
    // ETIME and EINTR: a turn without completions. Other errors leave entries in the queue for the next call.
    (void)io_uring_enter2(fd, to_submit, completions, enter_flags_ | IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                          reinterpret_cast<sigset_t*>(&argument), sizeof(argument));
  }
}

void UringLoop::Forget(int fd) {
  const io_uring_sq& queue = ring_.sq;
  for (unsigned i = io_uring_smp_load_acquire(queue.khead); i != queue.sqe_tail; ++i) {
    io_uring_sqe& entry = queue.sqes[i & *queue.kring_mask];
    if (entry.fd == fd && entry.opcode != IORING_OP_ASYNC_CANCEL) {
      if (entry.user_data >> 60 == static_cast<uint64_t>(Operation::kLateSend)) {
        FreeLateSend(static_cast<uint32_t>(entry.user_data));
      }
      io_uring_prep_nop(&entry);
      entry.flags = IOSQE_CQE_SKIP_SUCCESS;
      entry.user_data = Pack(Operation::kNothing, 0);
    }
  }
}

int UringLoop::Watch(SocketId id, const Address* peer, int* /*connect_error*/) {
  Socket& socket = sockets_[id];
  if (socket.state == State::kOpen) {
    Receive(id);
  } else if (socket.state == State::kListening) {
    Accept(id);
  } else {
    io_uring_sqe* entry = NextEntry();
    sockaddr_in6* address = &peers_[static_cast<size_t>(entry - ring_.sq.sqes)];
    std::memcpy(address, &peer->storage, std::min<size_t>(peer->length, sizeof(*address)));
    io_uring_prep_connect(entry, socket.fd, reinterpret_cast<const sockaddr*>(address), peer->length);
    entry->user_data = Pack(Operation::kConnect, id, socket.generation);
  }
  return 0;
}

void UringLoop::Receive(SocketId id) {
  Socket& socket = sockets_[id];
  io_uring_sqe* entry = NextEntry();
  io_uring_prep_recv_multishot(entry, socket.fd, nullptr, 0, 0);
  entry->flags |= IOSQE_BUFFER_SELECT;
  entry->buf_group = kBufferGroup;
  entry->ioprio |= IORING_RECVSEND_POLL_FIRST;  // a first try would find nothing in most cases
  entry->user_data = Pack(Operation::kReceive, id, socket.generation);
  socket.receiving = true;
  socket.cancelling = false;
}

void UringLoop::Accept(SocketId id) {
  Socket& socket = sockets_[id];
  io_uring_sqe* entry = NextEntry();
  io_uring_prep_multishot_accept(entry, socket.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  entry->user_data = Pack(Operation::kAccept, id, socket.generation);
  socket.receiving = true;
  socket.cancelling = false;
}

void UringLoop::TakeBack(SocketId id) {
  Socket& socket = sockets_[id];
  const bool listening = socket.state == State::kListening;
  if (socket.receiving && !socket.cancelling) {
    io_uring_sqe* entry = NextEntry();
    io_uring_prep_cancel64(entry, Pack(listening ? Operation::kAccept : Operation::kReceive, id, socket.generation), 0);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry->user_data = Pack(Operation::kNothing, 0);
    socket.cancelling = true;
  }
  if (!listening && socket.paused && !socket.watching) {
    io_uring_sqe* entry = NextEntry();
    io_uring_prep_poll_add(entry, socket.fd, 0);  // POLLERR and POLLHUP are always told
    entry->user_data = Pack(Operation::kWatch, id, socket.generation);
    socket.watching = true;
  }
}

// --- what the owner asks for ---

bool UringLoop::Send(SocketId id, std::span<const std::byte> bytes) {
  if (!IsConnection(id)) {
    return false;
  }
  Socket& socket = sockets_[id];
  if (socket.failed || socket.finish_requested) {
    return false;
  }
  if (QueuedBytes(id) + bytes.size() > options_.send_queue_limit) {
    socket.drain_wanted = true;
    sends_awaited_ = true;
    return false;
  }
  if (socket.state == State::kConnecting || socket.late_send != kNone || !socket.queue.empty()) {
    socket.queue.Append(bytes);
  } else if (bytes.size() > kLargeSend && socket.turn_send == kNone) {
    BeginLateSend(id, bytes);
  } else if (!bytes.empty()) {
    Gather(id, bytes);
    if (outgoing_.size() >= kSendsPerSubmit) {
      PrepareSends();
      Enter(-1);
      ResolveSends();
    }
  }
  return true;
}

void UringLoop::Gather(SocketId id, std::span<const std::byte> bytes) {
  Socket& socket = sockets_[id];
  const size_t end = outgoing_bytes_.size();
  if (socket.turn_send == kNone) {
    socket.turn_send = static_cast<uint32_t>(outgoing_.size());
    outgoing_.push_back({TokenOf(id), static_cast<uint32_t>(end), 0});
  }
  Outgoing& outgoing = outgoing_[socket.turn_send];
  if (outgoing.offset + outgoing.length != end) {
    // Others came in between: the socket's bytes move to the end, so that they stay in one piece.
    outgoing_bytes_.resize(end + outgoing.length);
    std::memcpy(&outgoing_bytes_[end], &outgoing_bytes_[outgoing.offset], outgoing.length);
    outgoing.offset = static_cast<uint32_t>(end);
  }
  outgoing_bytes_.insert(outgoing_bytes_.end(), bytes.begin(), bytes.end());
  outgoing.length += static_cast<uint32_t>(bytes.size());
}

void UringLoop::GatherQueue(SocketId id) {
  Socket& socket = sockets_[id];
  if (!socket.queue.empty()) {
    const ByteQueue queue = std::exchange(socket.queue, ByteQueue());
    if (queue.size() > kLargeSend || socket.drain_wanted) {
      BeginLateSend(id, queue.front());
    } else {
      Gather(id, queue.front());
    }
  }
}

size_t UringLoop::QueuedBytes(SocketId id) const {
  if (id >= used_) {
    return 0;
  }
  Socket& socket = sockets_[id];
  size_t bytes = socket.queue.size();
  if (socket.turn_send != kNone) {
    bytes += outgoing_[socket.turn_send].length;
  }
  if (socket.late_send != kNone) {
    bytes += late_sends_[socket.late_send].bytes.size();
  }
  if (bytes > 0) {
    socket.drain_wanted = true;
  }
  return bytes;
}

void UringLoop::ResumeReceive(SocketId id) {
  if (!IsOpen(id) || !sockets_[id].paused) {
    return;
  }
  Socket& socket = sockets_[id];
  socket.paused = false;
  if (socket.state == State::kListening || !socket.receiving || !socket.held.empty() || socket.hung_up) {
    MakeReady(id);
  }
}

void UringLoop::Close(SocketId id) {
  if (!IsOpen(id)) {
    return;
  }
  Socket& socket = sockets_[id];
  if (socket.state == State::kOpen) {
    if (socket.turn_send != kNone) {
      const Outgoing& outgoing = outgoing_[socket.turn_send];
      (void)send(socket.fd, &outgoing_bytes_[outgoing.offset], outgoing.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    DiscardUnread(socket.fd);
  }
  std::erase_if(held_accepts_, [token = TokenOf(id)](const HeldAccept& held) {
    const bool mine = held.listener.Encode() == token.Encode();
    if (mine) {
      CloseWithReset(held.fd);
    }
    return mine;
  });
  CloseDescriptor(&socket, false);
  Free(id);
}

void UringLoop::CloseDescriptor(Socket* socket, bool reset) {
  const int fd = std::exchange(socket->fd, -1);
  Forget(fd);
  const bool with_kernel =
      socket->receiving || socket->watching || socket->late_send != kNone || socket->state == State::kConnecting;
  if (!with_kernel) {
    return reset ? CloseWithReset(fd) : static_cast<void>(close(fd));
  }
  // connect() to no address is how a TCP connection is disconnected by reset (connect(2)).
  const sockaddr nowhere{.sa_family = AF_UNSPEC, .sa_data = {}};
  if (!reset || connect(fd, &nowhere, sizeof(nowhere)) != 0) {
    (void)shutdown(fd, SHUT_RDWR);
  }
  close(fd);
}

void UringLoop::FinishSending(SocketId id) {
  if (IsConnection(id)) {
    sockets_[id].finish_requested = true;
    CheckDrained(id);
  }
}

void UringLoop::CheckDrained(SocketId id) {
  Socket& socket = sockets_[id];
  if (socket.state != State::kOpen || socket.failed || socket.turn_send != kNone || socket.late_send != kNone ||
      !socket.queue.empty()) {
    return;
  }
  if (socket.finish_requested && !socket.finished) {
    socket.finished = true;
    (void)shutdown(socket.fd, SHUT_WR);  // fails only when the connection has ended, which the receive tells
  }
  if (socket.drain_wanted) {
    MakeReady(id);
  }
}

// --- sends ---

void UringLoop::PrepareSends() {
  for (uint32_t place = 0; place < outgoing_.size(); ++place) {
    const Outgoing& outgoing = outgoing_[place];
    if (!Alive(outgoing.socket)) {
      continue;
    }
    io_uring_sqe* entry = NextEntry();
    // MSG_WAITALL: what is taken in part counts as failed, and so has a completion.
    io_uring_prep_send(entry, sockets_[outgoing.socket.index].fd, &outgoing_bytes_[outgoing.offset], outgoing.length,
                       MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry->user_data = Pack(Operation::kSend, place);
    const Socket& socket = sockets_[outgoing.socket.index];
    sends_awaited_ |= socket.finish_requested || (socket.drain_wanted && outgoing.length > kLargeSend);
  }
}

// After Enter: every send that was prepared has been tried, and those that were not taken whole have completions.
void UringLoop::ResolveSends() {
  const unsigned tail = io_uring_smp_load_acquire(ring_.cq.ktail);
  if (!outgoing_.empty()) {
    for (; resolved_to_ != tail; ++resolved_to_) {
      io_uring_cqe& completion = ring_.cq.cqes[resolved_to_ & *ring_.cq.kring_mask];
      if (completion.user_data >> 60 == static_cast<uint64_t>(Operation::kSend)) {
        ResolveSend(static_cast<uint32_t>(completion.user_data), completion.res);
        completion.user_data = Pack(Operation::kNothing, 0);
      }
    }
    for (const Outgoing& outgoing : outgoing_) {
      if (Alive(outgoing.socket)) {
        sockets_[outgoing.socket.index].turn_send = kNone;
        CheckDrained(outgoing.socket.index);
      }
    }
    outgoing_.clear();
    outgoing_bytes_.clear();
    if (outgoing_bytes_.capacity() > kOutgoingKept) {
      outgoing_bytes_ = {};
    }
  }
  resolved_to_ = tail;
}

void UringLoop::ResolveSend(uint32_t place, int result) {
  const Outgoing& outgoing = outgoing_[place];
  if (!Alive(outgoing.socket)) {
    return;
  }
  const SocketId id = outgoing.socket.index;
  const uint32_t taken = result > 0 ? static_cast<uint32_t>(result) : 0;
  if (result < 0 && result != -EAGAIN && result != -EINTR) {
    Fail(id, -result);
  } else if (taken < outgoing.length) {
    BeginLateSend(id, std::span(outgoing_bytes_).subspan(outgoing.offset + taken, outgoing.length - taken));
  }
}

void UringLoop::BeginLateSend(SocketId id, std::span<const std::byte> bytes) {
  uint32_t place = static_cast<uint32_t>(late_sends_.size());
  if (free_late_sends_.empty()) {
    late_sends_.emplace_back();
  } else {
    place = free_late_sends_.back();
    free_late_sends_.pop_back();
  }
  late_sends_[place].socket = TokenOf(id);
  late_sends_[place].bytes.Append(bytes);
  sockets_[id].late_send = place;
  SubmitLateSend(place);
}

void UringLoop::SubmitLateSend(uint32_t place) {
  const std::span<const std::byte> bytes = late_sends_[place].bytes.front();
  io_uring_sqe* entry = NextEntry();
  io_uring_prep_send(entry, sockets_[late_sends_[place].socket.index].fd, bytes.data(), bytes.size(),
                     MSG_NOSIGNAL | MSG_WAITALL);
  entry->user_data = Pack(Operation::kLateSend, place);
}

void UringLoop::HandleLateSend(uint32_t place, int result) {
  LateSend& late = late_sends_[place];
  const EventToken token = late.socket;
  if (result > 0) {
    late.bytes.Consume(static_cast<size_t>(result));
  }
  const bool alive = Alive(token);
  if (alive && !late.bytes.empty() && (result > 0 || result == -EINTR || result == -EAGAIN)) {
    SubmitLateSend(place);
    return;
  }
  FreeLateSend(place);
  if (!alive) {
    return;
  }
  sockets_[token.index].late_send = kNone;
  if (result < 0) {
    Fail(token.index, -result);
  } else {
    GatherQueue(token.index);
    CheckDrained(token.index);
  }
}

void UringLoop::FreeLateSend(uint32_t place) {
  late_sends_[place].bytes.Clear();
  free_late_sends_.push_back(place);
}

// --- the turn ---

void UringLoop::Turn(int64_t wait_ns) {
  PrepareSends();
  const bool batch = batch_wait_.waits() || options_.batching == LoopOptions::Batching::kAlways;
  Enter(std::exchange(sends_awaited_, false) ? 0 : wait_ns, batch);
  if (io_uring_cq_has_overflow(&ring_)) {
    ++stats_.queue_overflows;
  }
  ResolveSends();
  now_ns_ = ReadClock();
  if (batch_wait_.WindowOver(now_ns_)) {
    batch_wait_.CloseWindow(now_ns_, os::ThreadCpuNs());
  }
  const unsigned first = *ring_.cq.khead;
  const unsigned end = resolved_to_;
  for (unsigned place = first; place != end; ++place) {
    Prefetch(place, end);
    const io_uring_cqe completion = ring_.cq.cqes[place & *ring_.cq.kring_mask];
    io_uring_smp_store_release(ring_.cq.khead, place + 1);  // its place is free for what comes while it is handled
    HandleCompletion(completion.user_data, completion.res, completion.flags);
  }
}

// Memory of the completions that follow the one at `place`: first the socket, and when that is here what its owner has.
void UringLoop::Prefetch(unsigned place, unsigned end) const {
  const auto socket_of = [this](unsigned at) -> const Socket* {
    const uint64_t user_data = ring_.cq.cqes[at & *ring_.cq.kring_mask].user_data;
    return user_data >> 60 == static_cast<uint64_t>(Operation::kReceive) ? &sockets_[static_cast<uint32_t>(user_data)]
                                                                         : nullptr;
  };
  constexpr unsigned kSocketsAhead = 6;
  constexpr unsigned kOwnersAhead = 3;
  if (end - place > kSocketsAhead) {
    if (const Socket* socket = socket_of(place + kSocketsAhead); socket != nullptr) __builtin_prefetch(socket, 1);
  }
  if (end - place > kOwnersAhead) {
    const Socket* socket = socket_of(place + kOwnersAhead);
    if (socket != nullptr && socket->handler != nullptr) socket->handler->Prefetch(socket->tag);
  }
}

void UringLoop::HandleCompletion(uint64_t user_data, int result, uint32_t flags) {
  const auto operation = static_cast<Operation>(user_data >> 60);
  const auto index = static_cast<uint32_t>(user_data);
  if (operation == Operation::kNothing) {
    return;
  }
  if (operation == Operation::kLateSend) {
    return HandleLateSend(index, result);
  }
  // A slot is used again with the next generation: what is left of an earlier owner does not match.
  const EventToken token = TokenOf(index);
  const bool alive =
      (token.generation & kGenerationMask) == (static_cast<uint32_t>(user_data >> 32) & kGenerationMask) &&
      Alive(token);
  switch (operation) {
    case Operation::kReceive:
      return HandleReceive(token, alive, result, flags);
    case Operation::kAccept:
      return HandleAccept(token, alive, result, flags);
    case Operation::kConnect:
      return alive ? HandleConnect(index, result) : void();
    case Operation::kWatch:
      return alive ? HandleWatch(index) : void();
    case Operation::kNothing:
    case Operation::kSend:
    case Operation::kLateSend:
      return;
  }
}

void UringLoop::HandleConnect(SocketId id, int result) {
  const EventToken token = TokenOf(id);
  Socket& socket = sockets_[id];
  if (result < 0) {
    EndConnect(id, -result);
    return;
  }
  socket.state = State::kOpen;
  socket.handler->OnConnected(socket.tag, id, 0);
  if (Alive(token)) {
    Receive(id);
    GatherQueue(id);
    CheckDrained(id);
  }
}

void UringLoop::HandleReceive(EventToken token, bool alive, int result, uint32_t flags) {
  const SocketId id = token.index;
  Socket& socket = sockets_[id];
  const bool more = (flags & IORING_CQE_F_MORE) != 0;
  if (alive) {
    socket.receiving = more;
    socket.cancelling = false;  // if it still goes on, it has to be asked back again
  }
  if ((flags & IORING_CQE_F_BUFFER) != 0) {
    const uint32_t buffer = flags >> IORING_CQE_BUFFER_SHIFT;
    const size_t length = result > 0 ? static_cast<size_t>(result) : 0;
    const size_t offset = static_cast<size_t>(buffer) * buffers_.size + buffers_.used[buffer];
    if (alive && length > 0) {
      Deliver(token, {buffers_.memory + offset, length});
    }
    // By our own count: whether the kernel says that more comes from a buffer differs between its versions.
    buffers_.used[buffer] += static_cast<uint32_t>(length);
    if (!buffers_.shared || buffers_.used[buffer] == buffers_.size) {
      Recycle(buffer);
    }
  }
  if (!alive || !Alive(token)) {
    return;
  }
  if (result == 0) {
    if (socket.failed || (!socket.paused && socket.held.empty())) {
      EndOpen(id, socket.failure);
    } else {
      socket.hung_up = true;
    }
  } else if (result < 0 && result != -ENOBUFS && result != -ECANCELED && result != -EINTR && result != -EAGAIN) {
    EndOpen(id, socket.failed ? socket.failure : -result);
  } else if (!more) {
    MakeReady(id);
  }
}

// Hands bytes to the owner in pieces that it can take, or holds them.
void UringLoop::Deliver(EventToken token, std::span<const std::byte> bytes) {
  Socket& socket = sockets_[token.index];
  while (!bytes.empty() && !socket.paused && socket.held.empty()) {
    const std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), options_.receive_buffer));
    bytes = bytes.subspan(piece.size());
    socket.handler->OnReceived(socket.tag, token.index, piece);
    if (!Alive(token)) {
      return;
    }
  }
  if (bytes.empty()) {
    return;
  }
  socket.held.Append(bytes);
  if (socket.paused) {
    TakeBack(token.index);
  }
}

void UringLoop::DeliverHeld(EventToken token) {
  ByteQueue held = std::exchange(sockets_[token.index].held, ByteQueue());
  Deliver(token, held.front());
}

void UringLoop::HandleReady(EventToken token) {
  const SocketId id = token.index;
  Socket& socket = sockets_[id];
  if (socket.state == State::kListening) {
    for (size_t i = 0; i < held_accepts_.size() && !socket.paused;) {
      if (held_accepts_[i].listener.Encode() != token.Encode()) {
        ++i;
        continue;
      }
      const int fd = held_accepts_[i].fd;
      held_accepts_.erase(held_accepts_.begin() + static_cast<std::ptrdiff_t>(i));
      (void)Admit(token, fd);
      if (!Alive(token)) {
        return;
      }
    }
    if (!socket.receiving && !socket.paused && !Waits(token)) {
      Accept(id);
    }
    return;
  }
  if (socket.state == State::kConnecting) {
    return;  // its completion tells
  }
  if (!socket.paused) {
    DeliverHeld(token);
    if (!Alive(token)) {
      return;
    }
  }
  if (socket.failed) {
    // Told after what the peer had sent before it: the receive that is with the kernel brings that, and its own end.
    if (socket.receiving && !socket.paused) {
      TakeBack(id);
    } else {
      EndOpen(id, socket.failure);
    }
    return;
  }
  if (!socket.paused && socket.held.empty()) {
    if (socket.hung_up) {
      EndOpen(id, 0);
      return;
    }
    if (!socket.receiving) {
      Receive(id);
    }
  }
  if (socket.drain_wanted && QueuedBytes(id) == 0) {
    socket.drain_wanted = false;
    socket.handler->OnDrained(socket.tag, id);
  }
}

void UringLoop::HandleWatch(SocketId id) {
  Socket& socket = sockets_[id];
  socket.watching = false;
  if (!socket.paused) {
    return;  // the receive tells
  }
  if (const int error = SocketError(socket.fd); error != 0) {
    EndOpen(id, error);
  }
}

// --- listeners ---

void UringLoop::HandleAccept(EventToken token, bool alive, int result, uint32_t flags) {
  const SocketId id = token.index;
  Socket& socket = sockets_[id];
  if (!alive) {
    if (result >= 0) {
      CloseWithReset(result);
    }
    return;
  }
  socket.receiving = (flags & IORING_CQE_F_MORE) != 0;
  socket.cancelling = false;
  if (result >= 0) {
    if (socket.paused) {
      held_accepts_.push_back({token, result});
      TakeBack(id);
    } else if (!Admit(token, result) && Alive(token)) {
      TakeBack(id);
    }
  } else if (result != -ECANCELED && Classify(-result) == AcceptError::kShortage) {
    TurnAway(token, -result);
    if (Alive(token)) {
      LetWait(token);  // even when nobody was turned away: accept wants a descriptor before it looks whether one waits
    }
  }
  if (Alive(token) && !socket.receiving) {
    MakeReady(id);
  }
}

void UringLoop::ResumeListener(EventToken token) { MakeReady(token.index); }

}  // namespace loadstar::net
