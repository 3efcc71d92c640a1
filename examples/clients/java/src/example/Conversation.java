package example;

import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.Optional;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * A stream of messages each way, of which a thread can wait for the next step.
 *
 * <p>gRPC's own streams call back; this keeps what they say until somebody asks.
 */
final class Conversation<Q extends Message, R extends Message> implements AutoCloseable {
    private final ClientCall<Q, R> call;
    private final LinkedBlockingQueue<Optional<R>> received = new LinkedBlockingQueue<>();
    private boolean isLetIn;
    private Status status;
    private Metadata trailers;

    Conversation(Channel channel, MethodDescriptor<Q, R> method) {
        CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(2, TimeUnit.MINUTES);
        call = channel.newCall(method, options);
        call.start(new Listener(), new Metadata());
    }

    private final class Listener extends ClientCall.Listener<R> {
        @Override
        public void onHeaders(Metadata headers) {
            changed(() -> isLetIn = true);
        }

        @Override
        public void onMessage(R message) {
            received.add(Optional.of(message));
        }

        @Override
        public void onReady() {
            changed(() -> { });
        }

        @Override
        public void onClose(Status ended, Metadata last) {
            changed(() -> {
                status = ended;
                trailers = last;
            });
            received.add(Optional.empty());
        }
    }

    private synchronized void changed(Runnable change) {
        change.run();
        notifyAll();
    }

    /** Waits until the server has let the call in, or has ended it. */
    synchronized void awaitHeaders() throws InterruptedException {
        while (!isLetIn && status == null) {
            wait();
        }
    }

    /** Sends a message when there is room for it; returns whether the call goes on. */
    synchronized boolean send(Q message) throws InterruptedException {
        while (!call.isReady() && status == null) {
            wait();
        }
        if (status == null) {
            call.sendMessage(message);
        }
        return status == null;
    }

    /** Says that no more messages will be sent. */
    void finish() {
        call.halfClose();
    }

    /**
     * Returns the next message, or nothing at the end.
     *
     * @throws io.grpc.StatusRuntimeException if the call failed
     */
    Optional<R> next() throws InterruptedException {
        call.request(1);
        Optional<R> found = received.take();
        if (found.isEmpty() && !status.isOk()) {
            throw status.asRuntimeException(trailers);
        }
        return found;
    }

    @Override
    public void close() {
        call.cancel("the conversation is over", null);
    }
}
