// The real Kinesis Producer Library, as a peer for the test target `kpl` and for `versus.py`.
//
//   java -cp 'classes:lib/*' KplProducer HOST PORT CA-FILE STREAM lines
//   java -cp 'classes:lib/*' KplProducer HOST PORT CA-FILE STREAM load RECORDS BYTES KEYS OUTSTANDING
//
// `lines` sends one record for each line of standard input, tab separated:
//   KEY  EXPLICIT-HASH-KEY-OR-NOTHING  DATA
// and at its end writes one line for each, in their order:
//   stored  SHARD  SEQUENCE-NUMBER
//   failed  WHY
//
// `load` sends RECORDS records of BYTES bytes over KEYS keys each time it reads a line, never more than
// OUTSTANDING without an answer, and writes `done RECORDS SECONDS P50 P99 P99.9` when all are stored: how
// long records took from hand-over, waiting for room included, to their outcome, in milliseconds.

import com.google.common.util.concurrent.FutureCallback;
import com.google.common.util.concurrent.Futures;
import com.google.common.util.concurrent.ListenableFuture;
import com.google.common.util.concurrent.MoreExecutors;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;

public final class KplProducer {
    private KplProducer() {}

    static KinesisProducer producer(String[] args) {
        Path ca = Path.of(args[2]).toAbsolutePath();
        KinesisProducerConfiguration config = new KinesisProducerConfiguration()
                .setRegion("us-east-1")
                .setKinesisEndpoint(args[0])
                .setKinesisPort(Long.parseLong(args[1]))
                .setCaCertPath(ca.getParent().toString())
                .setCaCertFile(ca.toString())
                .setCredentialsProvider(
                        StaticCredentialsProvider.create(AwsBasicCredentials.create("local", "local")))
                .setMetricsLevel("none")
                .setLogLevel("warning")
                // What its own guide recommends for throughput, and without a part known to be slow.
                .setThreadingModel(KinesisProducerConfiguration.ThreadingModel.POOLED)
                .setEnableOldestFutureTracker(false)
                // kinesis-local has no limits here.
                .setRateLimit(1_000_000)
                .setRecordTtl(600_000)
                // Lines are flushed at their end, however slowly they come; else the default.
                .setRecordMaxBufferedTime(args[4].equals("lines") ? 5_000 : 100)
                .setTempDirectory(System.getProperty("java.io.tmpdir"));
        return new KinesisProducer(config);
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        KinesisProducer producer = producer(args);
        if (args[4].equals("lines")) {
            lines(producer, args[3], in, out);
        } else {
            load(producer, args, in, out);
        }
        producer.destroy();
        System.exit(0);
    }

    static void lines(KinesisProducer producer, String stream, BufferedReader in, PrintStream out)
            throws Exception {
        List<ListenableFuture<UserRecordResult>> results = new ArrayList<>();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] fields = line.split("\t", -1);
            ByteBuffer data = ByteBuffer.wrap(fields[2].getBytes(StandardCharsets.UTF_8));
            String hashKey = fields[1].isEmpty() ? null : fields[1];
            results.add(producer.addUserRecord(stream, fields[0], hashKey, data));
            if (results.size() == 1) {
                // Before it knows the shards it aggregates nothing.
                producer.flushSync();
            }
        }
        producer.flushSync();
        StringBuilder said = new StringBuilder();
        for (ListenableFuture<UserRecordResult> result : results) {
            try {
                UserRecordResult stored = result.get();
                said.append("stored\t" + stored.getShardId() + "\t" + stored.getSequenceNumber() + "\n");
            } catch (Exception failed) {
                said.append("failed\t" + String.valueOf(failed.getCause()).replace('\n', ' ') + "\n");
            }
        }
        out.print(said);
        out.flush();
    }

    static void load(KinesisProducer producer, String[] args, BufferedReader in, PrintStream out)
            throws Exception {
        int records = Integer.parseInt(args[5]);
        byte[] payload = new byte[Integer.parseInt(args[6])];
        String[] keys = new String[Integer.parseInt(args[7])];
        for (int key = 0; key < keys.length; key++) {
            keys[key] = String.format("vehicle-%06d", key);
        }
        Semaphore room = new Semaphore(Integer.parseInt(args[8]));
        AtomicLong failures = new AtomicLong();
        int[] micros = new int[records];
        out.println("ready");
        while (in.readLine() != null) {
            long begin = System.nanoTime();
            for (int number = 0; number < records; number++) {
                int at = number;
                long handedOver = System.nanoTime();
                room.acquire();
                String key = keys[(int) ((number * 7919L) % keys.length)];
                ListenableFuture<UserRecordResult> result =
                        producer.addUserRecord(args[3], key, ByteBuffer.wrap(payload));
                FutureCallback<UserRecordResult> settled = new FutureCallback<>() {
                    @Override
                    public void onSuccess(UserRecordResult stored) {
                        micros[at] = (int) ((System.nanoTime() - handedOver) / 1000);
                        room.release();
                    }

                    @Override
                    public void onFailure(Throwable failed) {
                        failures.incrementAndGet();
                        room.release();
                    }
                };
                Futures.addCallback(result, settled, MoreExecutors.directExecutor());
            }
            producer.flush();
            room.acquire(Integer.parseInt(args[8]));
            room.release(Integer.parseInt(args[8]));
            if (failures.get() > 0) {
                throw new IllegalStateException(failures + " records failed");
            }
            double seconds = (System.nanoTime() - begin) / 1e9;
            Arrays.sort(micros);
            StringBuilder said = new StringBuilder("done\t" + records + "\t" + seconds);
            for (double quantile : new double[] {0.5, 0.99, 0.999}) {
                said.append("\t" + micros[(int) (quantile * (records - 1))] / 1e3);
            }
            out.println(said);
        }
    }
}
