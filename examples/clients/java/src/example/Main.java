package example;

import com.lossd.v1.ComputeLossRequest;
import com.lossd.v1.ComputeLossResponse;
import com.lossd.v1.CrossEntropy;
import com.lossd.v1.LossSpec;
import com.lossd.v1.NamedTensors;
import com.lossd.v1.Tensor;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * One small batch, one of 64 MiB in chunks, and one that is refused.
 *
 * <pre>java -jar build/lossd-client.jar localhost:50051</pre>
 *
 * <p>With a second argument, the folder of the conformance vectors, it runs those instead.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 1) {
            System.err.println("usage: lossd-client.jar ADDRESS [FOLDER OF VECTORS]");
            System.exit(2);
        }
        ManagedChannel channel = Client.connect(arguments[0]);
        int wrong = 0;
        try {
            if (arguments.length > 1) {
                wrong = new Conformance(channel, Path.of(arguments[1])).run();
            } else {
                small(channel);
                large(channel);
                refused(channel);
            }
        } finally {
            channel.shutdownNow();
        }
        System.exit(wrong > 0 ? 1 : 0);
    }

    private static ComputeLossRequest crossEntropy(float[] logits, int[] labels) {
        int rows = labels.length;
        Tensor predictions = Tensors.ofFloats(logits, rows, logits.length / rows);
        return ComputeLossRequest.newBuilder()
            .setLoss(LossSpec.newBuilder().setCrossEntropy(CrossEntropy.getDefaultInstance()))
            .addInputs(NamedTensors.newBuilder().setName("predictions").addTensors(predictions))
            .addInputs(NamedTensors.newBuilder().setName("targets")
                .addTensors(Tensors.ofIntegers(labels, rows)))
            .build();
    }

    private static void small(ManagedChannel channel) {
        float[] logits = {2, -1, 0.5f, 0, 3, -2.5f};
        var result = Client.computeLoss(channel, crossEntropy(logits, new int[] {0, 2}));
        double[] gradient = Tensors.numbers(result.getGradients(0).getTensors(0));
        System.out.println("small batch: loss " + result.getLoss());
        System.out.println("  per example " + Arrays.toString(Tensors.numbers(result.getPerExample())));
        System.out.println("  gradient    " + Arrays.toString(gradient));
    }

    private static void large(ManagedChannel channel) throws InterruptedException {
        int rows = 16384;
        int classes = 1024;
        float[] logits = new float[rows * classes];
        int[] labels = new int[rows];
        for (int row = 0; row < rows; row++) {
            labels[row] = row % classes;
            logits[row * classes + labels[row]] = 1;
        }
        ComputeLossResponse result = Client.streamLoss(channel, crossEntropy(logits, labels));
        Tensor gradient = result.getGradients(0).getTensors(0);
        double right = Math.log(Math.E + classes - 1) - 1;
        System.out.println("64 MiB in chunks: loss " + result.getLoss() + ", must be " + right);
        System.out.println(
            "  gradient of " + gradient.getShapeList() + ", " + gradient.getData().size() + " bytes");
    }

    private static void refused(ManagedChannel channel) throws Exception {
        try {
            Client.computeLoss(channel, crossEntropy(new float[6], new int[] {0, 7}));
        } catch (StatusRuntimeException error) {
            Client.Refusal said = Client.refusalOf(error);
            String fields = String.join(", ", said.fields);
            System.out.println("refused: " + said.code + " " + said.reason + " at " + fields);
            System.out.println("  " + said.message);
            System.out.println("  call " + said.metadata.get("request_id"));
            return;
        }
        throw new IllegalStateException("a label that is no class must be refused, got an answer");
    }
}
