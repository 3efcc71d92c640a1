package example;

import com.google.gson.Gson;
import com.google.gson.JsonPrimitive;
import com.google.gson.annotations.SerializedName;
import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import com.google.protobuf.Parser;
import com.lossd.v1.ComputeLossRequest;
import com.lossd.v1.ComputeLossResponse;
import com.lossd.v1.DType;
import com.lossd.v1.EvaluateRequest;
import com.lossd.v1.EvaluateResponse;
import com.lossd.v1.EvaluateStreamRequest;
import com.lossd.v1.EvaluateStreamResponse;
import com.lossd.v1.EvaluationServiceGrpc;
import com.lossd.v1.LossServiceGrpc;
import com.lossd.v1.StreamLossRequest;
import com.lossd.v1.Tensor;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;

/** Runs the conformance vectors, and prints a line for each. */
final class Conformance {
    private static final class Suite {
        @SerializedName("ignored_fields") Set<String> ignoredFields;
        List<Encoding> encodings;
        List<Vector> vectors;
    }

    private static final class Encoding {
        DType dtype;
        List<JsonPrimitive> values;
        String data;
    }

    private static final class Vector {
        String name;
        String method;
        String requests;
        String replies;
        double relative;
        double absolute;
        Refused refused;
    }

    private static final class Refused {
        String code;
        String reason;
        List<String> fields;
        Map<String, String> metadata;
    }

    /** Something that is not as the vector says. */
    private static final class Fault extends Exception {
        private static final long serialVersionUID = 1;

        Fault(String thing, Object wanted, Object found) {
            super(thing + " must be " + wanted + ", got " + found);
        }
    }

    private interface Check {
        void run() throws Exception;
    }

    private final Channel channel;
    private final Path folder;
    private final Suite suite;
    private int passed;
    private int failed;

    Conformance(Channel channel, Path folder) throws IOException {
        this.channel = channel;
        this.folder = folder;
        suite = new Gson().fromJson(Files.readString(folder.resolve("vectors.json")), Suite.class);
    }

    /** Returns the number of those that are wrong. */
    int run() {
        for (Encoding one : suite.encodings) {
            verdict("encoding of " + one.dtype, () -> check(one));
        }
        for (Vector one : suite.vectors) {
            verdict(one.name, () -> check(one));
        }
        System.out.println(passed + " passed, " + failed + " failed");
        return failed;
    }

    private void verdict(String name, Check check) {
        try {
            check.run();
            passed++;
            System.out.println("right  " + name);
        } catch (Exception fault) {
            failed++;
            System.out.println("wrong  " + name + ": " + fault.getMessage());
        }
    }

    /** Checks a type: numbers to bytes, and bytes to numbers. */
    private static void check(Encoding one) throws Fault {
        List<Long> bits = new ArrayList<>();
        for (JsonPrimitive value : one.values) {
            bits.add(Tensors.isFloat(one.dtype)
                ? Tensors.bitsOf(one.dtype, value.getAsDouble())
                : Tensors.bitsOf(one.dtype, value.getAsString()));
        }
        ByteString data = ByteString.copyFrom(HexFormat.of().parseHex(one.data));
        equal("bytes", data, Tensors.encoded(one.dtype, bits));
        Tensor tensor = Tensor.newBuilder()
            .setDtype(one.dtype).addShape(bits.size()).setData(data).build();
        long[] found = Tensors.words(tensor);
        for (int place = 0; place < found.length; place++) {
            long read = Tensors.isFloat(one.dtype)
                ? Tensors.bitsOf(one.dtype, Tensors.floatOf(one.dtype, found[place]))
                : found[place];
            equal("number " + place, bits.get(place), read);
        }
    }

    // ------------------------------------------------------------------ calls

    private void check(Vector one) throws Exception {
        List<Message> found = new ArrayList<>();
        StatusRuntimeException ended = null;
        try {
            call(one, found);
        } catch (StatusRuntimeException error) {
            ended = error;
        }
        checkEnd(one.refused, ended);
        List<? extends Message> wanted = read(one.replies, REPLIES.get(one.method));
        equal("count of replies", wanted.size(), found.size());
        for (int place = 0; place < wanted.size(); place++) {
            compare(one, wanted.get(place), found.get(place), "");
        }
    }

    private static final Map<String, Parser<? extends Message>> REPLIES = Map.of(
        "lossd.v1.LossService/ComputeLoss", ComputeLossResponse.parser(),
        "lossd.v1.LossService/StreamLoss", ComputeLossResponse.parser(),
        "lossd.v1.EvaluationService/Evaluate", EvaluateResponse.parser(),
        "lossd.v1.EvaluationService/EvaluateStream", EvaluateStreamResponse.parser());

    /** Makes the call of a vector, and adds what it is answered with. */
    private void call(Vector one, List<Message> answers) throws Exception {
        switch (one.method) {
            case "lossd.v1.LossService/ComputeLoss" -> answers.add(unary(
                LossServiceGrpc.getComputeLossMethod(), one, ComputeLossRequest.parser()));
            case "lossd.v1.EvaluationService/Evaluate" -> answers.add(unary(
                EvaluationServiceGrpc.getEvaluateMethod(), one, EvaluateRequest.parser()));
            case "lossd.v1.LossService/StreamLoss" -> {
                List<ComputeLossResponse> results = new ArrayList<>();
                try (var call = sent(
                        LossServiceGrpc.getStreamLossMethod(), one, StreamLossRequest.parser())) {
                    Client.received(call, results);
                } finally {
                    answers.addAll(results);
                }
            }
            case "lossd.v1.EvaluationService/EvaluateStream" -> {
                try (var call = sent(
                        EvaluationServiceGrpc.getEvaluateStreamMethod(), one,
                        EvaluateStreamRequest.parser())) {
                    answers.add(call.next().orElseThrow());
                }
            }
            default -> throw new Fault("method", REPLIES.keySet(), one.method);
        }
    }

    private <Q extends Message, R extends Message> R unary(
            MethodDescriptor<Q, R> method, Vector one, Parser<Q> parser) throws IOException {
        Q request = read(one.requests, parser).get(0);
        return ClientCalls.blockingUnaryCall(channel, method, CallOptions.DEFAULT, request);
    }

    /** Returns a call to which all requests were sent that it takes. */
    private <Q extends Message, R extends Message> Conversation<Q, R> sent(
            MethodDescriptor<Q, R> method, Vector one, Parser<Q> parser) throws Exception {
        List<Q> requests = read(one.requests, parser);
        Conversation<Q, R> call = new Conversation<>(channel, method);
        for (Q request : requests) {
            call.send(request);
        }
        call.finish();
        return call;
    }

    /** Returns the messages of a file, each of which follows its length as a varint. */
    private <M extends Message> List<M> read(String path, Parser<M> parser) throws IOException {
        List<M> found = new ArrayList<>();
        if (path == null) {
            return found;
        }
        try (InputStream data = Files.newInputStream(folder.resolve(path))) {
            M message = parser.parseDelimitedFrom(data);
            while (message != null) {
                found.add(message);
                message = parser.parseDelimitedFrom(data);
            }
        }
        return found;
    }

    private static void checkEnd(Refused wanted, StatusRuntimeException ended) throws Exception {
        if (wanted == null || ended == null) {
            String code = wanted == null ? "OK" : wanted.code;
            equal("status", code, ended == null ? "OK" : ended.getStatus().getCode().name());
            return;
        }
        Client.Refusal said = Client.refusalOf(ended);
        equal("code", wanted.code, said.code);
        equal("domain", "lossd", said.domain);
        equal("reason", wanted.reason, said.reason);
        equal("fields", wanted.fields, said.fields);
        for (var entry : wanted.metadata.entrySet()) {
            equal("metadata " + entry.getKey(), entry.getValue(), said.metadata.get(entry.getKey()));
        }
    }

    private static void equal(String thing, Object wanted, Object found) throws Fault {
        if (!Objects.equals(wanted, found)) {
            throw new Fault(thing, wanted, found);
        }
    }

    // ------------------------------------------------------------------ comparing

    /** Finds the first difference between two messages. */
    private void compare(Vector one, Message wanted, Message found, String path) throws Fault {
        if (wanted instanceof Tensor) {
            compareTensors(one, (Tensor) wanted, (Tensor) found, path);
            return;
        }
        for (FieldDescriptor field : wanted.getDescriptorForType().getFields()) {
            String name = path + "." + field.getName();
            if (suite.ignoredFields.contains(field.getName())) {
                continue;
            }
            if (field.isRepeated()) {
                int count = wanted.getRepeatedFieldCount(field);
                equal("entries of " + name, count, found.getRepeatedFieldCount(field));
                for (int place = 0; place < count; place++) {
                    Object right = wanted.getRepeatedField(field, place);
                    Object got = found.getRepeatedField(field, place);
                    compareValues(one, right, got, name + "[" + place + "]");
                }
            } else {
                equal("presence of " + name, wanted.hasField(field), found.hasField(field));
                if (wanted.hasField(field)) {
                    compareValues(one, wanted.getField(field), found.getField(field), name);
                }
            }
        }
    }

    private void compareValues(Vector one, Object wanted, Object found, String path) throws Fault {
        if (wanted instanceof Message) {
            compare(one, (Message) wanted, (Message) found, path);
        } else if (!(wanted instanceof Double) || !isNear(one, (double) wanted, (double) found)) {
            equal(path, wanted, found);
        }
    }

    private static void compareTensors(Vector one, Tensor wanted, Tensor found, String path)
            throws Fault {
        DType type = wanted.getDtype();
        equal("type of " + path, type, found.getDtype());
        equal("shape of " + path, wanted.getShapeList(), found.getShapeList());
        long[] right = Tensors.words(wanted);
        long[] got = Tensors.words(found);
        for (int place = 0; place < right.length; place++) {
            if (right[place] == got[place]) {
                continue;
            }
            double wish = Tensors.floatOf(type, right[place]);
            double fact = Tensors.floatOf(type, got[place]);
            if (!Tensors.isFloat(type) || !isNear(one, wish, fact)) {
                throw new Fault("element " + place + " of " + path, wish, fact);
            }
        }
    }

    private static boolean isNear(Vector one, double wanted, double found) {
        if (wanted == found || Double.isNaN(wanted) && Double.isNaN(found)) {
            return true;
        }
        return Math.abs(found - wanted) <= one.absolute + one.relative * Math.abs(wanted);
    }
}
