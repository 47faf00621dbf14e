#include "server/service/coordinator_service.h"

#include <functional>
#include <memory>
#include <utility>

#include "lib/rpc/unary_call.h"
#include "server/service/documents.h"
#include "server/service/event_box.h"
#include "server/service/export_source.h"
#include "server/service/metrics_feed.h"
#include "server/service/names.h"

namespace loadstar::server {
namespace {

using rpc::PullWriter;
using rpc::UnaryCall;

template <class Response>
using CallPtr = std::shared_ptr<UnaryCall<Response>>;

absl::Status Busy() { return absl::ResourceExhaustedError("the coordinator has too many calls to answer; try again"); }

// Hands a unary call to the core and answers it with what the core says, after `adjust`.
template <class Response, class Request>
void HandOver(const Backend& backend, const CallPtr<Response>& call, Request request,
              std::function<void(Response*)> adjust = nullptr) {
  const CallId id = backend.switchboard->NextId();
  backend.switchboard->AddCall(id, [call, adjust = std::move(adjust)](Reply reply) {
    if (!reply.status.ok()) return call->Fail(reply.status);
    if (auto* response = std::get_if<Response>(&reply.response)) {
      if (adjust) adjust(response);
      return call->Answer(std::move(*response));
    }
    call->Fail(absl::InternalError("the core answered with another message than was asked for"));
  });
  absl::Status status = backend.engine->Offer(ClientCalled{id, std::move(request)});
  if (status.ok()) return;
  backend.switchboard->RemoveCall(id);
  call->Fail(status);
}

// Runs a task of a unary call on a pool.
template <class Response, class Task>
void OnPool(WorkPool* pool, const CallPtr<Response>& call, Task task) {
  if (!pool->Run(std::move(task))) call->Fail(Busy());
}

// Answers from the store: `read` returns StatusOr<Response>.
template <class Response, class Read>
void FromStore(const Backend& backend, const CallPtr<Response>& call, Read read) {
  OnPool(backend.read_pool, call, [readers = backend.readers, call, read = std::move(read)] {
    absl::StatusOr<Response> response = readers->With([&](Reader& reader) { return read(reader); });
    if (response.ok()) {
      call->Answer(std::move(*response));
    } else {
      call->Fail(response.status());
    }
  });
}

// A streaming call that the core answers: the stream, its box and its number.
template <class Response>
struct CoreStream {
  CallId id;
  std::shared_ptr<EventBox<Response>> box;
  std::shared_ptr<PullWriter<Response>> writer;

  static CoreStream Start(const Backend& backend, grpc::CallbackServerContext* context) {
    CoreStream stream;
    stream.id = backend.switchboard->NextId();
    stream.box = std::make_shared<EventBox<Response>>();
    stream.writer = PullWriter<Response>::Start(
        context,
        [](const std::function<void()>& task) {  // the box never blocks
          task();
          return true;
        },
        [box = stream.box](Response* message, absl::Status* end) { return box->Next(message, end); },
        [engine = backend.engine, switchboard = backend.switchboard, box = stream.box, id = stream.id] {
          switchboard->RemoveCall(id);
          if (!box->ended()) engine->Offer(ClientLeft{id}).IgnoreError();
        });
    return stream;
  }

  template <class Request>
  void HandOver(const Backend& backend, Request request) const {
    backend.switchboard->AddCall(id, [box_ = box, writer_ = writer](Reply reply) {
      if (auto* response = std::get_if<Response>(&reply.response)) box_->Put(std::move(*response));
      if (reply.last || !reply.status.ok()) box_->End(reply.status);
      writer_->Wake();
    });
    absl::Status status = backend.engine->Offer(ClientCalled{id, std::move(request)});
    if (status.ok()) return;
    backend.switchboard->RemoveCall(id);
    Fail(status);
  }
  // Hands over what `prepare` makes of the request, on a thread that may wait.
  template <class Request>
  void PrepareAndHandOver(const Backend& backend, Request request,
                          absl::StatusOr<Request> (*prepare)(const Request&)) const {
    const bool taken = backend.prepare_pool->Run([backend, stream = *this, request = std::move(request), prepare] {
      absl::StatusOr<Request> ready = prepare(request);
      if (ready.ok()) {
        stream.HandOver(backend, *std::move(ready));
      } else {
        stream.Fail(ready.status());
      }
    });
    if (!taken) Fail(Busy());
  }
  void Fail(const absl::Status& status) const {
    box->End(status);
    writer->Wake();
  }
};

// What StopTest and UpdateLoad need to know before the core is asked: the core forgets finished runs at a restart.
absl::StatusOr<v1::Run> FinishedRun(Readers* readers, const std::string& run_id) {
  return readers->With([&](Reader& reader) -> absl::StatusOr<v1::Run> {
    absl::StatusOr<Reader::RunHead> head = reader.FindHead(run_id);
    if (!head.ok()) return head.status();
    if (head->state != v1::RUN_STATE_FINISHED) return absl::FailedPreconditionError("it is not finished");
    return reader.FindRun(run_id);
  });
}

}  // namespace

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ListAgents(grpc::CallbackServerContext*,
                                                             const v1::ListAgentsRequest* request,
                                                             v1::ListAgentsResponse* response) {
  auto call = UnaryCall<v1::ListAgentsResponse>::Start(response);
  HandOver(backend_, call, *request);
  return call->reactor();
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::Validate(grpc::CallbackServerContext*,
                                                           const v1::ValidateRequest* request,
                                                           v1::ValidateResponse* response) {
  auto call = UnaryCall<v1::ValidateResponse>::Start(response);
  OnPool(backend_.prepare_pool, call, [backend = backend_, call, document = request->document()] {
    Checked checked = CheckDocument(document);
    if (checked.problems.empty() && checked.is_test) {
      // The core does not know what the document is called.
      return HandOver<v1::ValidateResponse>(backend, call, std::move(checked.test),
                                            [name = document.file_name()](v1::ValidateResponse* answer) {
                                              for (auto& problem : *answer->mutable_problems()) {
                                                if (problem.file_name().empty()) problem.set_file_name(name);
                                              }
                                            });
    }
    v1::ValidateResponse answer;
    for (v1::DocumentProblem& problem : checked.problems) *answer.add_problems() = std::move(problem);
    call->Answer(std::move(answer));
  });
  return call->reactor();
}

grpc::ServerWriteReactor<v1::DeployResponse>* CoordinatorServiceImpl::Deploy(grpc::CallbackServerContext* context,
                                                                             const v1::DeployRequest* request) {
  auto stream = CoreStream<v1::DeployResponse>::Start(backend_, context);
  stream.PrepareAndHandOver(backend_, *request, &PrepareStack);
  return stream.writer->reactor();
}

grpc::ServerWriteReactor<v1::TeardownResponse>* CoordinatorServiceImpl::Teardown(grpc::CallbackServerContext* context,
                                                                                 const v1::TeardownRequest* request) {
  auto stream = CoreStream<v1::TeardownResponse>::Start(backend_, context);
  if (IsValidName(request->name())) {
    stream.HandOver(backend_, *request);
  } else {
    stream.Fail(NameError("name", request->name()));
  }
  return stream.writer->reactor();
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ListDeployments(grpc::CallbackServerContext*,
                                                                  const v1::ListDeploymentsRequest* request,
                                                                  v1::ListDeploymentsResponse* response) {
  auto call = UnaryCall<v1::ListDeploymentsResponse>::Start(response);
  HandOver(backend_, call, *request);
  return call->reactor();
}

grpc::ServerWriteReactor<v1::TuneResponse>* CoordinatorServiceImpl::Tune(grpc::CallbackServerContext* context,
                                                                         const v1::TuneRequest* request) {
  auto stream = CoreStream<v1::TuneResponse>::Start(backend_, context);
  stream.PrepareAndHandOver(backend_, *request, &PrepareTuning);
  return stream.writer->reactor();
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::StartTest(grpc::CallbackServerContext*,
                                                            const v1::StartTestRequest* request,
                                                            v1::StartTestResponse* response) {
  auto call = UnaryCall<v1::StartTestResponse>::Start(response);
  OnPool(backend_.prepare_pool, call, [backend = backend_, call, request = *request] {
    if (call->finished()) return;  // cancelled while it waited: nobody would watch the run
    absl::StatusOr<ClientCalled::StartTest> start = PrepareTest(request);
    if (!start.ok()) return call->Fail(start.status());
    if (call->finished()) return;
    HandOver(backend, call, std::move(*start));
  });
  return call->reactor();
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::UpdateLoad(grpc::CallbackServerContext*,
                                                             const v1::UpdateLoadRequest* request,
                                                             v1::UpdateLoadResponse* response) {
  auto call = UnaryCall<v1::UpdateLoadResponse>::Start(response);
  if (absl::Status status = CheckUpdate(*request); !status.ok()) {
    call->Fail(status);
    return call->reactor();
  }
  OnPool(backend_.read_pool, call, [backend = backend_, call, request = *request] {
    if (FinishedRun(backend.readers, request.run_id()).ok()) {
      return call->Fail(rpc::Precondition("RUN_FINISHED", request.run_id(),
                                          "run " + request.run_id() + " is finished; its load cannot be changed"));
    }
    HandOver(backend, call, request);
  });
  return call->reactor();
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::StopTest(grpc::CallbackServerContext*,
                                                           const v1::StopTestRequest* request,
                                                           v1::StopTestResponse* response) {
  auto call = UnaryCall<v1::StopTestResponse>::Start(response);
  if (!IsRunId(request->run_id())) {
    call->Fail(RunIdError(request->run_id()));
    return call->reactor();
  }
  OnPool(backend_.read_pool, call, [backend = backend_, call, request = *request] {
    absl::StatusOr<v1::Run> finished = FinishedRun(backend.readers, request.run_id());
    if (!finished.ok()) return HandOver(backend, call, request);
    v1::StopTestResponse answer;
    *answer.mutable_run() = std::move(*finished);
    call->Answer(std::move(answer));
  });
  return call->reactor();
}

grpc::ServerWriteReactor<v1::StreamMetricsResponse>* CoordinatorServiceImpl::StreamMetrics(
    grpc::CallbackServerContext* context, const v1::StreamMetricsRequest* request) {
  const uint64_t id = backend_.switchboard->NextId();
  auto feed = std::make_shared<MetricsFeed>(*request);
  // Set before the first pull, which may come at once.
  auto refusal = std::make_shared<absl::Status>();
  if (!IsRunId(request->run_id())) *refusal = RunIdError(request->run_id());
  auto stream = MetricsStream::Create(
      context, [pool = backend_.read_pool](std::function<void()> task) { return pool->Run(std::move(task)); },
      [feed, refusal, readers = backend_.readers](v1::StreamMetricsResponse* message, absl::Status* end) {
        if (!refusal->ok()) {
          *end = *refusal;
          return rpc::Pulled::kEnd;
        }
        return readers->With([&](Reader& reader) { return feed->Next(&reader, message, end); });
      },
      [switchboard = backend_.switchboard, id] { switchboard->RemoveSubscriber(id); });
  // Announced before it looks for the first time, so that nothing falls between the look and the wake-up.
  if (refusal->ok() && !backend_.switchboard->AddSubscriber(id, request->run_id(), stream)) {
    *refusal = absl::ResourceExhaustedError("the coordinator has too many subscribers; try again");
  }
  stream->Begin();
  return stream->reactor();
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::GetRun(grpc::CallbackServerContext*, const v1::GetRunRequest* request,
                                                         v1::GetRunResponse* response) {
  auto call = UnaryCall<v1::GetRunResponse>::Start(response);
  if (!IsRunId(request->run_id())) {
    call->Fail(RunIdError(request->run_id()));
    return call->reactor();
  }
  FromStore(backend_, call, [run_id = request->run_id()](Reader& reader) -> absl::StatusOr<v1::GetRunResponse> {
    absl::StatusOr<v1::Run> run = reader.FindRun(run_id);
    if (!run.ok()) return run.status();
    v1::GetRunResponse answer;
    *answer.mutable_run() = std::move(*run);
    return answer;
  });
  return call->reactor();
}

grpc::ServerUnaryReactor* CoordinatorServiceImpl::ListRuns(grpc::CallbackServerContext*,
                                                           const v1::ListRunsRequest* request,
                                                           v1::ListRunsResponse* response) {
  auto call = UnaryCall<v1::ListRunsResponse>::Start(response);
  if (request->page_size() > 1000) {
    call->Fail(FieldError("page_size", "is more than 1,000"));
    return call->reactor();
  }
  FromStore(backend_, call,
            [page_size = request->page_size() == 0 ? 100u : request->page_size(),
             token = request->page_token()](Reader& reader) { return reader.ListRuns(page_size, token); });
  return call->reactor();
}

grpc::ServerWriteReactor<v1::ExportRunResponse>* CoordinatorServiceImpl::ExportRun(
    grpc::CallbackServerContext* context, const v1::ExportRunRequest* request) {
  auto source = std::make_shared<ExportSource>(request->run_id(), backend_.version);
  const bool known = IsRunId(request->run_id());
  auto stream = PullWriter<v1::ExportRunResponse>::Start(
      context, [pool = backend_.read_pool](std::function<void()> task) { return pool->Run(std::move(task)); },
      [source, known, run_id = request->run_id(), readers = backend_.readers](v1::ExportRunResponse* message,
                                                                              absl::Status* end) {
        if (!known) {
          *end = RunIdError(run_id);
          return rpc::Pulled::kEnd;
        }
        return readers->With([&](Reader& reader) { return source->Next(&reader, message, end); });
      },
      nullptr);
  return stream->reactor();
}

}  // namespace loadstar::server
