// One worker of the real Kinesis Client Library, as a peer for the test target `kcl`.
//
//   java -cp 'classes:lib/*' KclWorker ENDPOINT STREAM[,STREAM…] APPLICATION WORKER polling|fanout
//        all|half|count:WARM:ALL:LIVE [compatible|moving] [tidy] [two-leases] [slow] [table=NAME]
//
// Writes one line per event on standard output, tab separated:
//   started     SHARD
//   record      SHARD  SEQUENCE-NUMBER  SUB-SEQUENCE  PARTITION-KEY  DATA
//   checkpoint  SHARD  SEQUENCE-NUMBER  SUB-SEQUENCE
//   ended       SHARD
//   requested   SHARD
//   lost        SHARD
// where SHARD, with several streams, is IDENTIFIER:SHARD, the identifier as the KCL serialises it; and ends
// in order when standard input is closed. With `all` it checkpoints every batch as a whole; with `half` up to
// a record in its middle and inside of an aggregate, and nothing when it is asked to stop.
//
// With `count:WARM:ALL:LIVE`, for `versus.py`, it checkpoints every batch and only says `warm RECORDS` when
// it has seen WARM records, `done RECORDS` when it has seen ALL, and `live P50 P99`, in milliseconds, when it
// has seen LIVE of those that carry their number and when they were sent (`load live`).
//
// `compatible` works as a KCL 2 does until all workers can do better (CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X);
// `moving` is the second phase of the move into the lease table (migrateAllEntitiesToLeaseTable); `tidy` cleans
// up the leases of finished shards after seconds, which nothing but reflection can set; `two-leases` gives no
// worker more than two; `slow` lets it renew a lease once in twenty seconds (failoverTimeMillis 60,000); `table`
// gives the lease table another name than the application's.

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import software.amazon.awssdk.arns.Arn;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.model.StreamDescriptionSummary;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.common.LeaseCleanupConfig;
import software.amazon.kinesis.common.StreamConfig;
import software.amazon.kinesis.common.StreamIdentifier;
import software.amazon.kinesis.coordinator.CoordinatorConfig;
import software.amazon.kinesis.coordinator.HurriedScheduler;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.FormerStreamsLeasesDeletionStrategy;
import software.amazon.kinesis.processor.MultiStreamTracker;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.ShardRecordProcessorFactory;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.processor.StreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
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

    /** The defaults make a test wait: nothing here changes what is written, only how often. */
    static LeaseManagementConfig hurried(LeaseManagementConfig config, List<String> options) throws Exception {
        // What only some versions of the KCL have goes by its name: this builds with 2 and with 3.
        Object metrics = call(config, "workerUtilizationAwareAssignmentConfig");
        call(metrics, "workerMetricsReporterFreqInMillis", 5_000L);
        call(config, "leaseAssignmentIntervalMillis", 1_000L);
        call(config, "dynamoDbLockBasedLeaderLeaseDurationInMillis", 6_000L);
        call(config, "dynamoDbLockBasedLeaderHeartbeatPeriodInMillis", 1_000L);
        if (options.contains("two-leases")) {
            config.maxLeasesForWorker(2);
        }
        if (options.contains("tidy")) {
            Field cleanup = LeaseManagementConfig.class.getDeclaredField("leaseCleanupConfig");
            cleanup.setAccessible(true);
            cleanup.set(config, LeaseCleanupConfig.builder()
                    .leaseCleanupIntervalMillis(1_000)
                    .completedLeaseCleanupIntervalMillis(2_000)
                    .garbageLeaseCleanupIntervalMillis(600_000)
                    .build());
        }
        return config
                .failoverTimeMillis(options.contains("slow") ? 60_000 : 3_000)
                // A pause of a minute after the first listing of the shards otherwise.
                .shardSyncIntervalMillis(0);
    }

    /** Where the KCL is in its own migrations. */
    static CoordinatorConfig coordinator(CoordinatorConfig config, List<String> options) throws Exception {
        if (options.contains("moving")) {
            call(config, "migrateAllEntitiesToLeaseTable", true);
        }
        if (options.contains("compatible")) {
            Class<?> versions = Class.forName(CoordinatorConfig.class.getName() + "$ClientVersionConfig");
            for (Object version : versions.getEnumConstants()) {
                if (version.toString().equals("CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X")) {
                    call(config, "clientVersionConfig", version);
                }
            }
        }
        return config
                .parentShardPollIntervalMillis(500)
                .shardConsumerDispatchPollIntervalMillis(200);
    }

    /** Calls a method if this version of the KCL has it; what it returns, or null. */
    static Object call(Object on, String name, Object... arguments) throws Exception {
        if (on == null) {
            return null;
        }
        for (Method method : on.getClass().getMethods()) {
            if (method.getName().equals(name) && method.getParameterCount() == arguments.length) {
                return method.invoke(on, arguments);
            }
        }
        return null;
    }

    /** Several streams, identified as the KCL's documentation says: by ARN and second of creation. */
    static MultiStreamTracker tracker(
            KinesisAsyncClient kinesis, String[] streams, InitialPositionInStreamExtended oldest) {
        List<StreamConfig> configs = new ArrayList<>();
        for (String stream : streams) {
            StreamDescriptionSummary summary = kinesis.describeStreamSummary(describe -> describe.streamName(stream))
                    .join()
                    .streamDescriptionSummary();
            StreamIdentifier identifier = StreamIdentifier.multiStreamInstance(
                    Arn.fromString(summary.streamARN()),
                    summary.streamCreationTimestamp().getEpochSecond());
            configs.add(new StreamConfig(identifier, oldest));
        }
        return new MultiStreamTracker() {
            @Override
            public List<StreamConfig> streamConfigList() {
                return configs;
            }

            @Override
            public FormerStreamsLeasesDeletionStrategy formerStreamsLeasesDeletionStrategy() {
                return new FormerStreamsLeasesDeletionStrategy.NoLeaseDeletionStrategy();
            }
        };
    }

    public static void main(String[] args) throws Exception {
        String endpoint = args[0];
        String[] streams = args[1].split(",");
        boolean several = streams.length > 1;
        String application = args[2];
        String worker = args[3];
        boolean fanOut = args[4].equals("fanout");
        boolean half = args[5].equals("half");
        String[] count = args[5].split(":");
        List<String> options = List.of(args).subList(6, args.length);

        KinesisAsyncClient kinesis =
                client(KinesisClientUtil.adjustKinesisClientBuilder(KinesisAsyncClient.builder()), endpoint);
        DynamoDbAsyncClient dynamodb = client(DynamoDbAsyncClient.builder(), endpoint);
        CloudWatchAsyncClient cloudwatch = client(CloudWatchAsyncClient.builder(), endpoint);

        InitialPositionInStreamExtended oldest =
                InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        StreamTracker tracker = several
                ? tracker(kinesis, streams, oldest)
                : new SingleStreamTracker(streams[0], oldest);
        ShardRecordProcessorFactory factory = new ShardRecordProcessorFactory() {
            @Override
            public ShardRecordProcessor shardRecordProcessor() {
                return count.length == 4 ? new Counter(count) : new Processor(half, "");
            }

            @Override
            public ShardRecordProcessor shardRecordProcessor(StreamIdentifier stream) {
                return several ? new Processor(half, stream.serialize() + ":") : shardRecordProcessor();
            }
        };
        ConfigsBuilder configs =
                new ConfigsBuilder(tracker, application, kinesis, dynamodb, cloudwatch, worker, factory);
        for (String option : options) {
            if (option.startsWith("table=")) {
                configs.tableName(option.substring("table=".length()));
            }
        }
        FanOutConfig pushed = new FanOutConfig(kinesis).applicationName(application);
        PollingConfig polled = several ? new PollingConfig(kinesis) : new PollingConfig(streams[0], kinesis);
        RetrievalSpecificConfig retrieval = fanOut
                ? (several ? pushed : pushed.streamName(streams[0]))
                : polled.idleTimeBetweenReadsInMillis(200);
        Scheduler scheduler = new HurriedScheduler(
                configs.checkpointConfig(),
                coordinator(configs.coordinatorConfig(), options),
                hurried(configs.leaseManagementConfig(), options),
                configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(retrieval));
        Thread thread = new Thread(scheduler, "scheduler");
        thread.setDaemon(true);
        thread.start();

        while (System.in.read() != -1) {
            // Only the end of input means anything.
        }
        boolean inOrder = scheduler.startGracefulShutdown().get(60, TimeUnit.SECONDS);
        System.exit(inOrder ? 0 : 1);
    }

    /** Counts, and checkpoints every batch. */
    static final class Counter implements ShardRecordProcessor {
        private static final AtomicLong SEEN = new AtomicLong();
        /** Milliseconds that live records took. */
        private static final List<Long> TOOK = new ArrayList<>();
        private final long warm;
        private final long all;
        private final int live;

        Counter(String[] count) {
            warm = Long.parseLong(count[1]);
            all = Long.parseLong(count[2]);
            live = Integer.parseInt(count[3]);
        }

        private void live(KinesisClientRecord record) {
            ByteBuffer data = record.data();
            long number = data.remaining() < 16 ? 0 : data.getLong(data.position());
            if (number < 1 || number > live) {
                return;
            }
            long took = System.currentTimeMillis() - data.getLong(data.position() + 8);
            synchronized (TOOK) {
                TOOK.add(took);
                if (TOOK.size() == live) {
                    Collections.sort(TOOK);
                    say("live", TOOK.get(live / 2), TOOK.get(live * 99 / 100));
                }
            }
        }

        @Override
        public void initialize(InitializationInput input) {}

        @Override
        public void processRecords(ProcessRecordsInput input) {
            int count = input.records().size();
            long seen = SEEN.addAndGet(count);
            input.records().forEach(this::live);
            checkpoint(input.checkpointer());
            if (seen >= warm && seen - count < warm) {
                say("warm", seen);
            }
            if (seen >= all && seen - count < all) {
                say("done", seen);
            }
        }

        private static void checkpoint(RecordProcessorCheckpointer checkpointer) {
            try {
                checkpointer.checkpoint();
            } catch (Exception refused) {
                System.err.println("checkpoint: " + refused);
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {}

        @Override
        public void shardEnded(ShardEndedInput input) {
            checkpoint(input.checkpointer());
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            checkpoint(input.checkpointer());
        }
    }

    /** Writes what it is given, and checkpoints. */
    static final class Processor implements ShardRecordProcessor {
        private final boolean half;
        private final String stream;
        private String shard;

        Processor(boolean half, String stream) {
            this.half = half;
            this.stream = stream;
        }

        @Override
        public void initialize(InitializationInput input) {
            shard = stream + input.shardId();
            say("started", shard);
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            List<KinesisClientRecord> records = input.records();
            for (KinesisClientRecord record : records) {
                String data = StandardCharsets.UTF_8.decode(record.data()).toString();
                say("record", shard, record.sequenceNumber(), record.subSequenceNumber(),
                        record.partitionKey(), data);
            }
            KinesisClientRecord last = half ? middle(records) : records.get(records.size() - 1);
            try {
                RecordProcessorCheckpointer checkpointer = input.checkpointer();
                if (half) {
                    checkpointer.checkpoint(last.sequenceNumber(), last.subSequenceNumber());
                } else {
                    checkpointer.checkpoint();
                }
                say("checkpoint", shard, last.sequenceNumber(), last.subSequenceNumber());
            } catch (Exception refused) {
                System.err.println("checkpoint of " + shard + ": " + refused);
            }
        }

        /** The record in the middle, or the one before it if an aggregate ends there. */
        private static KinesisClientRecord middle(List<KinesisClientRecord> records) {
            int middle = (records.size() - 1) / 2;
            boolean ends = middle + 1 == records.size() || records.get(middle + 1).subSequenceNumber() == 0;
            return records.get(ends && middle > 0 ? middle - 1 : middle);
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
            say("requested", shard);
            if (half) {
                return;
            }
            try {
                input.checkpointer().checkpoint();
            } catch (Exception refused) {
                System.err.println("last checkpoint of " + shard + ": " + refused);
            }
        }
    }
}
