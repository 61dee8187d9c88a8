// The server of the interoperability tests on grpc C++: the twin of the others, `service.py` says what it does.
// Arguments: the concurrent streams that a connection may have and the milliseconds that it may live, each 0 for
// no limit. It prints its port, and ends when its standard input does.
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/method_handler.h>
#include <grpcpp/support/sync_stream.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using grpc::ByteBuffer;
using grpc::ServerContext;
using grpc::Status;
using grpc::StatusCode;
namespace internal = grpc::internal;  // what generated code is made of

namespace {

std::string text(const ServerContext* context, const char* key) {
  const auto found = context->client_metadata().find(key);
  return {found->second.data(), found->second.size()};
}

std::string bytes(const ByteBuffer& message) {
  std::vector<grpc::Slice> slices;
  (void)message.Dump(&slices);
  std::string all;
  for (const grpc::Slice& slice : slices) all.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return all;
}

ByteBuffer empty() {
  grpc::Slice nothing("");
  return {&nothing, 1};
}

class Service final : public grpc::Service {
 public:
  grpc::Server* server = nullptr;
  std::thread stopping;

  Service() {
    unary("Echo", &Service::echo);
    unary("Fail", &Service::fail);
    unary("Hang", &Service::hang);
    unary("HasCancelled", &Service::has_cancelled);
    unary("Retire", &Service::retire);
    using Expand = internal::ServerStreamingHandler<Service, ByteBuffer, ByteBuffer>;
    add("Expand", internal::RpcMethod::SERVER_STREAMING, new Expand(std::mem_fn(&Service::expand), this));
    using Gather = internal::ClientStreamingHandler<Service, ByteBuffer, ByteBuffer>;
    add("Gather", internal::RpcMethod::CLIENT_STREAMING, new Gather(std::mem_fn(&Service::gather), this));
    using Chat = internal::BidiStreamingHandler<Service, ByteBuffer, ByteBuffer>;
    add("Chat", internal::RpcMethod::BIDI_STREAMING, new Chat(std::mem_fn(&Service::chat), this));
  }

 private:
  using Unary = Status (Service::*)(ServerContext*, const ByteBuffer*, ByteBuffer*);

  void add(const std::string& name, internal::RpcMethod::RpcType kind, internal::MethodHandler* handler) {
    // The method keeps the pointer to its name, for as long as the server lives.
    auto* path = new std::string("/test.Interoperability/" + name);
    AddMethod(new internal::RpcServiceMethod(path->c_str(), kind, handler));
  }

  void unary(const std::string& name, Unary method) {
    using Handler = internal::RpcMethodHandler<Service, ByteBuffer, ByteBuffer, ByteBuffer, ByteBuffer>;
    add(name, internal::RpcMethod::NORMAL_RPC, new Handler(std::mem_fn(method), this));
  }

  void greet(ServerContext* context) {
    for (const auto& [key, value] : context->client_metadata()) {
      if (key == "say") context->AddInitialMetadata("said", {value.data(), value.size()});
      if (key == "say-bin") context->AddTrailingMetadata("said-bin", {value.data(), value.size()});
    }
    const std::chrono::duration<double> left = context->deadline() - std::chrono::system_clock::now();
    if (left.count() < 1e6) context->AddInitialMetadata("remaining", std::to_string(std::lround(left.count())));
  }

  Status failure(ServerContext* context, const ByteBuffer& message) {
    context->AddTrailingMetadata("why", "asked to");
    return {static_cast<StatusCode>(std::stoi(text(context, "code"))), bytes(message)};
  }

  Status echo(ServerContext* context, const ByteBuffer* request, ByteBuffer* answer) {
    greet(context);
    *answer = *request;
    return Status::OK;
  }

  Status fail(ServerContext* context, const ByteBuffer* request, ByteBuffer* answer) {
    *answer = empty();
    return failure(context, *request);
  }

  Status hang(ServerContext* context, const ByteBuffer*, ByteBuffer* answer) {
    while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    note_cancelled();
    *answer = empty();
    return Status::CANCELLED;
  }

  Status has_cancelled(ServerContext*, const ByteBuffer*, ByteBuffer* answer) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return cancelled_ > 0; });
    --cancelled_;
    *answer = empty();
    return Status::OK;
  }

  Status retire(ServerContext*, const ByteBuffer*, ByteBuffer* answer) {
    stopping = std::thread([this] { server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(60)); });
    *answer = empty();
    return Status::OK;
  }

  Status expand(ServerContext* context, const ByteBuffer* request, grpc::ServerWriter<ByteBuffer>* answers) {
    for (int left = std::stoi(text(context, "count")); left > 0; --left) {
      if (!answers->Write(*request)) {
        note_cancelled();
        return Status::CANCELLED;
      }
    }
    return Status::OK;
  }

  Status gather(ServerContext*, grpc::ServerReader<ByteBuffer>* requests, ByteBuffer* answer) {
    std::string all;
    for (ByteBuffer request; requests->Read(&request);) all += bytes(request);
    const grpc::Slice slice(all);
    *answer = ByteBuffer(&slice, 1);
    return Status::OK;
  }

  Status chat(ServerContext* context, grpc::ServerReaderWriter<ByteBuffer, ByteBuffer>* stream) {
    greet(context);
    for (ByteBuffer request; stream->Read(&request);) {
      if (context->client_metadata().count("code")) return failure(context, request);
      stream->Write(request);
    }
    return Status::OK;
  }

  void note_cancelled() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++cancelled_;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int cancelled_ = 0;
};

}  // namespace

int main(int, char** arguments) {
  Service service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  if (const int streams = std::atoi(arguments[1])) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, streams);
  }
  if (const int age = std::atoi(arguments[2])) builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, age);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  service.server = server.get();
  std::cout << port << std::endl;
  std::cin.ignore(std::numeric_limits<std::streamsize>::max());
  std::_Exit(0);  // whatever hangs
}
