package main

import (
	"context"
	"fmt"
	"io"
	"math"

	lossd "github.com/lossd/lossd/gen/go/lossd/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	computeLossMethod = "/lossd.v1.LossService/ComputeLoss"
	streamLossMethod  = "/lossd.v1.LossService/StreamLoss"
	chunkBytes        = 1 << 20
)

// connect returns a connection; gRPC's own bound of 4 MiB on what is received is less than many a
// gradient.
func connect(address string) (*grpc.ClientConn, error) {
	largest := grpc.MaxCallRecvMsgSize(math.MaxInt32)
	options := grpc.WithDefaultCallOptions(largest, grpc.ForceCodec(codec{}))
	return grpc.Dial(address, grpc.WithInsecure(), options)
}

// codec is what recent versions of grpc have built in: Debian's serialises with a protobuf that is
// older than the generated code.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(data []byte, message interface{}) error {
	return proto.Unmarshal(data, message.(proto.Message))
}

func computeLoss(
	ctx context.Context, connection *grpc.ClientConn, request *lossd.ComputeLossRequest,
) (*lossd.ComputeLossResponse, error) {
	reply := &lossd.ComputeLossResponse{}
	return reply, connection.Invoke(ctx, computeLossMethod, request, reply)
}

// streamLoss sends the tensors of a request in chunks, once the server has let the call in, and puts
// together those of the reply.
func streamLoss(
	ctx context.Context, connection *grpc.ClientConn, request *lossd.ComputeLossRequest,
) (*lossd.ComputeLossResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := conversation(ctx, connection, streamLossMethod)
	if err != nil {
		return nil, err
	}
	header, following := split(request)
	if err := call.SendMsg(callPart(header)); err != nil {
		return nil, ending(call, err)
	}
	if _, err := call.Header(); err != nil { // it comes when the call is let in
		return nil, err
	}
	for _, data := range following {
		for start := 0; start < len(data); start += chunkBytes {
			end := start + chunkBytes
			if end > len(data) {
				end = len(data)
			}
			if err := call.SendMsg(chunkPart(data[start:end])); err != nil {
				return nil, ending(call, err)
			}
		}
	}
	if err := call.CloseSend(); err != nil {
		return nil, err
	}
	results, err := received(call)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("results must be one, got %d", len(results))
	}
	return results[0], nil
}

func conversation(
	ctx context.Context, connection *grpc.ClientConn, method string,
) (grpc.ClientStream, error) {
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	return connection.NewStream(ctx, both, method)
}

// ending returns the status of a call whose sending failed with the end of the stream.
func ending(call grpc.ClientStream, err error) error {
	if err == io.EOF {
		return call.RecvMsg(&lossd.StreamLossResponse{})
	}
	return err
}

func callPart(header *lossd.ComputeLossRequest) *lossd.StreamLossRequest {
	return &lossd.StreamLossRequest{Part: &lossd.StreamLossRequest_Call{Call: header}}
}

func chunkPart(data []byte) *lossd.StreamLossRequest {
	return &lossd.StreamLossRequest{Part: &lossd.StreamLossRequest_Chunk{Chunk: data}}
}

// split returns a request whose tensors are announced, and their data in the order of the fields.
func split(request *lossd.ComputeLossRequest) (*lossd.ComputeLossRequest, [][]byte) {
	var following [][]byte
	header := shallow(request)
	for _, one := range tensorsOf(header) {
		data := one.GetData()
		announced := &lossd.Chunks{Position: int32(len(following)), SizeBytes: int64(len(data))}
		one.Source = &lossd.Tensor_Chunks{Chunks: announced}
		following = append(following, data)
	}
	return header, following
}

// shallow returns a copy of a request that shares the data of its tensors.
func shallow(request *lossd.ComputeLossRequest) *lossd.ComputeLossRequest {
	var held []*lossd.Tensor_Data
	for _, one := range tensorsOf(request) {
		data := &lossd.Tensor_Data{Data: one.GetData()}
		held = append(held, data)
		one.Source = nil
	}
	header := proto.Clone(request).(*lossd.ComputeLossRequest)
	for _, message := range []*lossd.ComputeLossRequest{request, header} {
		for place, one := range tensorsOf(message) {
			one.Source = held[place]
		}
	}
	return header
}

// tensorsOf returns the tensors inside a message, in the order of its fields.
func tensorsOf(message proto.Message) []*lossd.Tensor {
	if one, is := message.(*lossd.Tensor); is {
		return []*lossd.Tensor{one}
	}
	var found []*lossd.Tensor
	reflected := message.ProtoReflect()
	for _, field := range ordered(reflected.Descriptor()) {
		if field.Message() == nil || field.IsMap() || !reflected.Has(field) {
			continue
		}
		value := reflected.Get(field)
		if !field.IsList() {
			found = append(found, tensorsOf(value.Message().Interface())...)
			continue
		}
		for place := 0; place < value.List().Len(); place++ {
			found = append(found, tensorsOf(value.List().Get(place).Message().Interface())...)
		}
	}
	return found
}

// ordered returns the fields of a message by number; their declaration has the same order.
func ordered(descriptor protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	fields := make([]protoreflect.FieldDescriptor, descriptor.Fields().Len())
	for place := range fields {
		fields[place] = descriptor.Fields().Get(place)
	}
	return fields
}

// received returns the results of a stream, whose tensors come in chunks, until it ends.
func received(call grpc.ClientStream) ([]*lossd.ComputeLossResponse, error) {
	var results []*lossd.ComputeLossResponse
	for {
		part := &lossd.StreamLossResponse{}
		switch err := call.RecvMsg(part); {
		case err == io.EOF:
			return results, nil
		case err != nil:
			return results, err
		}
		result := part.GetResult()
		if result == nil {
			return results, fmt.Errorf("part must be a result, got a chunk")
		}
		if err := fill(call, result); err != nil {
			return results, err
		}
		results = append(results, result)
	}
}

// fill reads the chunks that a result announces.
func fill(call grpc.ClientStream, result *lossd.ComputeLossResponse) error {
	for _, one := range tensorsOf(result) {
		announced := one.GetChunks()
		if announced == nil {
			continue
		}
		data := make([]byte, 0, announced.SizeBytes)
		for int64(len(data)) < announced.SizeBytes {
			part := &lossd.StreamLossResponse{}
			if err := call.RecvMsg(part); err != nil {
				return err
			}
			if chunk := part.GetChunk(); len(chunk) == 0 || len(data)+len(chunk) > cap(data) {
				return fmt.Errorf("chunk must fit its tensor, got %d bytes", len(chunk))
			}
			data = append(data, part.GetChunk()...)
		}
		one.Source = &lossd.Tensor_Data{Data: data}
	}
	return nil
}

// refusal is what an error says.
type refusal struct {
	code, message, domain, reason string
	metadata                      map[string]string
	fields                        []string
	retryAfterSeconds             float64
}

// codes has the names of the statuses that lossd uses, as the documents write them.
var codes = map[string]string{
	"OK": "OK", "InvalidArgument": "INVALID_ARGUMENT", "Unimplemented": "UNIMPLEMENTED",
	"ResourceExhausted": "RESOURCE_EXHAUSTED", "Unavailable": "UNAVAILABLE", "Canceled": "CANCELLED",
	"DeadlineExceeded": "DEADLINE_EXCEEDED", "Unauthenticated": "UNAUTHENTICATED",
	"PermissionDenied": "PERMISSION_DENIED", "NotFound": "NOT_FOUND", "Internal": "INTERNAL",
}

// refusalOf returns what an error says; google.rpc.Status lies in the trailing metadata, where
// package status finds it.
func refusalOf(err error) refusal {
	said := status.Convert(err)
	found := refusal{code: codes[said.Code().String()], message: said.Message()}
	for _, detail := range said.Details() {
		switch one := detail.(type) {
		case *errdetails.ErrorInfo:
			found.domain, found.reason, found.metadata = one.Domain, one.Reason, one.Metadata
		case *errdetails.BadRequest:
			for _, violation := range one.FieldViolations {
				found.fields = append(found.fields, violation.Field)
			}
		case *errdetails.RetryInfo:
			delay := one.RetryDelay
			found.retryAfterSeconds = float64(delay.GetSeconds()) + float64(delay.GetNanos())/1e9
		}
	}
	return found
}
