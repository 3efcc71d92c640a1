package example;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import com.lossd.v1.DType;
import com.lossd.v1.Tensor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/** Numbers and bytes: a tensor is a type, a shape and little-endian bytes in C order. */
final class Tensors {
    private static final Map<DType, Integer> SIZES = new EnumMap<>(DType.class);

    static {
        of(1, DType.D_TYPE_BOOL, DType.D_TYPE_UINT8, DType.D_TYPE_INT8);
        of(2, DType.D_TYPE_UINT16, DType.D_TYPE_INT16);
        of(2, DType.D_TYPE_FLOAT16, DType.D_TYPE_BFLOAT16);
        of(4, DType.D_TYPE_UINT32, DType.D_TYPE_INT32, DType.D_TYPE_FLOAT32);
        of(8, DType.D_TYPE_UINT64, DType.D_TYPE_INT64, DType.D_TYPE_FLOAT64);
    }

    private Tensors() {}

    private static void of(int size, DType... types) {
        for (DType type : types) {
            SIZES.put(type, size);
        }
    }

    static Tensor ofFloats(float[] values, long... shape) {
        ByteBuffer data = bytes(4 * values.length);
        data.asFloatBuffer().put(values);
        return tensor(DType.D_TYPE_FLOAT32, data, shape);
    }

    static Tensor ofIntegers(int[] values, long... shape) {
        ByteBuffer data = bytes(4 * values.length);
        data.asIntBuffer().put(values);
        return tensor(DType.D_TYPE_INT32, data, shape);
    }

    private static ByteBuffer bytes(int size) {
        return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static Tensor tensor(DType type, ByteBuffer data, long... shape) {
        Tensor.Builder made = Tensor.newBuilder().setDtype(type);
        for (long length : shape) {
            made.addShape(length);
        }
        return made.setData(UnsafeByteOperations.unsafeWrap(data)).build();
    }

    /** Returns the elements of a tensor of a floating-point type. */
    static double[] numbers(Tensor tensor) {
        long[] bits = words(tensor);
        double[] found = new double[bits.length];
        for (int place = 0; place < bits.length; place++) {
            found[place] = floatOf(tensor.getDtype(), bits[place]);
        }
        return found;
    }

    static boolean isFloat(DType type) {
        return type.compareTo(DType.D_TYPE_FLOAT16) >= 0 && type != DType.UNRECOGNIZED;
    }

    /** Returns the bits of each element, after checking that the data fits the shape. */
    static long[] words(Tensor tensor) {
        Integer size = SIZES.get(tensor.getDtype());
        if (size == null) {
            throw new IllegalArgumentException("dtype must be one of DType, got " + tensor.getDtype());
        }
        long count = 1;
        for (long length : tensor.getShapeList()) {
            count = Math.multiplyExact(count, length);
        }
        if (tensor.getData().size() != count * size) {
            String wanted = "data must have " + count * size + " bytes, got ";
            throw new IllegalArgumentException(wanted + tensor.getData().size());
        }
        ByteBuffer data = tensor.getData().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
        long[] found = new long[(int) count];
        for (int place = 0; place < found.length; place++) {
            found[place] = switch (size) {
                case 1 -> data.get() & 0xffL;
                case 2 -> data.getShort() & 0xffffL;
                case 4 -> data.getInt() & 0xffffffffL;
                default -> data.getLong();
            };
        }
        return found;
    }

    /** Returns the bytes of elements, given by their bits. */
    static ByteString encoded(DType type, List<Long> bits) {
        int size = SIZES.get(type);
        ByteBuffer data = bytes(size * bits.size());
        for (long one : bits) {
            for (int place = 0; place < size; place++) {
                data.put((byte) (one >>> 8 * place));
            }
        }
        return ByteString.copyFrom(data.flip());
    }

    /** Returns the number that the bits of an element stand for. */
    static double floatOf(DType type, long bits) {
        return switch (type) {
            case D_TYPE_FLOAT16 -> fromHalf((int) bits);
            case D_TYPE_BFLOAT16 -> Float.intBitsToFloat((int) bits << 16);
            case D_TYPE_FLOAT32 -> Float.intBitsToFloat((int) bits);
            default -> Double.longBitsToDouble(bits);
        };
    }

    /** Returns the bits of a number as an element of a floating-point type, to nearest even. */
    static long bitsOf(DType type, double value) {
        return switch (type) {
            case D_TYPE_FLOAT16 -> toHalf(value);
            case D_TYPE_BFLOAT16 -> toBrain((float) value);
            case D_TYPE_FLOAT32 -> Float.floatToRawIntBits((float) value) & 0xffffffffL;
            default -> Double.doubleToRawLongBits(value);
        };
    }

    /** Returns the bits of a whole number or a truth value that is written as text. */
    static long bitsOf(DType type, String text) {
        return switch (type) {
            case D_TYPE_BOOL -> text.equals("true") ? 1 : 0;
            case D_TYPE_UINT8, D_TYPE_UINT16, D_TYPE_UINT32, D_TYPE_UINT64 ->
                Long.parseUnsignedLong(text);
            default -> Long.parseLong(text) & -1L >>> 64 - 8 * SIZES.get(type);
        };
    }

    private static long toBrain(float value) {
        long bits = Float.floatToRawIntBits(value) & 0xffffffffL;
        return Float.isNaN(value) ? bits >> 16 | 0x40 : bits + 0x7fff + (bits >> 16 & 1) >> 16;
    }

    private static double fromHalf(int bits) {
        int sign = bits >> 15 == 0 ? 1 : -1;
        int exponent = bits >> 10 & 0x1f;
        int fraction = bits & 0x3ff;
        if (exponent == 0x1f) {
            return fraction == 0 ? sign * Double.POSITIVE_INFINITY : Double.NaN;
        }
        return exponent == 0
            ? sign * Math.scalb((double) fraction, -24)
            : sign * Math.scalb(1024.0 + fraction, exponent - 25);
    }

    private static long toHalf(double value) {
        long sign = Double.doubleToRawLongBits(value) >>> 63 << 15;
        double size = Math.abs(value);
        if (Double.isNaN(value)) {
            return 0x7e00;
        }
        if (size >= 65520) { // it rounds beyond the largest, 65504
            return sign | 0x7c00;
        }
        if (size < 0x1p-14) {
            return sign | (long) Math.rint(Math.scalb(size, 24));
        }
        int exponent = Math.getExponent(size);
        long fraction = (long) Math.rint(Math.scalb(size, 10 - exponent)) - 1024;
        return sign | (exponent + 15L << 10) + fraction; // a fraction of 1024 carries
    }
}
