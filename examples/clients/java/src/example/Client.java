package example;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.UnknownFieldSet;
import com.google.protobuf.UnsafeByteOperations;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import com.lossd.v1.Chunks;
import com.lossd.v1.ComputeLossRequest;
import com.lossd.v1.ComputeLossResponse;
import com.lossd.v1.LossServiceGrpc;
import com.lossd.v1.StreamLossRequest;
import com.lossd.v1.StreamLossResponse;
import com.lossd.v1.Tensor;
import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/** A call in one message, a call in chunks, and the details of an error. */
final class Client {
    private static final int CHUNK_BYTES = 1 << 20;

    private Client() {}

    /**
     * Returns a connection.
     *
     * <p>gRPC's own bound of 4 MiB on what is received is less than many a gradient.
     */
    static ManagedChannel connect(String address) {
        return ManagedChannelBuilder.forTarget(address)
            .usePlaintext()
            .maxInboundMessageSize(Integer.MAX_VALUE)
            .build();
    }

    static ComputeLossResponse computeLoss(Channel channel, ComputeLossRequest request) {
        return LossServiceGrpc.newBlockingStub(channel)
            .withDeadlineAfter(2, TimeUnit.MINUTES)
            .computeLoss(request);
    }

    /**
     * Sends the tensors of a request in chunks, once the server has let the call in, and puts
     * together those of the reply.
     */
    static ComputeLossResponse streamLoss(Channel channel, ComputeLossRequest request)
            throws InterruptedException {
        List<ByteString> following = new ArrayList<>();
        ComputeLossRequest header = split(request, following);
        try (var call = new Conversation<>(channel, LossServiceGrpc.getStreamLossMethod())) {
            call.send(StreamLossRequest.newBuilder().setCall(header).build());
            call.awaitHeaders();
            for (ByteString data : following) {
                for (int start = 0; start < data.size(); start += CHUNK_BYTES) {
                    int end = Math.min(start + CHUNK_BYTES, data.size());
                    ByteString chunk = data.substring(start, end); // a view
                    call.send(StreamLossRequest.newBuilder().setChunk(chunk).build());
                }
            }
            call.finish();
            List<ComputeLossResponse> results = new ArrayList<>();
            received(call, results);
            if (results.size() != 1) {
                throw new IllegalStateException("results must be one, got " + results.size());
            }
            return results.get(0);
        }
    }

    /** Returns a request whose tensors are announced, and adds their data in their order. */
    private static ComputeLossRequest split(ComputeLossRequest request, List<ByteString> following) {
        ComputeLossRequest.Builder header = request.toBuilder();
        for (Tensor.Builder one : tensorsOf(header)) {
            ByteString data = one.getData();
            one.setChunks(
                Chunks.newBuilder().setPosition(following.size()).setSizeBytes(data.size()));
            following.add(data);
        }
        return header.build();
    }

    /** Returns the tensors inside a message, in the order of the numbers of its fields. */
    private static List<Tensor.Builder> tensorsOf(Message.Builder message) {
        if (message instanceof Tensor.Builder) {
            return List.of((Tensor.Builder) message);
        }
        List<Tensor.Builder> found = new ArrayList<>();
        List<FieldDescriptor> fields = new ArrayList<>(message.getAllFields().keySet());
        fields.sort(Comparator.comparing(FieldDescriptor::getNumber));
        for (FieldDescriptor field : fields) {
            if (field.getJavaType() != FieldDescriptor.JavaType.MESSAGE || field.isMapField()) {
                continue;
            }
            if (!field.isRepeated()) {
                found.addAll(tensorsOf(message.getFieldBuilder(field)));
                continue;
            }
            for (int place = 0; place < message.getRepeatedFieldCount(field); place++) {
                found.addAll(tensorsOf(message.getRepeatedFieldBuilder(field, place)));
            }
        }
        return found;
    }

    /** Adds the results of a stream, whose tensors come in chunks, until it ends. */
    static void received(
            Conversation<StreamLossRequest, StreamLossResponse> call,
            List<ComputeLossResponse> results) throws InterruptedException {
        Optional<StreamLossResponse> part = call.next();
        while (part.isPresent()) {
            if (!part.get().hasResult()) {
                throw new IllegalStateException("part must be a result, got a chunk");
            }
            ComputeLossResponse.Builder result = part.get().getResult().toBuilder();
            for (Tensor.Builder one : tensorsOf(result)) {
                if (one.hasChunks()) {
                    one.setData(chunksOf(call, (int) one.getChunks().getSizeBytes()));
                }
            }
            results.add(result.build());
            part = call.next();
        }
    }

    /** Reads the chunks of one tensor. */
    private static ByteString chunksOf(
            Conversation<StreamLossRequest, StreamLossResponse> call, int size)
            throws InterruptedException {
        byte[] data = new byte[size];
        int filled = 0;
        while (filled < size) {
            ByteString chunk = call.next().map(StreamLossResponse::getChunk).orElse(ByteString.EMPTY);
            if (chunk.isEmpty() || chunk.size() > size - filled) {
                String said = "chunk must fit its tensor, got " + chunk.size() + " bytes";
                throw new IllegalStateException(said);
            }
            chunk.copyTo(data, filled);
            filled += chunk.size();
        }
        return UnsafeByteOperations.unsafeWrap(data);
    }

    /** The content of an error. */
    static final class Refusal {
        final String code;
        final String message;
        String domain = "";
        String reason = "";
        final Map<String, String> metadata = new HashMap<>();
        final List<String> fields = new ArrayList<>();
        double retryAfterSeconds;

        Refusal(Status status) {
            code = status.getCode().name();
            message = String.valueOf(status.getDescription());
        }
    }

    /** Returns what an error says; google.rpc.Status lies in the trailing metadata. */
    static Refusal refusalOf(StatusRuntimeException error) throws InvalidProtocolBufferException {
        Refusal found = new Refusal(error.getStatus());
        com.google.rpc.Status said = StatusProto.fromThrowable(error);
        for (Any detail : said == null ? List.<Any>of() : said.getDetailsList()) {
            if (detail.is(BadRequest.class)) {
                detail.unpack(BadRequest.class).getFieldViolationsList()
                    .forEach(violation -> found.fields.add(violation.getField()));
            } else if (detail.is(RetryInfo.class)) {
                var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                found.retryAfterSeconds = delay.getSeconds() + delay.getNanos() / 1e9;
            } else if (detail.getTypeUrl().endsWith("/google.rpc.ErrorInfo")) {
                readErrorInfo(UnknownFieldSet.parseFrom(detail.getValue()), found);
            }
        }
        return found;
    }

    /**
     * Reads reason, domain and metadata by their numbers.
     *
     * <p>Debian's common protos are older than ErrorInfo; with Maven's unpack it like the others.
     */
    private static void readErrorInfo(UnknownFieldSet info, Refusal into)
            throws InvalidProtocolBufferException {
        into.reason = text(info, 1);
        into.domain = text(info, 2);
        for (ByteString entry : info.getField(3).getLengthDelimitedList()) {
            UnknownFieldSet pair = UnknownFieldSet.parseFrom(entry);
            into.metadata.put(text(pair, 1), text(pair, 2));
        }
    }

    private static String text(UnknownFieldSet message, int number) {
        List<ByteString> found = message.getField(number).getLengthDelimitedList();
        return found.isEmpty() ? "" : found.get(0).toStringUtf8();
    }
}
