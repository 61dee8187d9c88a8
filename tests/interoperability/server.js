// The server of the interoperability tests on @grpc/grpc-js: the twin of the others, `service.py` says what it
// does. Arguments: where the package is, the concurrent streams that a connection may have and the milliseconds that
// it may live, each 0 for no limit. It prints its port, and ends when its standard input does.
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

function greet(call) {
  const initial = new grpc.Metadata();
  const trailing = new grpc.Metadata();
  for (const value of call.metadata.get("say")) initial.add("said", value);
  for (const value of call.metadata.get("say-bin")) trailing.add("said-bin", value);
  const deadline = call.getDeadline();
  const remaining = (deadline.valueOf() - Date.now()) / 1000;
  if (remaining < 1e6) initial.set("remaining", String(Math.round(remaining)));
  call.sendMetadata(initial);
  return trailing;
}

function echo(call, callback) {
  callback(null, call.request, greet(call));
}

function failure(call, message) {
  const trailing = new grpc.Metadata();
  trailing.set("why", "asked to");
  return { code: Number(text(call, "code")), details: message.toString(), metadata: trailing };
}

function fail(call, callback) {
  callback(failure(call, call.request));
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
  const trailing = greet(call);
  call.on("data", (part) => {
    if (text(call, "code")) call.emit("error", failure(call, part));
    else call.write(part);
  });
  call.on("end", () => call.end(trailing));
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

const [streams, age] = process.argv.slice(3).map(Number);
const server = new grpc.Server({
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  ...(streams && { "grpc.max_concurrent_streams": streams }),
  ...(age && { "grpc.max_connection_age_ms": age }),
});
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
