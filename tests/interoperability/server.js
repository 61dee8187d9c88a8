// The server of the interoperability tests on @grpc/grpc-js: the twin of `servers.py`, which says what it does.
// It prints its port, and ends when its standard input does.
"use strict";

const grpc = require(process.argv[2]);

const bytes = (value) => value;
let cancelled = 0;
let waiting = [];

function method(name, requestStream, responseStream) {
  return {
    path: `/test.Interoperability/${name}`,
    requestStream,
    responseStream,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };
}

function text(call, key) {
  return call.metadata.get(key)[0];
}

function echo(call, callback) {
  const initial = new grpc.Metadata();
  const trailing = new grpc.Metadata();
  for (const value of call.metadata.get("say")) initial.add("said", value);
  for (const value of call.metadata.get("say-bin")) trailing.add("said-bin", value);
  const deadline = call.getDeadline();
  const remaining = (deadline.valueOf() - Date.now()) / 1000;
  if (remaining < 1e6) initial.set("remaining", String(Math.round(remaining)));
  call.sendMetadata(initial);
  callback(null, call.request, trailing);
}

function fail(call, callback) {
  const trailing = new grpc.Metadata();
  trailing.set("why", "asked to");
  callback({ code: Number(text(call, "code")), details: call.request.toString(), metadata: trailing });
}

function expand(call) {
  const count = Number(text(call, "count"));
  let sent = 0;
  call.on("cancelled", () => {
    sent = count;
    noteCancelled();
  });
  (function more() {
    while (sent < count) {
      sent += 1;
      if (!call.write(call.request)) {
        call.once("drain", more);
        return;
      }
    }
    if (!call.cancelled) call.end();
  })();
}

function gather(call, callback) {
  const parts = [];
  call.on("data", (part) => parts.push(part));
  call.on("end", () => callback(null, Buffer.concat(parts)));
}

function chat(call) {
  call.on("data", (part) => call.write(part));
  call.on("end", () => call.end());
}

function noteCancelled() {
  cancelled += 1;
  for (const answer of waiting) answer();
  waiting = [];
}

function hang(call) {
  if (call.cancelled) noteCancelled();
  else call.on("cancelled", noteCancelled);
}

function hasCancelled(call, callback) {
  const answer = () => {
    cancelled -= 1;
    callback(null, Buffer.alloc(0));
  };
  if (cancelled) answer();
  else waiting.push(answer);
}

function retire(call, callback) {
  callback(null, Buffer.alloc(0));
  server.tryShutdown(() => {});
}

const server = new grpc.Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
server.addService(
  {
    Echo: method("Echo", false, false),
    Fail: method("Fail", false, false),
    Expand: method("Expand", false, true),
    Gather: method("Gather", true, false),
    Chat: method("Chat", true, true),
    Hang: method("Hang", false, false),
    HasCancelled: method("HasCancelled", false, false),
    Retire: method("Retire", false, false),
  },
  {
    Echo: echo,
    Fail: fail,
    Expand: expand,
    Gather: gather,
    Chat: chat,
    Hang: hang,
    HasCancelled: hasCancelled,
    Retire: retire,
  },
);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
process.stdin.on("end", () => process.exit(0)).resume();
