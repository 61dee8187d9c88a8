// The server of the interoperability tests on grpc-go: the twin of the others, `service.py` says what it does.
// Arguments: the concurrent streams that a connection may have and the milliseconds that it may live, each 0 for
// no limit. It prints its port, and ends when its standard input does.
package main

import (
	"context"
	"fmt"
	"io"
	"io/ioutil"
	"math"
	"net"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// raw is the codec for messages that are bytes, under the name of protobuf's.
type raw struct{}

func (raw) Marshal(value interface{}) ([]byte, error) { return *value.(*[]byte), nil }

func (raw) Unmarshal(data []byte, value interface{}) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }

var (
	server    *grpc.Server
	cancelled = make(chan struct{}, 1000)
)

func text(ctx context.Context, key string) string {
	sent, _ := metadata.FromIncomingContext(ctx)
	if values := sent.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return value
}

func said(ctx context.Context) (metadata.MD, metadata.MD) {
	sent, _ := metadata.FromIncomingContext(ctx)
	initial := metadata.MD{"said": sent.Get("say")}
	if deadline, ok := ctx.Deadline(); ok {
		initial.Set("remaining", strconv.Itoa(int(math.Round(time.Until(deadline).Seconds()))))
	}
	return initial, metadata.MD{"said-bin": sent.Get("say-bin")}
}

func failure(ctx context.Context, message []byte) error {
	return status.Error(codes.Code(number(text(ctx, "code"))), string(message))
}

func echo(ctx context.Context, request []byte) ([]byte, error) {
	initial, trailing := said(ctx)
	grpc.SetHeader(ctx, initial)
	grpc.SetTrailer(ctx, trailing)
	return request, nil
}

func fail(ctx context.Context, request []byte) ([]byte, error) {
	grpc.SetTrailer(ctx, metadata.Pairs("why", "asked to"))
	return nil, failure(ctx, request)
}

func hang(ctx context.Context, request []byte) ([]byte, error) {
	<-ctx.Done()
	cancelled <- struct{}{}
	return nil, status.FromContextError(ctx.Err()).Err()
}

func hasCancelled(ctx context.Context, request []byte) ([]byte, error) {
	<-cancelled
	return nil, nil
}

func retire(ctx context.Context, request []byte) ([]byte, error) {
	go server.GracefulStop()
	return nil, nil
}

func expand(stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	for left := number(text(stream.Context(), "count")); left > 0; left-- {
		if err := stream.SendMsg(&request); err != nil {
			cancelled <- struct{}{}
			return err
		}
	}
	return nil
}

func gather(stream grpc.ServerStream) error {
	var all []byte
	for {
		var request []byte
		err := stream.RecvMsg(&request)
		if err == io.EOF {
			return stream.SendMsg(&all)
		}
		if err != nil {
			return err
		}
		all = append(all, request...)
	}
}

func chat(stream grpc.ServerStream) error {
	initial, trailing := said(stream.Context())
	stream.SetHeader(initial)
	stream.SetTrailer(trailing)
	for {
		var request []byte
		err := stream.RecvMsg(&request)
		if err == io.EOF {
			return nil
		}
		if err == nil && text(stream.Context(), "code") != "" {
			return failure(stream.Context(), request)
		}
		if err == nil {
			err = stream.SendMsg(&request)
		}
		if err != nil {
			return err
		}
	}
}

func unary(name string, serve func(context.Context, []byte) ([]byte, error)) grpc.MethodDesc {
	handler := func(_ interface{}, ctx context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
		var request []byte
		if err := decode(&request); err != nil {
			return nil, err
		}
		answer, err := serve(ctx, request)
		return &answer, err
	}
	return grpc.MethodDesc{MethodName: name, Handler: handler}
}

func streaming(name string, serve func(grpc.ServerStream) error, requests, answers bool) grpc.StreamDesc {
	handler := func(_ interface{}, stream grpc.ServerStream) error { return serve(stream) }
	return grpc.StreamDesc{StreamName: name, Handler: handler, ClientStreams: requests, ServerStreams: answers}
}

func main() {
	encoding.RegisterCodec(raw{})
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32)}
	if streams := number(os.Args[1]); streams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(uint32(streams)))
	}
	if age := number(os.Args[2]); age > 0 {
		limit := keepalive.ServerParameters{MaxConnectionAge: time.Duration(age) * time.Millisecond}
		options = append(options, grpc.KeepaliveParams(limit))
	}
	server = grpc.NewServer(options...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Interoperability",
		HandlerType: (*interface{})(nil),
		Methods: []grpc.MethodDesc{
			unary("Echo", echo), unary("Fail", fail), unary("Hang", hang),
			unary("HasCancelled", hasCancelled), unary("Retire", retire),
		},
		Streams: []grpc.StreamDesc{
			streaming("Expand", expand, false, true),
			streaming("Gather", gather, true, false),
			streaming("Chat", chat, true, true),
		},
	}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go server.Serve(listener)
	io.Copy(ioutil.Discard, os.Stdin)
}
