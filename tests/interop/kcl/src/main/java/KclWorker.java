// One worker of the real Kinesis Client Library, as a peer for interoperability tests.
//
//   java -cp 'target/classes:target/lib/*' KclWorker ENDPOINT STREAM APPLICATION WORKER polling|fanout
//
// Writes one line per event on standard output, tab separated:
//   started  SHARD  CHECKPOINT
//   record   SHARD  SEQUENCE-NUMBER  SUB-SEQUENCE  PARTITION-KEY  DATA
//   checkpoint SHARD
//   ended    SHARD
// and ends in order when standard input is closed.

import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

public final class KclWorker {
    private KclWorker() {}

    static synchronized void say(Object... fields) {
        StringBuilder line = new StringBuilder();
        for (Object field : fields) {
            line.append(line.length() == 0 ? "" : "\t").append(field);
        }
        System.out.println(line);
        System.out.flush();
    }

    static <B extends AwsClientBuilder<B, C>, C> C client(B builder, String endpoint) {
        return builder.region(Region.US_EAST_1)
                .endpointOverride(URI.create(endpoint))
                .credentialsProvider(
                        StaticCredentialsProvider.create(AwsBasicCredentials.create("local", "local")))
                .build();
    }

    public static void main(String[] args) throws Exception {
        String endpoint = args[0];
        String stream = args[1];
        String application = args[2];
        String worker = args[3];
        boolean fanOut = args[4].equals("fanout");

        KinesisAsyncClient kinesis =
                client(KinesisClientUtil.adjustKinesisClientBuilder(KinesisAsyncClient.builder()), endpoint);
        DynamoDbAsyncClient dynamodb = client(DynamoDbAsyncClient.builder(), endpoint);
        CloudWatchAsyncClient cloudwatch = client(CloudWatchAsyncClient.builder(), endpoint);

        InitialPositionInStreamExtended oldest =
                InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        ConfigsBuilder configs = new ConfigsBuilder(
                new SingleStreamTracker(stream, oldest), application, kinesis, dynamodb, cloudwatch, worker,
                Processor::new);
        Scheduler scheduler = new Scheduler(
                configs.checkpointConfig(),
                configs.coordinatorConfig().parentShardPollIntervalMillis(500),
                configs.leaseManagementConfig().failoverTimeMillis(3000),
                configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(),
                configs.retrievalConfig()
                        .retrievalSpecificConfig(
                                fanOut
                                        ? new FanOutConfig(kinesis).streamName(stream).applicationName(application)
                                        : new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(200)));
        Thread thread = new Thread(scheduler, "scheduler");
        thread.setDaemon(true);
        thread.start();

        while (System.in.read() != -1) {
            // Only the end of input means anything.
        }
        scheduler.startGracefulShutdown().get(60, TimeUnit.SECONDS);
        System.exit(0);
    }

    /** Writes what it gets and checkpoints after every batch. */
    static final class Processor implements ShardRecordProcessor {
        private String shard;

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
            say("started", shard, input.extendedSequenceNumber());
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            for (KinesisClientRecord record : input.records()) {
                String data = StandardCharsets.UTF_8.decode(record.data()).toString();
                say("record", shard, record.sequenceNumber(), record.subSequenceNumber(),
                        record.partitionKey(), data);
            }
            try {
                input.checkpointer().checkpoint();
                say("checkpoint", shard);
            } catch (Exception refused) {
                System.err.println("checkpoint of " + shard + ": " + refused);
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            say("lost", shard);
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            try {
                input.checkpointer().checkpoint();
                say("ended", shard);
            } catch (Exception refused) {
                throw new IllegalStateException(refused);
            }
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            try {
                input.checkpointer().checkpoint();
            } catch (Exception refused) {
                System.err.println("last checkpoint of " + shard + ": " + refused);
            }
        }
    }
}
