// A client of lossd: one small batch, one of 64 MiB in chunks, and one that is refused.
//
//	build/lossd-client localhost:50051
//
// With a second argument, the folder of the conformance vectors, it runs those instead.
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	lossd "github.com/lossd/lossd/gen/go/lossd/v1"
	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: lossd-client ADDRESS [FOLDER OF VECTORS]"))
	}
	connection, err := connect(os.Args[1])
	fail(err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if len(os.Args) > 2 {
		if wrong := conform(ctx, connection, os.Args[2]); wrong > 0 {
			os.Exit(1)
		}
		return
	}
	small(ctx, connection)
	large(ctx, connection)
	refused(ctx, connection)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func crossEntropy(logits []float32, labels []int32) *lossd.ComputeLossRequest {
	rows := int64(len(labels))
	one := &lossd.LossSpec_CrossEntropy{CrossEntropy: &lossd.CrossEntropy{}}
	predictions := ofFloats(logits, rows, int64(len(logits))/rows)
	return &lossd.ComputeLossRequest{
		Loss: &lossd.LossSpec{Kind: one},
		Inputs: []*lossd.NamedTensors{
			{Name: "predictions", Tensors: []*lossd.Tensor{predictions}},
			{Name: "targets", Tensors: []*lossd.Tensor{ofIntegers(labels, rows)}},
		},
	}
}

func small(ctx context.Context, connection *grpc.ClientConn) {
	logits := []float32{2, -1, 0.5, 0, 3, -2.5}
	result, err := computeLoss(ctx, connection, crossEntropy(logits, []int32{0, 2}))
	fail(err)
	perExample, err := numbers(result.PerExample)
	fail(err)
	gradient, err := numbers(result.Gradients[0].Tensors[0])
	fail(err)
	fmt.Printf("small batch: loss %.17g\n  per example %v\n  gradient    %v\n",
		result.GetLoss(), perExample, gradient)
}

func large(ctx context.Context, connection *grpc.ClientConn) {
	const rows, classes = 16384, 1024
	logits, labels := make([]float32, rows*classes), make([]int32, rows)
	for row := range labels {
		labels[row] = int32(row % classes)
		logits[row*classes+row%classes] = 1
	}
	result, err := streamLoss(ctx, connection, crossEntropy(logits, labels))
	fail(err)
	gradient := result.Gradients[0].Tensors[0]
	fmt.Printf("64 MiB in chunks: loss %.17g, must be %.17g\n",
		result.GetLoss(), math.Log(math.E+classes-1)-1)
	fmt.Printf("  gradient of %v, %d bytes\n", gradient.Shape, len(gradient.GetData()))
}

func refused(ctx context.Context, connection *grpc.ClientConn) {
	_, err := computeLoss(ctx, connection, crossEntropy(make([]float32, 6), []int32{0, 7}))
	if err == nil {
		fail(fmt.Errorf("a label that is no class must be refused, got an answer"))
	}
	said := refusalOf(err)
	fmt.Printf("refused: %s %s at %s\n", said.code, said.reason, strings.Join(said.fields, ", "))
	fmt.Printf("  %s\n  call %s\n", said.message, said.metadata["request_id"])
}
