package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	lossd "github.com/lossd/lossd/gen/go/lossd/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

type suite struct {
	IgnoredFields []string `json:"ignored_fields"`
	Encodings     []encoding
	Vectors       []vector
}

type encoding struct {
	Dtype  string
	Values []json.RawMessage
	Data   string
}

type vector struct {
	Name, Method, Requests string
	Replies                *string
	Relative, Absolute     float64
	Refused                *struct {
		Code, Reason string
		Fields       []string
		Metadata     map[string]string
	}
}

// runner has what every vector needs.
type runner struct {
	connection *grpc.ClientConn
	folder     string
	ignored    map[string]bool
}

// messages makes the request and the reply of each method.
var messages = map[string][2]func() proto.Message{
	"lossd.v1.LossService/ComputeLoss": {
		func() proto.Message { return &lossd.ComputeLossRequest{} },
		func() proto.Message { return &lossd.ComputeLossResponse{} },
	},
	"lossd.v1.LossService/StreamLoss": {
		func() proto.Message { return &lossd.StreamLossRequest{} },
		func() proto.Message { return &lossd.ComputeLossResponse{} },
	},
	"lossd.v1.EvaluationService/Evaluate": {
		func() proto.Message { return &lossd.EvaluateRequest{} },
		func() proto.Message { return &lossd.EvaluateResponse{} },
	},
	"lossd.v1.EvaluationService/EvaluateStream": {
		func() proto.Message { return &lossd.EvaluateStreamRequest{} },
		func() proto.Message { return &lossd.EvaluateStreamResponse{} },
	},
}

// conform prints a line for each vector, and returns the number of those that are wrong.
func conform(ctx context.Context, connection *grpc.ClientConn, folder string) int {
	written, err := os.ReadFile(filepath.Join(folder, "vectors.json"))
	fail(err)
	var all suite
	fail(json.Unmarshal(written, &all))
	run := runner{connection, folder, map[string]bool{}}
	for _, name := range all.IgnoredFields {
		run.ignored[name] = true
	}
	passed, wrong := 0, 0
	verdict := func(name string, fault error) {
		if fault == nil {
			passed++
			fmt.Printf("right  %s\n", name)
		} else {
			wrong++
			fmt.Printf("wrong  %s: %v\n", name, fault)
		}
	}
	for _, one := range all.Encodings {
		verdict("encoding of "+one.Dtype, one.fault())
	}
	for _, one := range all.Vectors {
		verdict(one.Name, run.fault(ctx, one))
	}
	fmt.Printf("%d passed, %d failed\n", passed, wrong)
	return wrong
}

// fault returns what is wrong with a type: numbers to bytes, and bytes to numbers.
func (one encoding) fault() error {
	dtype := lossd.DType(lossd.DType_value[one.Dtype])
	var bits []uint64
	for _, value := range one.Values {
		read, err := bitsOfJSON(dtype, strings.Trim(string(value), `"`))
		if err != nil {
			return err
		}
		bits = append(bits, read)
	}
	data, err := hex.DecodeString(one.Data)
	if err != nil {
		return err
	}
	if written := encoded(dtype, bits); !reflect.DeepEqual(written, data) {
		return fmt.Errorf("bytes must be %x, got %x", data, written)
	}
	read, err := words(tensor(dtype, []int64{int64(len(bits))}, data))
	if err != nil {
		return err
	}
	for place, found := range read {
		if isFloat(dtype) && bitsOf(dtype, floatOf(dtype, found)) != bits[place] {
			return fmt.Errorf("number must be %s, got %v", one.Values[place], floatOf(dtype, found))
		}
	}
	return nil
}

// bitsOfJSON returns the bits of a number that is written as JSON.
func bitsOfJSON(dtype lossd.DType, text string) (uint64, error) {
	mask := uint64(math.MaxUint64) >> (64 - 8*sizes[dtype])
	switch {
	case dtype == lossd.DType_D_TYPE_BOOL:
		return map[string]uint64{"true": 1}[text], nil
	case isFloat(dtype):
		value, err := strconv.ParseFloat(text, 64)
		return bitsOf(dtype, value), err
	case isSigned(dtype):
		value, err := strconv.ParseInt(text, 10, 64)
		return uint64(value) & mask, err
	default:
		return strconv.ParseUint(text, 10, 64)
	}
}

// ------------------------------------------------------------------ calls

// fault returns what is wrong with the answer to a vector.
func (run runner) fault(ctx context.Context, one vector) error {
	made := messages[one.Method]
	requests, err := run.read(&one.Requests, made[0])
	if err != nil {
		return err
	}
	wanted, err := run.read(one.Replies, made[1])
	if err != nil {
		return err
	}
	found, ended := run.call(ctx, one.Method, requests, made[1])
	if err := one.endFault(ended); err != nil {
		return err
	}
	if len(found) != len(wanted) {
		return fmt.Errorf("replies must be %d, got %d", len(wanted), len(found))
	}
	for place := range wanted {
		err := run.difference(one, wanted[place].ProtoReflect(), found[place].ProtoReflect(), "")
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns the messages of a file, each of which follows its length as a varint.
func (run runner) read(path *string, made func() proto.Message) ([]proto.Message, error) {
	if path == nil {
		return nil, nil
	}
	data, err := os.ReadFile(filepath.Join(run.folder, *path))
	if err != nil {
		return nil, err
	}
	var found []proto.Message
	for len(data) > 0 {
		size, start := binary.Uvarint(data)
		end := start + int(size)
		message := made()
		if err := proto.Unmarshal(data[start:end], message); err != nil {
			return nil, err
		}
		found, data = append(found, message), data[end:]
	}
	return found, nil
}

// call returns what the requests are answered with, and the error that the call ends with.
func (run runner) call(
	ctx context.Context, method string, requests []proto.Message, made func() proto.Message,
) ([]proto.Message, error) {
	isConversation := "/"+method == streamLossMethod
	if !isConversation && !strings.HasSuffix(method, "Stream") {
		reply := made()
		if err := run.connection.Invoke(ctx, "/"+method, requests[0], reply); err != nil {
			return nil, err
		}
		return []proto.Message{reply}, nil
	}
	call, err := conversation(ctx, run.connection, "/"+method)
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		if err := call.SendMsg(request); err != nil {
			break // the status comes with what is received
		}
	}
	if err := call.CloseSend(); err != nil {
		return nil, err
	}
	if isConversation {
		results, err := received(call)
		var found []proto.Message
		for _, result := range results {
			found = append(found, result)
		}
		return found, err
	}
	reply := made()
	if err := call.RecvMsg(reply); err != nil {
		return nil, err
	}
	return []proto.Message{reply}, nil
}

// endFault returns what is wrong with how a call ended.
func (one vector) endFault(ended error) error {
	said := refusalOf(ended)
	if one.Refused == nil || ended == nil {
		wanted := "OK"
		if one.Refused != nil {
			wanted = one.Refused.Code
		}
		if wanted != said.code {
			return fmt.Errorf("status must be %s, got %s: %s", wanted, said.code, said.message)
		}
		return nil
	}
	right := *one.Refused
	for _, part := range []struct {
		name          string
		wanted, found interface{}
	}{
		{"code", right.Code, said.code},
		{"domain", "lossd", said.domain},
		{"reason", right.Reason, said.reason},
		{"fields", fmt.Sprint(right.Fields), fmt.Sprint(said.fields)},
	} {
		if part.wanted != part.found {
			return fmt.Errorf("%s must be %v, got %v", part.name, part.wanted, part.found)
		}
	}
	for name, value := range right.Metadata {
		if said.metadata[name] != value {
			return fmt.Errorf("metadata %s must be %s, got %s", name, value, said.metadata[name])
		}
	}
	return nil
}

// ------------------------------------------------------------------ comparing

// difference returns the first difference between two messages.
func (run runner) difference(one vector, wanted, found protoreflect.Message, path string) error {
	if right, is := wanted.Interface().(*lossd.Tensor); is {
		return one.tensorDifference(right, found.Interface().(*lossd.Tensor), path)
	}
	for _, field := range ordered(wanted.Descriptor()) {
		name := path + "." + string(field.Name())
		if run.ignored[string(field.Name())] {
			continue
		}
		if wanted.Has(field) != found.Has(field) {
			return fmt.Errorf("%s must be %v, got %v", name, wanted.Get(field), found.Get(field))
		}
		if !wanted.Has(field) {
			continue
		}
		if err := run.fieldDifference(one, field, wanted.Get(field), found.Get(field), name); err != nil {
			return err
		}
	}
	return nil
}

func (run runner) fieldDifference(
	one vector, field protoreflect.FieldDescriptor, wanted, found protoreflect.Value, path string,
) error {
	if !field.IsList() {
		return run.valueDifference(one, field, wanted, found, path)
	}
	if wanted.List().Len() != found.List().Len() {
		return fmt.Errorf("%s must have %d entries, got %d", path, wanted.List().Len(), found.List().Len())
	}
	for place := 0; place < wanted.List().Len(); place++ {
		right, got := wanted.List().Get(place), found.List().Get(place)
		at := fmt.Sprintf("%s[%d]", path, place)
		if err := run.valueDifference(one, field, right, got, at); err != nil {
			return err
		}
	}
	return nil
}

func (run runner) valueDifference(
	one vector, field protoreflect.FieldDescriptor, wanted, found protoreflect.Value, path string,
) error {
	isRight := false
	switch field.Kind() {
	case protoreflect.MessageKind:
		return run.difference(one, wanted.Message(), found.Message(), path)
	case protoreflect.DoubleKind:
		isRight = one.isNear(wanted.Float(), found.Float())
	default:
		isRight = reflect.DeepEqual(wanted.Interface(), found.Interface())
	}
	if !isRight {
		return fmt.Errorf("%s must be %v, got %v", path, wanted, found)
	}
	return nil
}

func (one vector) tensorDifference(wanted, found *lossd.Tensor, path string) error {
	if wanted.Dtype != found.Dtype || fmt.Sprint(wanted.Shape) != fmt.Sprint(found.Shape) {
		return fmt.Errorf("%s must be %v of %v, got %v of %v",
			path, wanted.Dtype, wanted.Shape, found.Dtype, found.Shape)
	}
	right, err := words(wanted)
	if err != nil {
		return err
	}
	got, err := words(found)
	if err != nil {
		return err
	}
	for place := range right {
		isRight := right[place] == got[place]
		if isFloat(wanted.Dtype) {
			isRight = one.isNear(floatOf(wanted.Dtype, right[place]), floatOf(found.Dtype, got[place]))
		}
		if !isRight {
			return fmt.Errorf("%s must be right everywhere, got another number at %d", path, place)
		}
	}
	return nil
}

func (one vector) isNear(wanted, found float64) bool {
	if wanted == found || math.IsNaN(wanted) && math.IsNaN(found) {
		return true
	}
	return math.Abs(found-wanted) <= one.Absolute+one.Relative*math.Abs(wanted)
}
