package main

import (
	"encoding/binary"
	"fmt"
	"math"

	lossd "github.com/lossd/lossd/gen/go/lossd/v1"
)

// sizes has the bytes of an element of each type.
var sizes = map[lossd.DType]int{
	lossd.DType_D_TYPE_BOOL:     1,
	lossd.DType_D_TYPE_UINT8:    1,
	lossd.DType_D_TYPE_UINT16:   2,
	lossd.DType_D_TYPE_UINT32:   4,
	lossd.DType_D_TYPE_UINT64:   8,
	lossd.DType_D_TYPE_INT8:     1,
	lossd.DType_D_TYPE_INT16:    2,
	lossd.DType_D_TYPE_INT32:    4,
	lossd.DType_D_TYPE_INT64:    8,
	lossd.DType_D_TYPE_FLOAT16:  2,
	lossd.DType_D_TYPE_BFLOAT16: 2,
	lossd.DType_D_TYPE_FLOAT32:  4,
	lossd.DType_D_TYPE_FLOAT64:  8,
}

// isFloat says whether the elements are floating-point numbers.
func isFloat(dtype lossd.DType) bool {
	return dtype >= lossd.DType_D_TYPE_FLOAT16
}

// isSigned says whether the elements are whole numbers with a sign.
func isSigned(dtype lossd.DType) bool {
	return dtype >= lossd.DType_D_TYPE_INT8 && dtype <= lossd.DType_D_TYPE_INT64
}

// words returns the bits of each element, after checking that the data fits the shape.
func words(tensor *lossd.Tensor) ([]uint64, error) {
	size, count := sizes[tensor.Dtype], 1
	if size == 0 {
		return nil, fmt.Errorf("dtype must be one of DType, got %v", tensor.Dtype)
	}
	for _, length := range tensor.Shape {
		count *= int(length)
	}
	data := tensor.GetData()
	if len(data) != count*size {
		return nil, fmt.Errorf("data must have %d bytes, got %d", count*size, len(data))
	}
	found := make([]uint64, count)
	for place := range found {
		var padded [8]byte
		copy(padded[:], data[place*size:(place+1)*size])
		found[place] = binary.LittleEndian.Uint64(padded[:])
	}
	return found, nil
}

// floatOf returns the number that the bits of an element stand for.
func floatOf(dtype lossd.DType, bits uint64) float64 {
	switch dtype {
	case lossd.DType_D_TYPE_FLOAT16:
		return fromHalf(uint16(bits))
	case lossd.DType_D_TYPE_BFLOAT16:
		return float64(math.Float32frombits(uint32(bits) << 16))
	case lossd.DType_D_TYPE_FLOAT32:
		return float64(math.Float32frombits(uint32(bits)))
	default:
		return math.Float64frombits(bits)
	}
}

// bitsOf returns the bits of a number as an element of a floating-point type.
func bitsOf(dtype lossd.DType, value float64) uint64 {
	switch dtype {
	case lossd.DType_D_TYPE_FLOAT16:
		return uint64(toHalf(value))
	case lossd.DType_D_TYPE_BFLOAT16:
		bits := math.Float32bits(float32(value))
		if math.IsNaN(value) {
			return uint64(bits>>16 | 0x40)
		}
		return uint64((bits + 0x7fff + bits>>16&1) >> 16)
	case lossd.DType_D_TYPE_FLOAT32:
		return uint64(math.Float32bits(float32(value)))
	default:
		return math.Float64bits(value)
	}
}

// encoded returns the bytes of elements, given by their bits.
func encoded(dtype lossd.DType, bits []uint64) []byte {
	data := make([]byte, 0, len(bits)*sizes[dtype])
	for _, one := range bits {
		var whole [8]byte
		binary.LittleEndian.PutUint64(whole[:], one)
		data = append(data, whole[:sizes[dtype]]...)
	}
	return data
}

// numbers returns the elements of a tensor of a floating-point type.
func numbers(tensor *lossd.Tensor) ([]float64, error) {
	bits, err := words(tensor)
	found := make([]float64, len(bits))
	for place, one := range bits {
		found[place] = floatOf(tensor.Dtype, one)
	}
	return found, err
}

func ofFloats(values []float32, shape ...int64) *lossd.Tensor {
	data := make([]byte, 4*len(values))
	for place, value := range values {
		binary.LittleEndian.PutUint32(data[4*place:], math.Float32bits(value))
	}
	return tensor(lossd.DType_D_TYPE_FLOAT32, shape, data)
}

func ofIntegers(values []int32, shape ...int64) *lossd.Tensor {
	data := make([]byte, 4*len(values))
	for place, value := range values {
		binary.LittleEndian.PutUint32(data[4*place:], uint32(value))
	}
	return tensor(lossd.DType_D_TYPE_INT32, shape, data)
}

func tensor(dtype lossd.DType, shape []int64, data []byte) *lossd.Tensor {
	return &lossd.Tensor{Dtype: dtype, Shape: shape, Source: &lossd.Tensor_Data{Data: data}}
}

func fromHalf(bits uint16) float64 {
	sign := 1 - 2*float64(bits>>15)
	exponent, fraction := int(bits>>10&0x1f), float64(bits&0x3ff)
	switch {
	case exponent == 0x1f && fraction != 0:
		return math.NaN()
	case exponent == 0x1f:
		return math.Inf(int(sign))
	case exponent == 0:
		return sign * math.Ldexp(fraction, -24)
	default:
		return sign * math.Ldexp(1+fraction/1024, exponent-15)
	}
}

func toHalf(value float64) uint16 {
	sign, size := uint16(math.Float64bits(value)>>63)<<15, math.Abs(value)
	switch {
	case math.IsNaN(value):
		return 0x7e00
	case size >= 65520: // it rounds beyond the largest, 65504
		return sign | 0x7c00
	case size < math.Ldexp(1, -14):
		return sign | uint16(math.RoundToEven(math.Ldexp(size, 24)))
	}
	fraction, exponent := math.Frexp(size) // in [0.5, 1)
	return sign | (uint16(exponent+14)<<10 + uint16(math.RoundToEven((2*fraction-1)*1024)))
}
